"""The openings of a face model's mesh: eyes and mouth, and triangles that close them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.face3d.morphable import MorphableModel


@dataclasses.dataclass(frozen=True, eq=False)
class Holes:
    """The model's eyes and mouth: loops of vertices around what its mesh leaves open, and triangles that close them.

    One object a mesh (see `holes_of`), so it may be a static argument of a compiled function.
    """

    vertices: np.ndarray  # [N] of the mesh, one loop after the other
    triangles: np.ndarray  # [T, 3] of the mesh's vertices
    region: np.ndarray  # [T] 1 and 2: eyes, 3: mouth
    upper_lids: np.ndarray  # [N] vertices of the eyes' upper borders

    def __repr__(self) -> str:
        """What tells a kept program that it is for this mesh."""
        digest = hashlib.sha256(b"".join(array.tobytes() for array in dataclasses.astuple(self)))
        return f"Holes({digest.hexdigest()})"

    def carry(self, values: Array) -> jax.Array:
        """Values [V, C] of the mesh's vertices, followed by those of the vertices that close its holes."""
        values = jnp.asarray(values)
        return jnp.concatenate([values, values[np.unique(self.triangles)]])

    def closing(self, count: int) -> np.ndarray:
        """Triangles [T, 3] int32 that close the holes, of vertices of their own: those after the mesh's `count`."""
        _, own = np.unique(self.triangles, return_inverse=True)
        return (own.reshape(-1, 3) + count).astype(np.int32)


def holes_of(model: MorphableModel) -> Holes:
    """Close the three loops inside the border of the mesh, once for each mesh. ValueError: it has other holes."""
    return _holes_of(*(np.asarray(a, kind).tobytes() for a, kind in (
        (model.triangles, np.int32), (model.mean_shape, np.float32))))


@functools.lru_cache(maxsize=8)
def _holes_of(triangle_bytes: bytes, place_bytes: bytes) -> Holes:
    triangles = np.frombuffer(triangle_bytes, np.int32).reshape(-1, 3)
    places = np.frombuffer(place_bytes, np.float32).reshape(-1, 3)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, first, counts = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    after = {int(a): int(b) for a, b in edges[first[counts == 1]]}  # along each border, against the mesh's own winding
    loops: list[list[int]] = []
    while after:
        start, loop = next(iter(after)), []
        here = start
        while here in after:
            loop.append(here)
            here = after.pop(here)
        loops.append(loop)
    loops = sorted(loops, key=len)[:-1]  # the longest is the outer border
    if len(loops) != 3:
        raise ValueError(f"model: expected holes for two eyes and a mouth, got {len(loops)} holes")
    loops.sort(key=lambda loop: (places[loop, 1].mean() < 0, places[loop, 0].mean()))
    fans, regions = [], []
    for region, loop in enumerate(loops, start=1):
        fan = _strip(loop, places)
        fans.append(fan)
        regions.append(np.full(len(fan), region))
    lids = np.concatenate([[v for v in loop if places[v, 1] > (places[loop, 1].max() + places[loop, 1].min()) / 2]
                           for loop in loops[:2]]).astype(np.int32)
    return Holes(np.concatenate(loops), np.concatenate(fans).astype(np.int32), np.concatenate(regions), lids)


def _strip(loop: list[int], places: np.ndarray) -> np.ndarray:
    """Triangles between the upper and the lower half of a loop, corner to corner."""
    left, right = (int(pick(places[loop, 0])) for pick in (np.argmin, np.argmax))
    ahead = loop[left:] + loop[:left]
    turn = (right - left) % len(loop)
    one, other = ahead[:turn + 1], [ahead[0], *ahead[:turn - 1:-1]]
    triangles, i, j = [], 0, 0
    while i < len(one) - 1 or j < len(other) - 1:
        if j == len(other) - 1 or (i < len(one) - 1 and places[one[i + 1], 0] <= places[other[j + 1], 0]):
            triangles.append((one[i], one[i + 1], other[j]))
            i += 1
        else:
            triangles.append((one[i], other[j + 1], other[j]))
            j += 1
    return np.array([t for t in triangles if len(set(t)) == 3])
