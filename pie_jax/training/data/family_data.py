"""Antithetic pairs of the demo family: z, its mirror along one expression, and the true image of both.

`python -m pie_jax.training.family_data --count 20000 --resolution 64 --data DIR` renders pairs into a folder and can be
called again to add more; the generator's training reads what is there, also while it grows. A held-out set for the
response (one factor moved from end to end on the same scene) is rendered first, from its own seed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from pie_jax.cli.progress import Progress
from pie_jax.errors import UsageError
from pie_jax.io import replace_file, reserve_array, write_npz

if TYPE_CHECKING:
    from pie_jax.studio.head import Head
    from pie_jax.training.data.studio_data import StudioData

TRAIN_SEED = 1_000_000  # first seed of z for training; held-out seeds lie far below
RESPONSE_SEED = 77
CHUNK = 250  # pairs rendered at a time
RESPONSE_FACTORS = ("jaw_open", "smile", "blink", "brow_raise", "yaw", "pitch", "light_azimuth", "skin", "hair_colour",
                    "identity_0", "pucker", "frown")
RESPONSE_SCENES = 24


@dataclasses.dataclass(frozen=True)
class FamilyData:
    """A folder of pairs, memory-mapped: z [2N, 512], images [2N, R, R, 3] uint8, landmarks [2N, 66, 2] in 0..1.

    Rows 2i and 2i + 1 are one pair. `count` is read anew at each call: the folder may be growing.
    """

    folder: pathlib.Path
    z: np.ndarray
    images: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def open(cls, folder: pathlib.Path) -> FamilyData:
        def load(name):
            return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return cls(folder, load("z"), load("images"), load("landmarks"))

    @property
    def resolution(self) -> int:
        return self.images.shape[1]

    def count(self) -> int:
        """Pairs that are wholly written."""
        return json.loads((self.folder / "count.json").read_text())["pairs"]


def family_portraits(folder: pathlib.Path) -> StudioData:
    """The pairs of a folder as StudioData of two views a person, FaceParams included. UsageError: no pairs in there."""
    import jax

    from pie_jax.studio.family import scenes_from_z
    from pie_jax.studio.head import build_head
    from pie_jax.training.data.studio_data import StudioData

    if not (folder / "count.json").is_file():
        raise UsageError(f"{folder}: no rendered pairs; run python -m pie_jax.training.family_data --data {folder}")
    data = FamilyData.open(folder)
    rows, head = 2 * data.count(), build_head()
    params_of = jax.jit(lambda z: scenes_from_z(head, z).params.to_vector())
    params = [np.asarray(params_of(data.z[i:min(i + 1000, rows)])) for i in range(0, rows, 1000)]
    return StudioData(images=data.images[:rows], params=np.concatenate(params), landmarks=data.landmarks[:rows],
                      segments=None, views=2)


def shrink(images: np.ndarray, resolution: int) -> np.ndarray:
    """uint8 images [..., R, R, 3] averaged down to `resolution`, which divides R."""
    size = images.shape[-2]
    if size == resolution:
        return images
    k = size // resolution
    blocks = images.reshape(*images.shape[:-3], resolution, k, resolution, k, 3)
    return (blocks.mean(axis=(-4, -2), dtype=np.float32) + 0.5).astype(np.uint8)


def _render(head, z, resolution: int):
    """z [N, 512] -> images uint8 [N, R, R, 3], landmarks [N, 66, 2] in 0..1 of the portrait."""
    from pie_jax.studio.family import scenes_from_z
    from pie_jax.studio.render import render_scenes

    images, landmarks = [], []
    for start in range(0, len(z), 50):
        part = z[start:start + 50]
        padded = np.concatenate([part, np.repeat(part[:1], 50 - len(part), axis=0)]) if len(part) < 50 else part
        rendering = render_scenes(head, scenes_from_z(head, padded), resolution=resolution)
        images.append(np.asarray(np.clip(rendering.images, 0, 1) * 255 + 0.5).astype(np.uint8)[:len(part)])
        landmarks.append(np.asarray(rendering.landmarks / resolution, dtype=np.float32)[:len(part)])
    return np.concatenate(images), np.concatenate(landmarks)


def make_pairs(seed: int, count: int) -> np.ndarray:
    """z [2 count, 512]: rows 2i and 2i + 1 differ in the sign of one expression factor."""
    from pie_jax.studio.family import EXPRESSION_FACTORS, draw_z, factors_from_z, flip, normalise

    rng = np.random.default_rng(seed + 1)
    z = np.asarray(normalise(draw_z(seed, count)))
    main, rest = EXPRESSION_FACTORS[:4], EXPRESSION_FACTORS[4:]
    share = (0.2, 0.25, 0.35, 0.2)  # of jaw_open, smile, blink, brow_raise: a blink moves the fewest pixels
    which = np.where(rng.random(count) < 0.7, rng.choice(main, count, p=share), rng.choice(rest, count))
    partner = np.asarray(flip(z, which))
    # a sparse factor may be squashed to the same value on both sides
    same = np.all(np.asarray(factors_from_z(z)) == np.asarray(factors_from_z(partner)), axis=1)
    partner = np.where(same[:, None], np.asarray(flip(z, rng.choice(main, count))), partner)
    return np.stack([z, partner], axis=1).reshape(2 * count, -1)


def make_response(head: Head, resolution: int) -> dict[str, np.ndarray]:
    """Held-out scenes and, for every factor of RESPONSE_FACTORS, the same scenes with it at both ends."""
    from pie_jax.studio.family import FACTOR_INDEX, draw_z, normalise, with_coordinate

    z = np.asarray(normalise(draw_z(RESPONSE_SEED, RESPONSE_SCENES)))
    ends = np.stack([[np.asarray(with_coordinate(z, FACTOR_INDEX[name], u)) for u in (-1.0, 1.0)]
                     for name in RESPONSE_FACTORS])  # [F, 2, N, 512]
    images, landmarks = _render(head, z, resolution)
    moved, _ = _render(head, ends.reshape(-1, 512), resolution)
    return {"z": z, "images": images, "landmarks": landmarks, "moved_z": ends,
            "moved_images": moved.reshape(*ends.shape[:3], resolution, resolution, 3)}


def build(folder: pathlib.Path, *, count: int, resolution: int, seed: int = TRAIN_SEED) -> None:
    """Render pairs into `folder` until it holds `count`; goes on where an earlier call stopped."""
    from pie_jax.studio.head import build_head

    head = build_head()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "response.npz").is_file():
        response = make_response(head, resolution)
        write_npz(folder / "response.npz", response)
        print(f"{folder}: held-out response set written", file=sys.stderr, flush=True)
    shapes = {"z": ((2 * count, 512), np.float32), "images": ((2 * count, resolution, resolution, 3), np.uint8),
              "landmarks": ((2 * count, 66, 2), np.float32)}
    done = json.loads((folder / "count.json").read_text())["pairs"] if (folder / "count.json").is_file() else 0
    arrays = {}
    for name, (shape, dtype) in shapes.items():
        path = folder / f"{name}.npy"
        if done and np.load(path, mmap_mode="r").shape[0] != 2 * count:
            raise UsageError(f"{folder}: was begun with another --count; give a new --data")
        arrays[name] = np.load(path, mmap_mode="r+") if done else reserve_array(path, shape, dtype)
    progress = Progress()
    progress.start(folder.name, unit="pair")
    while done < count:
        n = min(CHUNK, count - done)
        z = make_pairs(seed + done, n)
        images, landmarks = _render(head, z, resolution)
        rows = slice(2 * done, 2 * (done + n))
        arrays["z"][rows], arrays["images"][rows], arrays["landmarks"][rows] = z, images, landmarks
        for array in arrays.values():
            array.flush()
        done += n
        count_json = json.dumps({"pairs": done, "seed": seed, "resolution": resolution})
        replace_file(folder / "count.json", count_json.encode())
        progress.update(done, count)
    progress.clear()
