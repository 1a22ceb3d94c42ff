"""The 66 landmark vertices of a model: from a list of numbers, from FLAME's embedding, or laid on by shape.

Numbers count from 0, in iBUG's order, 68 or already 66 (without 60 and 64); Deep3D's facemodel_info.mat counts from 1.
"""

from __future__ import annotations

import numpy as np

from converters.readers import read
from pie_jax.errors import PackError
from pie_jax.nn.landmarks import FROM_68

APPROXIMATE = "approximate"
INNER = 51  # iBUG's points without the 17 of the jaw


def find_landmarks(argument: str | None, mean_shape: np.ndarray, triangles: np.ndarray, *,
                   where: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Vertex numbers [66] for a model whose own file has none, and notes.

    argument: of --landmarks. mean_shape [V, 3] in dm, triangles [T, 3].
    PackError: not given, or a file without landmarks for this mesh.
    """
    if argument is None:
        raise PackError(f"{where}: this model's file has no landmarks; give --landmarks FILE (68 vertex numbers), or "
                        f"--landmarks {APPROXIMATE} to lay the project's own on it by shape")
    if argument == APPROXIMATE:
        return lay_on(mean_shape), ("landmarks laid on by shape: about 7 mm off; --landmarks FILE is exact",)
    tensors = read(argument).state_dict()
    embedded = [tensors.get(name) for name in ("full_lmk_faces_idx", "lmk_faces_idx", "lmk_face_idx")]
    corners = [tensors.get(name) for name in ("full_lmk_bary_coords", "lmk_bary_coords", "lmk_b_coords")]
    for index, weights in zip(embedded, corners):
        if index is not None and weights is not None:
            return _embedded(index, weights, mean_shape, triangles, argument)
    if "keypoints" in tensors:
        return sixty_six(np.ravel(tensors["keypoints"]).astype(np.int64) - 1, argument), ()
    arrays = [np.ravel(a) for a in tensors.values() if a.size in (66, 68)]
    if len(arrays) != 1:
        raise PackError(f"{argument}: expected one array of 68 or 66 vertex numbers")
    return sixty_six(arrays[0].astype(np.int64), argument), ()


def sixty_six(index: np.ndarray, where: object) -> np.ndarray:
    """[68] or [66] -> [66]."""
    if len(index) not in (66, 68):
        raise PackError(f"{where}: {len(index)} landmarks; expected iBUG's 68, or 66 without 60 and 64")
    return index[np.asarray(FROM_68)] if len(index) == 68 else index


def _embedded(index, weights, mean_shape, triangles, where) -> tuple[np.ndarray, tuple[str, ...]]:
    """Points inside triangles (FLAME's files): the corner nearest to each."""
    index, weights = np.ravel(index).astype(np.int64), weights.reshape(-1, 3)
    if len(index) != len(weights) or index.min() < 0 or index.max() >= len(triangles):
        raise PackError(f"{where}: landmarks of triangles that the model does not have")
    nearest = triangles[index, np.argmax(weights, axis=1)]
    note = "landmarks: of each point in a triangle the nearest corner"
    if len(nearest) == INNER:
        jaw = lay_on(mean_shape)[:17]
        return sixty_six(np.concatenate([jaw, nearest]), where), (note, "the 17 of the jaw are laid on by shape")
    return sixty_six(nearest, where), (note,)


def lay_on(mean_shape: np.ndarray) -> np.ndarray:
    """Vertex numbers [66] nearest to the landmarks of the project's own head, laid on `mean_shape` [V, 3] (dm).

    The heads are put tip of the nose on tip of the nose, then moved and scaled so that the landmarks lie on the
    surface (nearest points, 20 rounds).
    """
    from pie_jax.studio.head import build_head

    own = build_head().morphable
    points = np.asarray(own.mean_shape, np.float64)[np.asarray(own.landmark_vertices)]
    middle = np.abs(mean_shape[:, 0] - np.median(mean_shape[:, 0])) < 0.15
    tip = mean_shape[middle][np.argmax(mean_shape[middle, 2])]
    placed = points - points[30] + tip
    candidates = np.flatnonzero(mean_shape[:, 2] > tip[2] - 1.2)
    for _ in range(20):
        near = mean_shape[candidates[_nearest(mean_shape[candidates], placed)]]
        a, b = placed - placed.mean(axis=0), near - near.mean(axis=0)
        scale = np.clip(np.sum(a * b) / np.sum(a * a), 0.97, 1.03)
        placed = scale * a + near.mean(axis=0)
    return candidates[_nearest(mean_shape[candidates], placed)]


def _nearest(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.array([np.argmin(np.sum(np.square(vertices - p), axis=1)) for p in points])


def kept(index: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Vertex numbers after only the vertices `keep` [N] are left; -1 for those that are gone."""
    new = np.full(int(max(np.max(index), np.max(keep))) + 1, -1, np.int64)
    new[keep] = np.arange(len(keep))
    return new[index]
