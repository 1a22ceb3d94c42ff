"""Studio portraits with their truth, rendered once and memory-mapped: what supervised trainings of the demo pack read.

`python -m pie_jax.training.studio_data --count 12000 --resolution 128 --data runs/studio` renders people, each in
`--views` portraits that share the face (identity, skin, eyes) and nothing else (pose, expression, light, hair, clothes,
background). Half of the people come from the wide studio, half from the narrow family of the demo generator. Called
again it goes on where it stopped; the trainings also read a set that is still growing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.cli.progress import Progress
from pie_jax.errors import PieError, UsageError
from pie_jax.io import replace_file, reserve_array

if TYPE_CHECKING:
    from pie_jax.arrays import Array
    from pie_jax.studio.head import Head
    from pie_jax.studio.scene import Scene

COUNT = "count.json"
SEGMENT_RESOLUTION = 32
HELD_OUT = 0.06  # of the people, the last ones are never trained on
IN_MEMORY = 2 << 30  # bytes; a smaller set is read whole
_PEOPLE = 16  # rendered at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudioData:
    """N portraits, numpy arrays; portraits of person p are the rows p * views ... (p + 1) * views - 1."""

    images: np.ndarray  # [N, R, R, 3] uint8
    params: np.ndarray  # [N, 257] float32, FaceParams in Deep3D order
    landmarks: np.ndarray  # [N, 66, 2] float32, 0..1 of the portrait
    segments: np.ndarray | None  # [N, 32, 32] uint8, index into studio.head.SEGMENTS; None: not rendered
    views: int

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def people(self) -> int:
        return len(self) // self.views

    @property
    def held_out_people(self) -> int:
        """How many of the last people are held out; an even number, half of either family."""
        return max(2, 2 * round(HELD_OUT * self.people / 2)) if self.people >= 4 else 0

    @property
    def training_rows(self) -> int:
        """Rows before this one are for training."""
        return (self.people - self.held_out_people) * self.views

    def rows(self, index: Array, *, fields: tuple[str, ...] = ("images", "params",
             "landmarks")) -> dict[str, np.ndarray]:
        """The given rows of `fields` as a dict of arrays; "person" gives the person's number [N] int32."""
        index = np.asarray(index)
        found = {name: np.asarray(getattr(self, name)[index]) for name in fields if name != "person"}
        return found | ({"person": (index // self.views).astype(np.int32)} if "person" in fields else {})

    def batch(self, seed: int, step: int, size: int, **knobs) -> dict[str, np.ndarray]:
        """`size` training rows, a function of seed and step."""
        index = np.random.default_rng((seed, step)).integers(0, self.training_rows, size)
        return self.rows(index, **knobs)

    def tail(self, size: int, **knobs) -> dict[str, np.ndarray]:
        """Up to `size` rows of held-out people, evenly spread over them."""
        held = np.arange(self.training_rows, len(self))
        return self.rows(held[np.linspace(0, len(held) - 1, min(size, len(held))).astype(int)], **knobs)


def wide_people(key: jax.Array, head: Head, people: int, views: int) -> Scene:
    """Scenes of `people` persons of the wide studio, `views` each; fields [people * views, ...]."""
    from pie_jax.studio.scene import align_translation, sample_scenes

    person_key, view_key = jax.random.split(key)
    persons = sample_scenes(person_key, people, head=head)
    scenes = sample_scenes(view_key, people * views, head=head)

    def of_person(x):
        return jnp.repeat(x, views, axis=0)

    identity = of_person(persons.params.identity)
    params = dataclasses.replace(scenes.params, identity=identity, texture=of_person(persons.params.texture),
                                 translation=align_translation(head, identity, scenes.params.rotation))
    return dataclasses.replace(scenes, params=params, eye_colour=of_person(persons.eye_colour))


def family_people(key: jax.Array, people: int, views: int) -> jax.Array:
    """z [people * views, 512] of the demo family: the same face factors for all views of a person."""
    from pie_jax.studio.family import FACTORS, directions, normalise

    person_key, view_key = jax.random.split(key)
    same = np.array([f.name.startswith(("identity_", "texture_")) or f.name in ("skin", "warmth", "beard", "eye_colour")
                     for f in FACTORS])
    rows = jnp.asarray(directions()[same])  # [F, 512] orthonormal
    person = jnp.repeat(normalise(jax.random.normal(person_key, (people, 512))), views, axis=0)
    view = normalise(jax.random.normal(view_key, (people * views, 512)))
    high = jax.lax.Precision.HIGHEST
    return view + jnp.matmul(jnp.matmul(person - view, rows.T, precision=high), rows, precision=high)


def _render(head, scenes, *, resolution: int) -> dict[str, np.ndarray]:
    """Scenes [N] -> numpy arrays [N, ...] as they are stored."""
    from pie_jax.studio.drawing import render_scenes

    seen = render_scenes(head, scenes, resolution=resolution)
    cell = resolution // SEGMENT_RESOLUTION
    return {"images": (np.clip(np.asarray(seen.images), 0.0, 1.0) * 255 + 0.5).astype(np.uint8),
            "params": np.asarray(scenes.params.to_vector()), "landmarks": np.asarray(seen.landmarks) / resolution,
            "segments": np.asarray(seen.segments)[:, cell // 2::cell, cell // 2::cell]}


def make_people(head: Head, *, seed: int, first: int, count: int, views: int, resolution: int) -> dict[str, np.ndarray]:
    """Portraits of people `first` ... `first + count - 1` (count even); even ones are wide, odd ones of the family."""
    from pie_jax.studio.family import scenes_from_z

    key = jax.random.fold_in(jax.random.key(seed), first)
    wide_key, family_key = jax.random.split(key)
    half = count // 2
    scenes = [wide_people(wide_key, head, half, views), scenes_from_z(head, family_people(family_key, half, views))]
    rendered = [_render(head, part, resolution=resolution) for part in scenes]

    def interleave(wide, family):
        both = np.stack([wide.reshape(half, views, *wide.shape[1:]), family.reshape(half, views, *family.shape[1:])], 1)
        return both.reshape(count * views, *wide.shape[1:])

    return jax.tree.map(interleave, *rendered)


def build(folder: pathlib.Path, *, count: int, views: int, resolution: int, seed: int, quiet: bool = False) -> None:
    """Render into `folder` until it holds `count` portraits; goes on where an earlier call stopped.

    UsageError: count is no multiple of 2 * views, or resolution none of 32. PieError: the folder holds another set.
    """
    from pie_jax.studio.head import build_head

    if count < 4 * views or count % (2 * views) or views < 1:
        raise UsageError(f"--count: expected a multiple of {2 * views} (twice --views) above it, got {count}")
    if resolution % SEGMENT_RESOLUTION:
        raise UsageError(f"--resolution: expected a multiple of {SEGMENT_RESOLUTION}, got {resolution}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made_from = {"count": count, "views": views, "resolution": resolution, "seed": seed}
    done = 0
    if (folder / COUNT).is_file():
        state = json.loads((folder / COUNT).read_text())
        done = state.pop("done")
        if state != made_from:
            raise PieError(f"{folder}: holds another set ({state}); pass another --data, or remove it")
    shapes = {"images": ((resolution, resolution, 3), np.uint8), "params": ((257,), np.float32),
              "landmarks": ((66, 2), np.float32), "segments": ((SEGMENT_RESOLUTION, SEGMENT_RESOLUTION), np.uint8)}
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") if done else
              reserve_array(folder / f"{name}.npy", (count, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    head, people = build_head(), count // views
    progress = Progress(quiet=quiet)
    progress.start("studio", unit="image")
    while done < count:
        person = done // views
        made = make_people(head, seed=seed, first=person, count=min(_PEOPLE, people - person), views=views,
                           resolution=resolution)
        size = len(made["params"])
        for name, array in arrays.items():
            array[done:done + size] = made[name]
            array.flush()
        done += size
        text = json.dumps(made_from | {"done": done}).encode()
        replace_file(folder / COUNT, text)
        progress.update(done, count)
    progress.clear()


def open_data(folder: pathlib.Path) -> StudioData:
    """What is in `folder` so far. UsageError when there is nothing."""
    folder = pathlib.Path(folder)
    if not (folder / COUNT).is_file():
        raise UsageError(f"{folder}: no studio portraits; run python -m pie_jax.training.studio_data --data {folder}")
    state = json.loads((folder / COUNT).read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)[:state["done"]]
              for name in ("images", "params", "landmarks", "segments")}
    if sum(array.nbytes for array in arrays.values()) < IN_MEMORY:  # batches are random rows: slow from a cold disk
        arrays = {name: np.array(array) for name, array in arrays.items()}
    return StudioData(views=state["views"], **arrays)


def add_data_arguments(parser: argparse.ArgumentParser, *, studio: str | None = None) -> None:
    """--data DIR, and --studio with `studio` as its help: what every supervised training has."""
    if studio is not None:
        parser.add_argument("--studio", action="store_true", help=studio)
    parser.add_argument("--data", default="runs/studio", metavar="DIR",
                        help="folder made by pie_jax.training.data.studio_data (default: %(default)s)")
