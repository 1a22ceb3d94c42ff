"""Whose 66 points a photo's face is fitted by: the face mesh's, or those of the pack's own network.

A pack's network has learned the people that its generator paints, the face mesh has learned photographs: each is far
off where the other is right, and both give points that a face can have. So the pack's own network is asked only where
the encoder's first guess gives the face back, and the points whose fit shows its pixels better are taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from pie_jax import energy as energies
from pie_jax.config import PRECISIONS
from pie_jax.pack import Pack, own_psnr_db
from pie_jax.photo.fitted import FittedPhoto, fit_photo
from pie_jax.photo.squares import Square, SquareReader
from pie_jax.portrait.initialisation import guessed_codes
from pie_jax.portrait.synthesis import synthesise

_PARTS = ("generator", "encoder", "landmarks")
_UNKNOWN = 11.0  # dB below what the generator reaches on its own people: the first guess of another kind of picture


def fit_face(pack: Pack, photo: Image.Image, square: Square, landmarks: np.ndarray, *,
             known: bool = False, before_fit: Callable[[bool], None] = lambda stranger: None) -> FittedPhoto:
    """`fit_photo`, by the points of the pack's own network where they fit better; errors are those of `fit_photo`.

    Args:
      landmarks: the face's 66 points [66, 2], px of the RGB photo.
      known: the user gave them, no others are looked for.
      before_fit: called with whether the face is a stranger, one whose points the pack's own network does not give.
    """
    own = None
    if not known:
        portrait = SquareReader(photo).read(square, pack.configs.generator.resolution, mirror=True)
        own = own_points(pack, portrait)
    before_fit(own is None)
    return fit_photo(pack, photo, square, landmarks, by="user" if known else "face_mesh", own=own)


def own_points(pack: Pack, portrait: np.ndarray) -> np.ndarray | None:
    """[66, 2] in 0..1 of a portrait [R, R, 3] in 0..1 at the generator's resolution, by the pack's own network.

    None where the pack does not know the face, or has no encoder of its generator, no such network, or no record of
    how near its generator comes to its own people.
    """
    own = own_psnr_db(pack.manifest)
    if own is None or not pack.has_encoder or any(part not in pack.weights for part in _PARTS):
        return None
    portraits = np.asarray(portrait, np.float32)[None]  # the programs of the search that follows
    guessed = np.clip(np.asarray(synthesise(pack, guessed_codes(pack, portraits))), 0.0, 1.0)
    if not -10.0 * np.log10(max(np.mean(np.square(guessed - portraits)), 1e-12)) >= own - _UNKNOWN:  # NaN: unknown
        return None
    camera = pack.configs.camera
    target = energies.prepare_target(pack, portraits, precision=PRECISIONS["float32"])  # as the search calls it
    corner = np.array([camera.crop_x, camera.crop_y], np.float32)
    return corner + np.float32(camera.crop_size) * np.asarray(target.landmarks)[0]
