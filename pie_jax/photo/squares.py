"""Squares of a photo at any place, size and angle, and what lies in them."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageFilter

_BLUR, _FADE = 0.02, 0.15  # of the side: how far outside the photo its reflection is blurred, gone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square:
    """A square of a photo, in its pixels from the top left corner. `angle` (radians): of its upper side, clockwise."""

    x: float  # of its middle
    y: float
    side: float
    angle: float = 0.0

    def to_photo(self, points_01: np.ndarray) -> np.ndarray:
        """Points [..., 2] in 0..1 of the square -> px of the photo."""
        return (np.asarray(points_01) - 0.5) @ (self.side * _turn(self.angle)).T + (self.x, self.y)

    def from_photo(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] in px of the photo -> 0..1 of the square."""
        return (np.asarray(points) - (self.x, self.y)) @ _turn(self.angle) / self.side + 0.5

    def grown(self, scale: float) -> Square:
        """The square `scale` times as large about the same middle."""
        return dataclasses.replace(self, side=self.side * scale)

    def corners(self) -> np.ndarray:
        """[4, 2] px: top left, top right, bottom right, bottom left."""
        return self.to_photo(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float))


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


class SquareReader:
    """Reads squares of one photo, each from a copy of it that is already about as small."""

    def __init__(self, photo: Image.Image):
        self.copies = {1: photo if photo.mode == "RGB" else photo.convert("RGB")}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo."""
        return self.copies[1].size

    def read(self, square: Square, resolution: int, *, mirror: bool = False) -> np.ndarray:
        """[resolution, resolution, 3] in 0..1; outside the photo black, or with `mirror` its fading reflection.

        As in FFHQ: the reflection is blurred, and farther out it goes over to the median colour of the photo.
        """
        factor = 1
        while factor * 2 * resolution <= square.side:
            factor *= 2
        if factor not in self.copies:
            self.copies[factor] = self.copies[1].reduce(factor)
        copy, offset = self.copies[factor], np.zeros(2)
        if mirror:
            copy, offset = _with_reflection(copy, square.corners() / factor, side=square.side / factor)
        ends = square.corners()[[0, 1, 3]] / factor - offset
        corner, across, down = ends[0], (ends[1] - ends[0]) / resolution, (ends[2] - ends[0]) / resolution
        values = np.stack([across, down, corner], axis=1)
        out = copy.transform((resolution, resolution), Image.Transform.AFFINE, values.ravel().tolist(),
                             Image.Resampling.BICUBIC)
        return np.asarray(out, np.float32) / 255.0


def _with_reflection(image: Image.Image, corners: np.ndarray, *, side: float) -> tuple[Image.Image, np.ndarray]:
    """What of the image and its fading reflection holds `corners`, and its top left corner in the image's px."""
    low, high = np.floor(corners.min(axis=0)) - 2, np.ceil(corners.max(axis=0)) + 2
    if (low >= 0).all() and (high <= image.size).all():
        return image, np.zeros(2)
    margin = np.ceil(4 * _BLUR * side)  # px; a blurred pixel depends on none that is farther away
    low = np.maximum(low - margin, np.minimum(low, 0)).astype(int)
    high = np.minimum(high + margin, np.maximum(high, image.size)).astype(int)
    indices = [np.arange(low[k], high[k]) for k in (0, 1)]
    grown = np.asarray(image)[np.ix_(*(reflected(indices[k], image.size[k]) for k in (1, 0)))]
    blurred = np.asarray(Image.fromarray(grown).filter(ImageFilter.GaussianBlur(_BLUR * side)))
    median = np.median(np.asarray(image.resize((64, 64))).reshape(-1, 3), axis=0)
    x, y = (np.maximum(np.maximum(-index, index + 1 - size), 0)  # px outside the image
            for index, size in zip(indices, image.size, strict=True))
    for outside in (np.ix_(y > 0, x >= 0), np.ix_(y == 0, x > 0)):
        distance = np.hypot(x[outside[1]], y[outside[0]]) / side
        share, fade = (np.clip(distance / reach, 0.0, 1.0)[..., None] for reach in (_BLUR, _FADE))
        pixels = grown[outside].astype(np.float32)
        pixels = pixels + (blurred[outside] - pixels) * share
        pixels = pixels + (median - pixels) * fade
        grown[outside] = np.round(pixels).astype(np.uint8)
    return Image.fromarray(grown), low.astype(float)


def reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Pixel numbers outside 0 .. size - 1 reflected into it, again and again where they are far."""
    period = np.mod(index, 2 * size)
    return np.where(period < size, period, 2 * size - 1 - period)
