"""A folder of aligned photos that a network learns from, and where the points of their faces are."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
from PIL import Image

from pie_jax.cli.progress import Progress
from pie_jax.errors import InputError, PieError
from pie_jax.io import is_picture, load_portrait
from pie_jax.pack import Pack
from pie_jax.photo.detect import find_faces
from pie_jax.training.data.photographs import SPLIT, held_out_paths, training_paths

# How far a drawn photo is turned, enlarged or made smaller, and moved: radians, log2, shares of its side.
_TURN, _SCALE, _SHIFT = 0.1, 0.12, 0.03
# The 66 points of a mirrored face: jaw, brows, bridge, nostrils, eyes, outer lips, inner lips.
MIRRORED = np.array([*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
                     39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), 62, 61, 60, 65, 64, 63])


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoFaces:
    """N photos and their points."""

    images: np.ndarray  # [N, R, R, 3] uint8
    points: np.ndarray | None  # [N, 66, 2] in 0..1 of the photo; None: the pack has no networks that find them

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, seed: int, step: int, size: int) -> dict[str, np.ndarray]:
        """`size` random photos, a function of seed and step: images [size, R, R, 3] and, where known, points.

        Photos with points are mirrored, turned, enlarged and moved at random.
        """
        rng = np.random.default_rng((seed, step, 1))
        index = rng.integers(0, len(self), size)
        if self.points is None:
            return {"images": self.images[index]}
        drawn = [_moved(rng, self.images[i], self.points[i]) for i in index]
        return {"images": np.stack([image for image, _ in drawn]), "points": np.stack([points for _, points in drawn])}


def read_photos(folder: str, *, resolution: int, limit: int, held_out: bool = False) -> np.ndarray:
    """Up to `limit` aligned photos of a folder as uint8 [N, R, R, 3]; unreadable ones are skipped. InputError: none.

    Of a folder of `training.photographs` those that are kept, and `held_out` or not.
    """
    photos = []
    paths = sorted(pathlib.Path(folder).rglob("*")) if pathlib.Path(folder).is_dir() else []
    if (pathlib.Path(folder) / SPLIT).is_file():
        paths = (held_out_paths if held_out else training_paths)(pathlib.Path(folder))
    for path in paths:
        if len(photos) >= limit or not is_picture(path):
            continue
        try:
            portrait = load_portrait(path, resolution=resolution, notice=lambda text: None)
            photos.append((portrait * 255 + 0.5).astype(np.uint8))
        except PieError:
            continue
    if not photos:
        raise InputError(f"{folder}: no readable photos; give a folder of aligned portraits")
    return np.stack(photos)


def holds_out(folder: str) -> bool:
    """Whether `training.photographs` made the folder and held some photos out."""
    return (pathlib.Path(folder) / SPLIT).is_file() and len(held_out_paths(pathlib.Path(folder))) > 0


def with_points(pack: Pack, images: np.ndarray) -> PhotoFaces:
    """Photos [N, R, R, 3] uint8 with the points of their largest faces; those without a face are left out.

    InputError: none of them shows a face.
    """
    if "face_detector" not in pack.weights or "face_mesh" not in pack.weights:
        return PhotoFaces(images=images, points=None)
    found = []
    with Progress() as progress:
        progress.start("faces", unit="photo")
        for image in images:
            found.append(find_faces(pack, Image.fromarray(image)))
            progress.update(len(found), len(images))
    seen = [i for i, faces in enumerate(found) if faces]
    if not seen:
        raise InputError("--photos: no face in any of them; give a folder of aligned portraits")
    points = np.stack([found[i][0].landmarks for i in seen]) / images.shape[2]
    return PhotoFaces(images=images[seen], points=points.astype(np.float32))


def _moved(rng: np.random.Generator, image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photo [R, R, 3] and its points [66, 2] in 0..1, both moved alike about the middle."""
    if rng.random() < 0.5:
        image, points = image[:, ::-1], points[MIRRORED] * (-1, 1) + (1, 0)
    angle, size = rng.uniform(-_TURN, _TURN), 2.0 ** rng.uniform(-_SCALE, _SCALE)
    shift = rng.uniform(-_SHIFT, _SHIFT, 2)
    turned = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (points - 0.5) @ turned.T + 0.5 + shift
    back = np.linalg.inv(turned)
    side = image.shape[0]
    offset = side * (0.5 - back @ (0.5 + shift))
    read = Image.fromarray(np.ascontiguousarray(image)).transform(
        (side, side), Image.Transform.AFFINE, (*back[0], offset[0], *back[1], offset[1]), Image.Resampling.BICUBIC)
    return np.asarray(read), moved.astype(np.float32)
