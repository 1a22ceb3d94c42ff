"""The motion of a face through pictures: points followed from one to the next, parameters fitted, smoothed in time."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from pie_jax.errors import InputError, NoFaceError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.io import read_npz, write_npz
from pie_jax.pack import Pack
from pie_jax.photo.align import framing
from pie_jax.photo.detect import Face, find_faces, follow_face
from pie_jax.photo.fit import fit_as, fit_photos
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.squares import SquareReader
from pie_jax.portrait.request import ONE_PERSON

BATCH = 16  # pictures that are followed and fitted at once
_LOOK_AGAIN = 12  # pictures after which a lost face is looked for in the whole picture
_PORTRAIT = 512  # px
_PARAMETERS = 257


@dataclasses.dataclass
class Track:
    """What is known of a face's motion: one row a picture, kept in a file as it grows."""

    params: np.ndarray  # [N, 257] FaceParams vectors
    seen: np.ndarray  # [N] bool: the face was found; else the row before is held

    def save(self, path: pathlib.Path, *, facts: np.ndarray) -> None:
        write_npz(path, {"params": self.params, "seen": self.seen, "facts": facts})

    @classmethod
    def load(cls, path: pathlib.Path, *, facts: np.ndarray) -> Track:
        """The rows of a file of the same facts; none where there is no such file."""
        try:
            arrays = read_npz(path)
            params, seen = arrays["params"], arrays["seen"]
            if np.array_equal(arrays["facts"], facts) and params.shape == (len(seen), _PARAMETERS):
                return cls(params, seen)
        except (InputError, KeyError, ValueError, TypeError):
            pass
        return cls(np.zeros((0, _PARAMETERS), np.float32), np.zeros(0, bool))


class Tracker:
    """Follows one face. Its square stays where the first picture has it, so that the head's own motion is seen."""

    def __init__(self, pack: Pack, first: Image.Image, own: FittedPhoto, *, light: bool, where: str):
        """own: the photo that is driven; where it shows the same person, its identity is theirs."""
        self.pack, self.light = pack, light
        faces = find_faces(pack, first)
        if not faces:
            raise NoFaceError(f"{where}: no face in its first picture; cut it so that it begins with one")
        self.last: Face = faces[0]
        self.lost = 0
        self.square = framing(faces[0].landmarks)
        points = self.square.from_photo(faces[0].landmarks).astype(np.float32)
        portrait = SquareReader(first).read(self.square, _PORTRAIT, mirror=True)
        fit = fit_photos(pack, portrait[None], points[None])
        alike = fit_as(pack, np.repeat(points[None], BATCH, axis=0),
                       np.repeat(np.asarray(own.params.identity)[None], BATCH, axis=0))
        same = float(alike.residual_px[0]) <= ONE_PERSON * float(fit.residual_px[0])
        self.identity = np.asarray(own.params.identity if same else fit.params.identity[0], np.float32)
        self.lit = np.asarray(fit.params.to_vector(), np.float32)[0]

    def rows(self, pictures: list[Image.Image], before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters [n, 257] of at most BATCH pictures and where the face was seen [n]; `before` is the row before."""
        faces = follow_face(self.pack, pictures, self.last)
        for i, face in enumerate(faces):
            if face is None:
                self.lost += 1
                again = find_faces(self.pack, pictures[i]) if self.lost % _LOOK_AGAIN == 1 else []
                faces[i] = face = again[0] if again else None
            if face is not None:
                self.last, self.lost = face, 0
        seen = np.array([face is not None for face in faces])
        points = np.stack([self.square.from_photo((face or self.last).landmarks) for face in faces]).astype(np.float32)
        count = len(pictures)
        padded = np.concatenate([points, np.repeat(points[-1:], BATCH - count, axis=0)])
        if self.light:
            portraits = [SquareReader(picture).read(self.square, _PORTRAIT, mirror=True) for picture in pictures]
            portraits += portraits[-1:] * (BATCH - count)
            lit = fit_photos(self.pack, np.stack(portraits), padded).params
        fitted = fit_as(self.pack, padded, np.repeat(self.identity[None], BATCH, axis=0)).params
        rest = FaceParams.from_vector(np.repeat(self.lit[None], BATCH, axis=0))
        fitted = dataclasses.replace(fitted, texture=rest.texture,
                                     illumination=lit.illumination if self.light else rest.illumination)
        rows = np.array(fitted.to_vector(), np.float32)[:count]
        for i in np.nonzero(~seen)[0]:
            rows[i] = rows[i - 1] if i > 0 else before
        return rows, seen


def track(pack: Pack, pictures: Callable[[int], Iterator[Image.Image]], own: FittedPhoto, path: pathlib.Path, *,
          facts: np.ndarray, light: bool, where: str, tell: Callable[[int], None]) -> Track:
    """The motion through all pictures; what `path` has of it already is not done again.

    pictures: gives them from a number on. tell: called with how many are done.
    """
    done = Track.load(path, facts=facts)
    first = next(pictures(0), None)
    if first is None:
        raise InputError(f"{where}: holds no picture")
    tracker = Tracker(pack, first, own, light=light, where=where)
    rest = pictures(len(done.seen))
    for number in itertools.count():
        chunk = list(itertools.islice(rest, BATCH))
        if not chunk:
            break
        before = done.params[-1] if len(done.params) else tracker.lit
        rows, seen = tracker.rows(chunk, before)
        done = Track(np.concatenate([done.params, rows]), np.concatenate([done.seen, seen]))
        tell(len(done.seen))
        if number % 8 == 7:
            done.save(path, facts=facts)
    done.save(path, facts=facts)
    return done


def smoothed(params: np.ndarray, window: int) -> np.ndarray:
    """Rows [N, 257] without the jitter of single pictures and without lag: a parabola through each window of rows."""
    from scipy.signal import savgol_filter

    window = min(window, len(params))
    window -= 1 - window % 2
    if window < 5:  # a parabola goes through three points
        return params
    return np.asarray(savgol_filter(params, window, 2, axis=0, mode="interp"), np.float32)

