"""Open mouths of photographs: frames around them and masks of their insides, found once and kept.

Every mouth is read several times, each with another small turn, shift and scale, so that the network does not learn to
rely on lips that lie just so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from pie_jax.cli.progress import Progress
from pie_jax.config import MouthConfig
from pie_jax.errors import InputError, PieError
from pie_jax.io import is_picture, load_photo, read_npz, write_npz
from pie_jax.pack import Pack
from pie_jax.photo.detect import find_faces
from pie_jax.photo.mouth import CORNERS, INNER_LIPS, frame_square, opening, rows_of
from pie_jax.photo.squares import SquareReader

VIEWS = 6  # of each mouth; the first is as it will be read
HELD_OUT = 0.1  # of the mouths, by their files' names
OPENING = 0.06  # widths of the mouth: lips that are closer show nothing between them
SMALLEST = 24.0  # px between the corners
_FINER = 4  # a mask is drawn this much finer
_GROWTH = (0.95, 1.25)  # factor of the mask about its middle


@dataclasses.dataclass(frozen=True, kw_only=True)
class MouthData:
    """N mouths in VIEWS frames each."""

    frames: np.ndarray  # [N, VIEWS, H, W, 3] uint8
    masks: np.ndarray  # [N, VIEWS, H, W] uint8, 255: inside
    held_out: np.ndarray  # [N] bool

    def batch(self, seed: int, step: int, size: int) -> dict[str, np.ndarray]:
        """`size` frames of mouths that are not held out, a function of seed and step."""
        rng = np.random.default_rng((seed, step))
        rows, views = rng.choice(np.flatnonzero(~self.held_out), size), rng.integers(0, VIEWS, size)
        return {"frames": self.frames[rows, views], "masks": self.masks[rows, views]}


def open_mouths(pack: Pack, folders: list[pathlib.Path], cache: pathlib.Path, config: MouthConfig, *,
                seed: int = 0) -> MouthData:
    """The open mouths of the photos in `folders`, kept in the file `cache`; it is read again if it is there.

    Raises:
      InputError: a folder holds no pictures. PieError: fewer than ten mouths are open.
    """
    if cache.is_file():
        return MouthData(**read_npz(cache))
    paths = []
    for folder in folders:
        found = sorted(path for path in folder.iterdir() if is_picture(path)) if folder.is_dir() else []
        if not found:
            raise InputError(f"{folder}: holds no JPEG, PNG or WebP images; give a folder of portraits with --photos")
        paths += found
    frames, masks, held_out = [], [], []
    progress = Progress()
    progress.start("mouths", unit="photo")
    for i, path in enumerate(paths):
        try:
            mouths = list(_mouths_of(pack, path, config, np.random.default_rng((seed, i))))
        except InputError as error:
            progress.note(f"{error}; left out")
            continue
        for mouth_frames, mouth_masks in mouths:
            frames.append(mouth_frames)
            masks.append(mouth_masks)
            held_out.append(_share(path.name) < HELD_OUT)
        progress.update(i + 1, len(paths))
    progress.clear()
    if len(frames) < 10:
        raise PieError(f"--photos: only {len(frames)} open mouths in {len(paths)} pictures; give more portraits")
    data = MouthData(frames=np.stack(frames), masks=np.stack(masks), held_out=np.array(held_out))
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_npz(cache, dataclasses.asdict(data))
    return data


def _share(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32


def _mouths_of(pack: Pack, path: pathlib.Path, config: MouthConfig, rng: np.random.Generator):
    photo = load_photo(path, notice=lambda text: None)
    reader = SquareReader(photo)
    for face in find_faces(pack, photo)[:1]:
        left, right = (face.points[corner, :2] for corner in CORNERS)
        lips = face.points[list(INNER_LIPS), :2]
        upright = frame_square(left, right, config)
        if opening(face.points) < OPENING or np.hypot(*(right - left)) < SMALLEST:
            continue
        frames, masks = [], []
        for view in range(VIEWS):
            square, growth = upright, 1.0
            if view > 0:
                shift = rng.normal(0.0, 0.02, 2) * upright.side
                square = dataclasses.replace(upright, x=upright.x + shift[0], y=upright.y + shift[1],
                                             side=upright.side * np.exp(rng.normal(0.0, 0.05)),
                                             angle=upright.angle + rng.normal(0.0, 0.06))
                growth = rng.uniform(*_GROWTH)
            middle = lips.mean(axis=0)
            points = square.from_photo(middle + growth * (lips - middle)) * config.width
            frames.append(reader.read(square, config.width)[rows_of(config)])
            masks.append(polygon_mask(points, config.width)[rows_of(config)])
        yield (np.round(np.stack(frames) * 255).astype(np.uint8), np.round(np.stack(masks) * 255).astype(np.uint8))


def polygon_mask(points: np.ndarray, side: int) -> np.ndarray:
    """[side, side] 0..1: how much of each pixel lies inside a polygon [N, 2] in px."""
    drawn = Image.new("L", (side * _FINER, side * _FINER))
    ImageDraw.Draw(drawn).polygon([tuple(point) for point in points * _FINER - 0.5], fill=255)
    return np.asarray(drawn.reduce(_FINER), np.float32) / 255.0
