"""A photograph made ready for edits: its portrait as the pack frames it, its face parameters, the person's matte."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import jax
import numpy as np
from PIL import Image

from pie_jax.arrays import Array, Weights
from pie_jax.config import GraphConfig
from pie_jax.errors import NoFaceError, UsageError
from pie_jax.face3d.morphable import PARAMETERS, FaceParams
from pie_jax.io import load_photo, shown
from pie_jax.nn.graph import Graph
from pie_jax.nn.layers import apply
from pie_jax.pack import Pack
from pie_jax.photo.align import framing, is_framed, whole
from pie_jax.photo.detect import Face, find_faces
from pie_jax.photo.fit import fit_photos
from pie_jax.photo.squares import Square, SquareReader
from pie_jax.programs import kept

PARTS = ("face_detector", "face_mesh", "person_matte", "morphable")
LARGEST = 1024  # px a side that a portrait is kept with
_SMALLEST = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedPhoto:
    """What edits of a photo's own pixels start from. Arrays are on the host."""

    portrait: np.ndarray  # [R, R, 3] uint8, framed as the pack's portraits are
    params: FaceParams  # fields [n] of the pack's morphable model
    landmarks: np.ndarray  # [66, 2] in 0..1 of the portrait
    matte: np.ndarray  # [M, M] uint8, 255: the person
    square: Square  # where the portrait lies in the photo
    size: tuple[int, int]  # of the photo: width, height
    residual_px: float  # mean distance of the fitted points, px of a 224 px face crop
    landmarks_by: str = "face_mesh"  # which part found them, or "user"

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays, the inverse of `from_arrays`."""
        square = np.array(dataclasses.astuple(self.square), np.float64)
        return {"portrait": self.portrait, "params": np.asarray(self.params.to_vector(), np.float32),
                "landmarks": np.asarray(self.landmarks, np.float32), "matte": self.matte, "square": square,
                "size": np.array(self.size, np.int64), "residual_px": np.array(self.residual_px, np.float32),
                "landmarks_by": np.array(self.landmarks_by)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> FittedPhoto:
        """ValueError: arrays of other shapes or types, or values that are not finite."""
        portrait, matte, params = arrays["portrait"], arrays["matte"], arrays["params"]
        if portrait.dtype != np.uint8 or portrait.ndim != 3 or portrait.shape != (portrait.shape[0],) * 2 + (3,):
            raise ValueError(f"portrait: expected uint8 [R, R, 3], got {portrait.dtype} {list(portrait.shape)}")
        if matte.dtype != np.uint8 or matte.ndim != 2 or not np.isfinite(params).all():
            raise ValueError("matte, params: expected uint8 [M, M] and finite values")
        x, y, side, angle = (float(v) for v in arrays["square"])
        width, height = (int(v) for v in arrays["size"])
        return cls(portrait=portrait, params=FaceParams.from_vector(params), landmarks=arrays["landmarks"], matte=matte,
                   square=Square(x=x, y=y, side=side, angle=angle), size=(width, height),
                   residual_px=float(arrays["residual_px"]),
                   landmarks_by=str(arrays.get("landmarks_by", cls.landmarks_by)))


def nearest_in_photo(fitted: FittedPhoto, resolution: int) -> np.ndarray:
    """[2, resolution, resolution]: for each pixel of the portrait the place in the photo that is nearest to it.

    x and y in px of a map of `resolution` px; a pixel's own place where it lies in the photo, not beyond its border.
    """
    nearest = fitted.square.from_photo(np.clip(_places(fitted, resolution), 0.5, np.array(fitted.size) - 0.5))
    return np.moveaxis(nearest * resolution, -1, 0).astype(np.float32)


def border_distance(fitted: FittedPhoto, resolution: int) -> np.ndarray:
    """[resolution, resolution]: how far each pixel of the portrait lies from the photo's border, in px of a map.

    A map has `resolution` px. 0 beyond the border.
    """
    places = _places(fitted, resolution)
    away = np.minimum(places, np.array(fitted.size) - places).min(axis=-1)
    return (np.maximum(away, 0.0) * resolution / fitted.square.side).astype(np.float32)


def _places(fitted: FittedPhoto, resolution: int) -> np.ndarray:
    """[resolution, resolution, 2]: the middle of each pixel of the portrait, px of the photo."""
    middles = (np.arange(resolution) + 0.5) / resolution
    return fitted.square.to_photo(np.stack(np.meshgrid(middles, middles), axis=-1))


def can_fit(pack: Pack) -> bool:
    """Whether the pack has all networks that find, frame and fit a face."""
    return all(part in pack.weights for part in PARTS[:3]) and pack.morphable is not None


def frame_photo(pack: Pack, photo: Image.Image, *, align: bool = True, face: int | None = None, where: str = "photo",
                landmarks: np.ndarray | None = None,
                tell: Callable[[str], None] = lambda line: None) -> tuple[Square, np.ndarray]:
    """The square that an RGB photo is embedded by, and the 66 points [66, 2] of its face, px of the photo.

    Args:
      align: False takes the middle square as it is.
      face: which one, from 1, the largest first; default the largest.
      landmarks: the face's 66 points [66, 2], px of the photo, where they are known: none is looked for.
      where: the photo's name, for messages. tell: called with what the user should know.

    Raises:
      NoFaceError: nothing in it is a face. UsageError: there are not so many.
    """
    if landmarks is None:
        landmarks = _chosen(find_faces(pack, photo), face, where=where, tell=tell).landmarks
    square = framing(landmarks)
    if not align or is_framed(square, photo.size):
        square = whole(photo.size)
    return square, landmarks


def _chosen(faces: list[Face], face: int | None, *, where: str, tell: Callable[[str], None]) -> Face:
    if not faces:
        raise NoFaceError(f"{where}: no face found; give a photo with a face at least 40 px from eyes to chin, turned "
                          "less than a profile")
    if face is not None and not 1 <= face <= len(faces):
        raise UsageError(f"--face {face}: {where} shows {len(faces)} face{'s' * (len(faces) > 1)}")
    if face is None and len(faces) > 1:
        tell(f"{where}: {len(faces)} faces, took the largest (--face N takes another)")
    return faces[(face or 1) - 1]


def open_photo(pack: Pack, path: str | os.PathLike, *, align: bool = True, face: int | None = None) -> FittedPhoto:
    """Read a photo, find its face, frame and fit it; arguments and errors as in `frame_photo` and `load_photo`."""
    image = load_photo(path)
    square, found = frame_photo(pack, image, align=align, face=face, where=shown(path))
    return fit_photo(pack, image, square, found)


def fit_photo(pack: Pack, photo: Image.Image, square: Square, landmarks: np.ndarray, *, by: str = "face_mesh",
              own: np.ndarray | None = None) -> FittedPhoto:
    """Fit the face of an RGB photo, its points [66, 2] in px of the photo, in its square.

    by: which part found the points. own: other points [66, 2], in 0..1 of the square, by the pack's own network; those
    whose fit shows the face's pixels better are taken.

    PackError: the pack has no morphable model or no matte.
    """
    pack.require("morphable", "person_matte")
    portrait = SquareReader(photo).read(square, portrait_size(square), mirror=True)
    found = {by: square.from_photo(landmarks).astype(np.float32)}
    if own is not None:
        found["landmarks"] = np.asarray(own, np.float32)
    fit = fit_photos(pack, np.repeat(portrait[None], len(found), axis=0), np.stack(list(found.values())))
    best = 0 if fit.difference is None else int(np.argmin(fit.difference))
    by, points = list(found.items())[best]
    config = pack.configs.of("person_matte")
    matte = _matte(pack.weights["person_matte"], portrait, config=config)
    return FittedPhoto(portrait=_to_bytes(portrait), params=jax.tree.map(lambda a: a[best], fit.params),
                       landmarks=points, matte=_to_bytes(np.asarray(matte)), square=square, size=photo.size,
                       residual_px=float(fit.residual_px[best]), landmarks_by=by)


def portrait_size(square: Square) -> int:
    """px a side that the portrait of a photo in this square is kept with."""
    return int(2 ** np.clip(np.ceil(np.log2(square.side)), np.log2(_SMALLEST), np.log2(LARGEST)))


def stand_in(pack: Pack, size: int) -> FittedPhoto:
    """A black photo of nobody, its portrait of `size` px a side: its edits take the programs of any such photo's.

    PackError: as `fit_photo`.
    """
    pack.require("morphable", "person_matte")
    matte = (pack.configs.of("person_matte").resolution,) * 2
    return FittedPhoto(portrait=np.zeros((size, size, 3), np.uint8), matte=np.zeros(matte, np.uint8),
                       params=FaceParams.from_vector(np.zeros(PARAMETERS, np.float32)),
                       landmarks=np.full((66, 2), 0.5, np.float32), square=whole((size, size)), size=(size, size),
                       residual_px=0.0)


@kept(static_argnames="config", level=0)
def _matte(weights: Weights, portrait: Array, *, config: GraphConfig) -> jax.Array:
    """portrait [R, R, 3] -> [M, M] 0..1: the person."""
    side = config.resolution
    return apply(Graph(config), weights, jax.image.resize(portrait, (side, side, 3), "linear")[None])[0][0, :, :, 0]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values * 255.0), 0, 255).astype(np.uint8)
