"""Pairs of photographs of one person: the neutral one, given the other's pose and expression, against the other."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np

from benchmarks.photo.measure import found_landmarks, points_px224, psnr
from pie_jax.pack import Pack
from pie_jax.photo.composite import edited_portrait
from pie_jax.photo.fitted import FittedPhoto, open_photo
from pie_jax.photo.mouth import opening
from pie_jax.portrait import PhotoEditor
from pie_jax.portrait.request import photo_params_of

NEUTRAL, SMILING = "_neutral.jpg", "_smiling.jpg"
TEETH = 0.08  # of the mouth's width: inner lips that are farther apart show teeth


def people(folder: pathlib.Path) -> list[str]:
    """The names of all pairs in a folder."""
    return sorted(path.name.removesuffix(NEUTRAL) for path in folder.glob(f"*{NEUTRAL}"))


def measure(pack: Pack, folder: pathlib.Path, judge: Callable[[np.ndarray], np.ndarray]) -> Iterator[tuple]:
    """(row, pictures [neutral, edited, smiling]) of each pair."""
    points = np.load(folder / "points.npz", allow_pickle=False)
    for person in people(folder):
        neutral = open_photo(pack, folder / f"{person}{NEUTRAL}", align=False)
        smiling = open_photo(pack, folder / f"{person}{SMILING}", align=False)
        edited, face = with_motion_of(pack, neutral, smiling)
        before, truth = (photo.portrait / 255.0 for photo in (neutral, smiling))
        found = found_landmarks(pack, edited)
        own, same = float(judge(before) @ judge(truth)), float(judge(edited) @ judge(truth))
        unedited = psnr(before, truth, face)
        row = {"kind": "pair", "person": person, "unedited_db": unedited,
               "gain_db": psnr(edited, truth, face) - unedited,
               "teeth": bool(opening(points[f"{person}_smiling"]) > TEETH),
               "landmarks_px224": None if found is None else points_px224(pack, found, smiling.landmarks),
               "identity": same, "identity_of_photos": own}
        yield row, (before, edited, truth)


def with_motion_of(pack: Pack, own: FittedPhoto, other: FittedPhoto) -> tuple[np.ndarray, np.ndarray]:
    """`own` with the pose and expression of `other`: the portrait, and where its face is, [R, R] bool."""
    wanted = photo_params_of(pack, other, own=own)
    target = dataclasses.replace(own.params, rotation=wanted.rotation, translation=wanted.translation,
                                 expression=wanted.expression)
    layers = PhotoEditor(pack, own).layers(target)
    edited = edited_portrait(layers) / 255.0
    return edited, np.asarray(jax.image.resize(layers.motion.face, edited.shape[:2], "linear")) > 0.5
