"""What all families share: from arrays under the fields' names to a MorphableModel, cut, padded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pie_jax.errors import PackError
from pie_jax.face3d.morphable import EXPRESSION, IDENTITY, TEXTURE, MorphableModel

SKIN = (0.72, 0.55, 0.46)  # RGB of models that have no colours
SIZES = {"identity_basis": IDENTITY, "expression_basis": EXPRESSION, "texture_basis": TEXTURE}
LANDMARKS = 66


def build(fields: Mapping[str, np.ndarray], *, where: Any, names: tuple[str, ...] = ()) -> tuple[MorphableModel,
                                                                                                 tuple[str, ...]]:
    """The model, and notes of what was cut or padded.

    fields: mean_shape [V, 3] dm, the three bases [V, 3, N] of any N (absent: none), mean_albedo [V, 3] in 0..1
    (absent: even skin), triangles [T, 3] and landmark_vertices [66], numbers from 0.
    names: of the expression components, as many as there are.
    PackError: arrays of different numbers of vertices, a triangle or landmark of a vertex that is not there, a wrong
    number of landmarks.
    """
    vertices = fields["mean_shape"].shape[0]
    for name in ("mean_shape", *SIZES, "mean_albedo"):
        if name in fields:
            due = (vertices, 3, *fields[name].shape[2:3]) if name in SIZES else (vertices, 3)
            if not vertices or fields[name].shape != due or fields[name].ndim != (3 if name in SIZES else 2):
                raise PackError(f"{where}: {name} has shape {list(fields[name].shape)}, but the mean shape has "
                                f"{vertices} vertices; a damaged file, or parts of two models")
    arrays: dict[str, np.ndarray] = {"mean_shape": np.ascontiguousarray(fields["mean_shape"], np.float32)}
    notes = []
    for name, due in SIZES.items():
        basis = fields.get(name)
        arrays[name] = np.zeros((vertices, 3, due), np.float32)
        count = 0
        if basis is not None:
            count = basis.shape[2]
            arrays[name][:, :, :count] = basis[:, :, :due]
        what = name.removesuffix("_basis")
        if count > due:
            notes.append(f"{what}: the first {due} of {count} components are kept")
        elif count < due:
            notes.append(f"{what}: {count} components, padded with {due - count} of zero")
    if "mean_albedo" in fields:
        arrays["mean_albedo"] = np.ascontiguousarray(fields["mean_albedo"], np.float32)
    else:
        arrays["mean_albedo"] = np.tile(np.asarray(SKIN, np.float32), (vertices, 1))
        notes.append(f"no colours in the file: an even skin of RGB {SKIN}; the light that is found absorbs the rest")
    for name, per in (("triangles", (3,)), ("landmark_vertices", ())):
        index = np.asarray(fields[name])
        whole = index.astype(np.int64)
        if np.any(whole != index) or whole.size == 0 or whole.min() < 0 or whole.max() >= vertices:
            raise PackError(f"{where}: {name} name vertices that are not among the {vertices}; a damaged file, or "
                            "another model's landmarks")
        if whole.shape[1:] != per or (name == "landmark_vertices" and len(whole) != LANDMARKS):
            raise PackError(f"{where}: {name} has shape {list(whole.shape)}")
        arrays[name] = np.ascontiguousarray(whole, np.int32)
    count = min(len(names), EXPRESSION)
    names = (*names[:count], *(f"unused_{i}" for i in range(count, EXPRESSION))) if names else ()
    return MorphableModel(**arrays, expression_names=names), tuple(notes)


def outward(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """`triangles` [T, 3], reversed where most of the surface winds clockwise seen from outside."""
    centred = vertices - vertices.mean(axis=0)
    a, b, c = (centred[triangles[:, k]] for k in range(3))
    return triangles if np.sum(a * np.cross(b, c)) > 0 else triangles[:, ::-1]


def scaled_basis(array: np.ndarray, deviations: np.ndarray, *, most: int) -> np.ndarray:
    """The first `most` components of [3V, N], each times its deviation; ValueError unless there are N of them."""
    if array.ndim != 2 or array.shape[1] != deviations.size:
        raise ValueError(f"{deviations.size} deviations of components of shape {list(array.shape)}")
    return array[:, :most] * np.ravel(deviations)[:most]


def flat_basis(array: np.ndarray) -> np.ndarray:
    """[3V, N], x y z of a vertex together -> [V, 3, N]."""
    return array.reshape(-1, 3, array.shape[-1])


def flat_mean(array: np.ndarray) -> np.ndarray:
    """3V numbers in any shape -> [V, 3] float64; ValueError where there are none."""
    if not array.size:
        raise ValueError("no numbers")
    return np.asarray(array, np.float64).reshape(-1, 3)
