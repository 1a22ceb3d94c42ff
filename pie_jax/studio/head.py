"""The procedural head: a MorphableModel of face skin, and all else that a portrait shows, on one mesh.

`build_head()` is deterministic, needs no data, and takes about two seconds; it is cached. Coefficients are in
standard deviations. `FULL[name]` is the coefficient of the complete expression `name`.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from pie_jax.arrays import Array
from pie_jax.face3d.morphable import MorphableModel
from pie_jax.studio import hair
from pie_jax.studio.expressions import EXPRESSION_NAMES, FULL, expression_fields
from pie_jax.studio.identity import IDENTITY_NAMES, identity_fields
from pie_jax.studio.landmarks import landmark_vertices
from pie_jax.studio.parts import SEGMENTS, Part, body, ears, eyeballs, mouth, places_at
from pie_jax.studio.surface import EYE_X, EYE_Y, Places, build_skin, eyeball_centres, proportions, smooth
from pie_jax.studio.texture import TEXTURE_NAMES, mean_albedo, texture_fields

__all__ = [
    "EXPRESSION_NAMES",
    "FULL",
    "IDENTITY_NAMES",
    "ORIGIN",
    "SEGMENTS",
    "TEXTURE_NAMES",
    "Extras",
    "Hair",
    "Head",
    "build_head",
]

ORIGIN = np.array([0.0, 0.042, 0.70])  # of model space, in design space: between the eyes and the mouth
NECK_PIVOT = np.array([0.0, -0.50, -0.20]) - ORIGIN  # the body turns about this point


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Extras:
    """The E vertices of a scene that are neither face nor hair; model space."""

    mean_shape: Array  # [E, 3]
    identity_basis: Array  # [E, 3, 80]
    expression_basis: Array  # [E, 3, 64]
    mean_albedo: Array  # [E, 3]
    texture_basis: Array  # [E, 3, 80]
    colour_weights: Array  # [E, 3] of eye, hair and cloth colour
    head_weight: Array  # [E] 1 turns with the head, 0 stays with the body
    gaze: (
        Array  # [E] int32: 0 fixed, 1 and 2 turn with the eyeball on the image's left and right, -1 and -2 their glints
    )
    eye_vertices: Array  # [2] int32: one vertex of each eyeball
    eye_centres: Array  # [2, 3]
    lids: Array  # [2, M] int32: vertices of the morphable model round the eye on the image's left, right


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Hair:
    """One sheet of N vertices in S styles; model space."""

    mean_shape: Array  # [S, N, 3]
    skull: Array  # [S, N, 3] what it is thick above
    identity_basis: Array  # [S, N, 3, 80]
    tone: Array  # [S, N] factor of the hair colour
    head_weight: Array  # [S, N]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """Vertices of a scene in order: morphable [V], extras [E], hair [N]. Triangles: the morphable model's first."""

    morphable: MorphableModel
    extras: Extras
    hair: Hair
    triangles: Array  # [T, 3] int32 over all vertices
    segments: Array  # [T] int32, index into SEGMENTS
    two_sided: Array  # [T] bool: drawn from behind too
    adjacent: Array  # [V + E + N, A] int32: triangles at each vertex, padded with T


def _bases(places: Places, fields, weight: float | np.ndarray = 1.0):
    """[N, 3, fields] float32."""
    stacked = np.stack([f(places) for f in fields.values()], -1)
    return (stacked * np.reshape(weight, (-1, 1, 1))).astype(np.float32)


def _expression_basis(part: Part, fields):
    if not np.any(part.expression):
        return np.zeros((len(part.vertices), 3, len(fields)), np.float32)
    if part.bone is None:
        return _bases(part.places, fields, part.expression)
    return _bases(part.bone, fields, part.expression) * np.array(
        [name.startswith("jaw_") for name in fields], np.float32
    )


def _is_face(skin):
    """[T] bool: triangles of the face, from the hairline to under the chin and to the ears."""
    corner_angle, corner_row = np.abs(skin.columns[skin.triangles]), skin.rows[skin.triangles]
    top = 0.90 - 0.38 * smooth(corner_angle, 0.55, 1.25)
    return ((corner_row < top) & (corner_angle < 1.62)).all(1)


def _lids(places: Places, sign):
    dx, dy = (sign * places.x - EYE_X) / 0.19, (places.y - EYE_Y) / 0.13
    return np.flatnonzero(dx**2 + dy**2 < 1.0)


def _outward(vertices, triangles):
    """The same triangles, wound so that most normals point away from the middle."""
    p = vertices[triangles]
    normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    away = (normal * (p.mean(1) - vertices.mean(0))).sum()
    return triangles if away > 0 else triangles[:, ::-1]


def _scalp(skin, face) -> tuple[Part, np.ndarray]:
    """The rest of the skin as a part; its vertices repeat the face's where they meet."""
    rest = skin.triangles[~face]
    used, inverse = np.unique(rest, return_inverse=True)
    p = skin.places
    places = Places(
        position=p.position[used], closed=p.closed[used], mouth_side=p.mouth_side[used], eye_side=p.eye_side[used]
    )
    part = Part(
        segment=SEGMENTS.index("scalp"),
        places=places,
        vertices=places.position,
        triangles=inverse.reshape(-1, 3),
        base=mean_albedo(places),
        weights=np.zeros((len(used), 3)),
        skin=1.0,
    )
    return part, used


@functools.cache
def build_head() -> Head:
    """The head, built once a process; arrays are numpy float32 / int32."""
    skin = build_skin()
    skin = dataclasses.replace(skin, triangles=_outward(skin.places.position, skin.triangles))
    identity, expression, texture = identity_fields(), expression_fields(), texture_fields()
    face = _is_face(skin)
    used, inverse = np.unique(skin.triangles[face], return_inverse=True)
    p = skin.places
    places = Places(
        position=p.position[used], closed=p.closed[used], mouth_side=p.mouth_side[used], eye_side=p.eye_side[used]
    )
    renumber = np.full(len(p.position), -1)
    renumber[used] = np.arange(len(used))
    face_triangles = inverse.reshape(-1, 3).astype(np.int32)
    morphable = MorphableModel(
        mean_shape=(proportions(places.position) - ORIGIN).astype(np.float32),
        identity_basis=_bases(places, identity),
        expression_basis=_bases(places, expression),
        mean_albedo=mean_albedo(places).astype(np.float32),
        texture_basis=_bases(places, texture),
        triangles=face_triangles,
        landmark_vertices=renumber[landmark_vertices(skin)].astype(np.int32),
        expression_names=EXPRESSION_NAMES,
    )
    parts = [_scalp(skin, face)[0], *eyeballs(), *mouth(skin), *ears(), *body()]
    blocks, triangles, segments, two_sided = (
        [],
        [face_triangles],
        [np.full(len(face_triangles), 1)],
        [np.zeros(len(face_triangles), bool)],
    )
    offset = len(used)
    for part in parts:
        n = len(part.vertices)
        flat = part.two_sided or part.segment == SEGMENTS.index("eye")
        order = part.triangles if flat else _outward(part.vertices, part.triangles)
        triangles.append(order + offset)
        segments.append(np.full(len(order), part.segment))
        two_sided.append(np.full(len(order), part.two_sided))
        blocks.append(
            {
                "mean_shape": proportions(part.vertices) - ORIGIN,
                "identity_basis": _bases(part.places, identity, part.identity),
                "expression_basis": _expression_basis(part, expression),
                "mean_albedo": part.base,
                "texture_basis": _bases(part.places, texture, part.skin) if part.skin else np.zeros((n, 3, 80)),
                "colour_weights": part.weights,
                "head_weight": np.broadcast_to(part.head, n),
                "gaze": np.full(n, part.gaze),
            }
        )
        offset += n
    joined = {
        k: np.concatenate([b[k] for b in blocks]).astype(np.int32 if k == "gaze" else np.float32) for k in blocks[0]
    }
    lids = [_lids(places, sign) for sign in (-1.0, 1.0)]
    few = min(map(len, lids))
    eye_vertices = np.array([np.flatnonzero(joined["gaze"] == k)[0] for k in (1, 2)], np.int32)
    extras = Extras(
        **joined,
        eye_vertices=eye_vertices,
        lids=np.stack([v[:few] for v in lids]).astype(np.int32),
        eye_centres=(eyeball_centres() - ORIGIN).astype(np.float32),
    )
    sheets = [hair.sheet(style) for style in hair.STYLES]
    order = _outward(sheets[1][1], hair.triangles())
    triangles.append(order + offset)
    segments.append(np.full(len(order), SEGMENTS.index("hair")))
    two_sided.append(np.ones(len(order), bool))
    locks = Hair(
        skull=np.stack([proportions(s[4]) - ORIGIN for s in sheets]).astype(np.float32),
        mean_shape=np.stack([proportions(s[1]) - ORIGIN for s in sheets]).astype(np.float32),
        identity_basis=np.stack([_bases(places_at(s[0]), identity, np.maximum(s[3], 0.5)) for s in sheets]),
        tone=np.stack([s[2] for s in sheets]).astype(np.float32),
        head_weight=np.stack([s[3] for s in sheets]).astype(np.float32),
    )
    triangles = np.concatenate(triangles).astype(np.int32)
    return Head(
        morphable=morphable,
        extras=extras,
        hair=locks,
        triangles=triangles,
        segments=np.concatenate(segments).astype(np.int32),
        two_sided=np.concatenate(two_sided),
        adjacent=_adjacent(triangles, offset + len(sheets[0][1])),
    )


def _adjacent(triangles, count):
    flat = triangles.reshape(-1)
    order = np.argsort(flat, kind="stable")
    vertex = flat[order]
    rank = np.arange(len(vertex)) - np.searchsorted(vertex, np.arange(count))[vertex]
    out = np.full((count, int(rank.max()) + 1), len(triangles), np.int32)
    out[vertex, rank] = order // 3
    return out
