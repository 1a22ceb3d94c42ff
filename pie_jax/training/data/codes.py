"""A pool of generator codes with what the frozen networks see in their images: what DFR and the rigs are trained on.

`python -m pie_jax.training.codes --pack DIR --count N` makes it ahead of time; the two trainings make it when it is not
there. StyleRig (arXiv 2004.00121, section 6) uses 200 000 codes. Half of ours mix two styles at a random layer, so that
the networks also know W+ away from W.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, Weights
from pie_jax.cli.progress import Progress
from pie_jax.errors import PieError
from pie_jax.imaging import face_crop
from pie_jax.io import replace_file, reserve_array
from pie_jax.pack import Pack, PackConfigs
from pie_jax.pack.inference import find_landmarks, map_z, regress, synthesise

HELD_OUT = 256  # the last codes of a pool are never trained on
_BLOCK = 128
PARTS = ("generator", "regressor", "landmarks")  # what a pool is made from


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes:
    """Memory-mapped arrays of N codes (numpy)."""

    w_a: np.ndarray  # [N, D] the code of the first layers
    w_b: np.ndarray  # [N, D] the code of the layers from `cross` on
    cross: np.ndarray  # [N] int32, L where the code is not mixed
    params_vector: np.ndarray  # [N, 257] FaceParams the regressor reads in the image, Deep3D order
    landmarks: np.ndarray  # [N, 66, 2] 0..1 of the face crop
    images: np.ndarray  # [N, R, R, 3] uint8 face crops

    def __len__(self) -> int:
        return self.w_a.shape[0]

    @property
    def held_out(self) -> int:
        """How many of the last codes are held out."""
        return min(HELD_OUT, len(self) // 4)

    def rows(self, index: Array) -> dict[str, np.ndarray]:
        """The given rows as a dict of arrays."""
        index = np.asarray(index)
        return {field.name: np.asarray(getattr(self, field.name)[index]) for field in dataclasses.fields(self)}

    def batch(self, seed: int, step: int, size: int) -> dict[str, np.ndarray]:
        """`size` training rows, a function of seed and step."""
        rng = np.random.default_rng((seed, step))
        return self.rows(rng.integers(0, len(self) - self.held_out, size))

    def tail(self, *, size: int | None = None) -> dict[str, np.ndarray]:
        """Held-out rows."""
        count = self.held_out if size is None else min(size, self.held_out)
        return self.rows(np.arange(len(self) - self.held_out, len(self) - self.held_out + count))


def w_plus_of(rows: dict[str, Array], *, num_layers: int) -> jax.Array:
    """w_plus [B, L, D] of rows: `w_a` below layer `cross`, `w_b` from it on."""
    layer = jnp.arange(num_layers, dtype=jnp.int32)[None, :, None]
    return jnp.where(layer < rows["cross"][:, None, None], rows["w_a"][:, None, :], rows["w_b"][:, None, :])


def paint(configs: PackConfigs, weights: Weights, w_plus: Array, *, resolution: int | None = None) -> jax.Array:
    """w_plus [B, L, D] -> portraits [B, R, R, 3] in 0..1 by weights["generator"]."""
    return jnp.clip(synthesise(configs.generator, weights["generator"], w_plus, resolution=resolution), 0.0, 1.0)


def synthesis_resolution(configs: PackConfigs) -> int:
    """The lowest resolution of the generator whose face crop still feeds the regressor all pixels it reads."""
    wanted = configs.regressor.resolution / configs.camera.crop_size
    return next((r for r in configs.generator.block_resolutions if r >= wanted), configs.generator.resolution)


@functools.partial(jax.jit, static_argnames=("configs", "count", "image_resolution"))
def _make_block(key, weights, *, configs, count, image_resolution):
    generator = configs.generator
    z_key, mix_key, cross_key = jax.random.split(key, 3)
    z = jax.random.normal(z_key, (2 * count, generator.z_dim))
    w = map_z(generator, weights["generator"], z)
    cross = jax.random.randint(cross_key, (count,), 1, generator.num_layers)
    cross = jnp.where(jax.random.bernoulli(mix_key, 0.5, (count,)), cross, generator.num_layers)
    rows = {"w_a": w[:count], "w_b": w[count:], "cross": cross.astype(jnp.int32)}

    def look(one):
        part = jax.tree.map(lambda x: x[None], one)
        portraits = paint(configs, weights, w_plus_of(part, num_layers=generator.num_layers))
        crops = face_crop(portraits, configs.camera, resolution=image_resolution)
        return {"params_vector": regress(configs, weights, portraits)[0],
                "landmarks": find_landmarks(configs, weights, portraits)[0],
                "images": jnp.clip(crops[0] * 255 + 0.5, 0, 255).astype(jnp.uint8)}

    return rows | jax.lax.map(look, rows, batch_size=8)


def open_codes(folder: pathlib.Path, pack: Pack, *, count: int, seed: int, quiet: bool = False) -> Codes:
    """The pool in `folder`, made (or completed, where an earlier call stopped) to `count` codes.

    The pack needs generator, regressor and landmarks. PieError when the folder holds the pool of other networks.
    """
    pack.require(*PARTS)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = pack.manifest.get("parts", {})
    made_from = {"count": count, "seed": seed, "resolution": pack.configs.energy.render_resolution,
                 "parts": {name: parts.get(name, {}).get("sha256", "") for name in PARTS}}
    state_path, done = folder / "codes.json", 0
    if state_path.is_file():
        state = json.loads(state_path.read_text())
        done = state.pop("done")
        if state != json.loads(json.dumps(made_from)):
            raise PieError(f"{folder}: holds codes of another pack, count or seed; pass another --codes, or remove it")
    config, resolution = pack.configs.generator, made_from["resolution"]
    shapes = {"w_a": ((config.w_dim,), np.float32), "w_b": ((config.w_dim,), np.float32), "cross": ((), np.int32),
              "params_vector": ((257,), np.float32), "landmarks": ((66, 2), np.float32),
              "images": ((resolution, resolution, 3), np.uint8)}
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") if done else
              reserve_array(folder / f"{name}.npy", (count, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    weights = {name: pack.weights[name] for name in PARTS}
    static = dataclasses.replace(PackConfigs(), generator=config, regressor=pack.configs.regressor,
                                 landmarks=pack.configs.landmarks, camera=pack.configs.camera)
    progress = Progress(quiet=quiet)
    progress.start("codes", unit="image")
    while done < count:
        size = min(_BLOCK, count)
        block = _make_block(jax.random.fold_in(jax.random.key(seed), done), weights, configs=static, count=size,
                            image_resolution=resolution)
        keep = min(size, count - done)
        for name, array in arrays.items():
            array[done:done + keep] = np.asarray(block[name])[:keep]
            array.flush()
        done += keep
        text = json.dumps(made_from | {"done": done}).encode()
        replace_file(state_path, text)
        progress.update(done, count)
    progress.clear()
    return Codes(**{name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in shapes})


def add_code_arguments(parser: argparse.ArgumentParser) -> None:
    """--codes DIR and --count N, as every training on codes has them."""
    parser.add_argument("--codes", default="runs/codes", metavar="DIR",
                        help="the pool of codes, made when it is not there")
    parser.add_argument("--count", type=int, default=20_000, help="codes in the pool (default: %(default)s)")
