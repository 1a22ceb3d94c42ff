"""Landmarks that a user brings along: a JSON or NPZ file of the points of each photo, by its file name."""

from __future__ import annotations

import json
import pathlib
import zipfile

import numpy as np

from pie_jax.errors import InputError
from pie_jax.io import cause_of, shown
from pie_jax.nn.face_mesh import POINTS, landmarks_of

_NOT_OURS = [60, 64]  # of iBUG's 68: the inner corners of the mouth


def read_landmarks(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """File name, with or without its ending -> 66 points [66, 2], px of the upright photo from its top left corner.

    66 points as this project has them, iBUG's 68, or the 478 of MediaPipe's face mesh; further columns are left out.
    InputError: it cannot be read, or holds other numbers of points.
    """
    path = pathlib.Path(path)
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as arrays:
                table = {name: arrays[name] for name in arrays.files}
        else:
            table = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _points(name, values) for name, values in table.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shown(path)}: cannot be read as landmarks ({cause_of(error)}); give JSON, "
                         '{"photo.jpg": [[x, y], ...]}, or an NPZ file of such arrays') from error


def _points(name: str, values) -> np.ndarray:
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] < 2 or len(points) not in (66, 68, POINTS) or not np.isfinite(points).all():
        raise InputError(f"landmarks of {name!r:.80}: expected 66, 68 or {POINTS} points of finite x and y, got "
                         f"{list(points.shape)}")
    if len(points) == POINTS:
        return landmarks_of(points)
    return np.delete(points, _NOT_OURS, axis=0)[:, :2] if len(points) == 68 else points[:, :2]
