"""The 3D morphable model: coefficients (`FaceParams`) and bases (`MorphableModel`) to vertices and colours.

Conventions of the public 257-vector (Deep3DFaceRecon, arXiv 1903.08527; sicxu/Deep3DFaceRecon_pytorch models/bfm.py):
`shape = mean + identity_basis a + expression_basis b`, `albedo = mean + texture_basis d`, bases already multiplied by
their standard deviations, so a coefficient of 1 is one standard deviation. Model axes: x right in the image for a
frontal face, y up, z towards the camera; unit: a face is about 1.4 wide and 2.2 high.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, check_shape

IDENTITY, TEXTURE, EXPRESSION, ILLUMINATION, PARAMETERS = 80, 80, 64, 27, 257
SIZES = {"rotation": 3, "translation": 3, "identity": IDENTITY, "texture": TEXTURE, "expression": EXPRESSION,
         "illumination": ILLUMINATION}
VECTOR_ORDER = ("identity", "expression", "texture", "rotation", "illumination", "translation")  # of public regressors
FLAT = 1e-6  # sine of the angle between two edges below which a triangle has no normal
CONTROL_FIELDS = {"pose": "rotation", "expression": "expression", "illumination": "illumination"}

_start = 0
VECTOR_SLICES: dict[str, slice] = {}
for _name in VECTOR_ORDER:
    VECTOR_SLICES[_name] = slice(_start, _start + SIZES[_name])
    _start += SIZES[_name]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceParams:
    """What one face in one portrait is made of; leading dimensions are free and common to all fields."""

    rotation: Array  # [..., 3] radians: pitch (+ down), yaw (+ to the image's right), roll (+ anticlockwise)
    translation: Array  # [..., 3] model units
    identity: Array  # [..., 80] standard deviations
    texture: Array  # [..., 80] standard deviations
    expression: Array  # [..., 64] standard deviations
    illumination: Array  # [..., 27] spherical harmonics; reshape(3, 9) is RGB x bands; the renderer adds 0.8 to band 0

    @classmethod
    def zeros(cls, *, leading: tuple[int, ...] = ()) -> FaceParams:
        """The mean face, looking at the camera, in white ambient light; fields [*leading, n] float32."""
        return cls(**{name: jnp.zeros((*leading, size), jnp.float32) for name, size in SIZES.items()})

    @classmethod
    def from_vector(cls, vector: Array) -> FaceParams:
        """Split `vector` [..., 257] of identity, expression, texture, rotation, illumination, translation (Deep3D).

        ValueError: the last axis is not 257.
        """
        check_shape("vector", vector, (PARAMETERS,))
        return cls(**{name: vector[..., part] for name, part in VECTOR_SLICES.items()})

    def to_vector(self) -> Array:
        """The [..., 257] vector in Deep3D's order, the inverse of `from_vector`; numpy's where all fields are."""
        fields = [getattr(self, name) for name in VECTOR_ORDER]
        if all(isinstance(field, np.ndarray) for field in fields):  # nothing is compiled for them
            return np.concatenate(fields, axis=-1)
        return jnp.concatenate(fields, axis=-1)


def control_field(control: str) -> str:
    """The field of FaceParams that `control` moves. ValueError: unknown control."""
    if control not in CONTROL_FIELDS:
        raise ValueError(f"control: expected one of {tuple(CONTROL_FIELDS)}, got {control!r}")
    return CONTROL_FIELDS[control]


def control_vector(params: FaceParams, control: str) -> Array:
    """The parameters [..., P] of `control` (P = 3 pose, 64 expression, 27 illumination)."""
    return getattr(params, control_field(control))


def with_control(params: FaceParams, other: FaceParams, control: str) -> FaceParams:
    """[params^rest, other^control] of StyleRig (arXiv 2004.00121): `control` from `other`, all else from `params`."""
    field = control_field(control)
    return dataclasses.replace(params, **{field: getattr(other, field)})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MorphableModel:
    """Mean and bases of shape and colour over one mesh. Arrays are float32 weights, never closed over."""

    mean_shape: Array  # [V, 3] model units
    identity_basis: Array  # [V, 3, 80] model units per standard deviation
    expression_basis: Array  # [V, 3, 64] model units per standard deviation
    mean_albedo: Array  # [V, 3] RGB, 0..1
    texture_basis: Array  # [V, 3, 80] RGB 0..1 per standard deviation
    triangles: Array  # [T, 3] int32
    landmark_vertices: Array  # [66] int32, iBUG-68 without the two inner mouth corners (0-based 60 and 64)
    expression_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})  # 64 names


def _linear(mean: Array, *terms: tuple[Array, Array]) -> jax.Array:
    """mean [V, 3] + sum of basis [V, 3, N] @ coefficients [..., N]."""
    total: Array = None
    for basis, coefficients in terms:
        # Columns of vertices, turned round afterwards: the other order makes XLA:CPU transpose the basis every time.
        flat = coefficients.reshape(-1, coefficients.shape[-1])
        part = jax.lax.dot_general(basis.reshape(-1, basis.shape[-1]), flat, (((1,), (1,)), ((), ())),
                                   precision=jax.lax.Precision.HIGHEST)
        part = part.T.reshape(*coefficients.shape[:-1], *mean.shape)
        total = part if total is None else total + part
    return jnp.broadcast_to(mean, total.shape) + total


def landmark_model(model: MorphableModel) -> MorphableModel:
    """The model of the 66 landmarks alone: mean shape and bases have their rows, the rest is the whole model's."""
    rows = model.landmark_vertices
    return dataclasses.replace(model, mean_shape=model.mean_shape[rows], identity_basis=model.identity_basis[rows],
                               expression_basis=model.expression_basis[rows])


def shape(model: MorphableModel, params: FaceParams) -> jax.Array:
    """Vertices [..., V, 3] in model space: mean + identity + expression (arXiv 1903.08527, equation 1)."""
    check_shape("identity", params.identity, (model.identity_basis.shape[-1],))
    check_shape("expression", params.expression, (model.expression_basis.shape[-1],))
    terms = (model.identity_basis, params.identity), (model.expression_basis, params.expression)
    return _linear(model.mean_shape, *terms)


def albedo(model: MorphableModel, params: FaceParams) -> jax.Array:
    """Vertex colours [..., V, 3], RGB about 0..1, not clipped: mean + texture (arXiv 1903.08527, equation 1)."""
    check_shape("texture", params.texture, (model.texture_basis.shape[-1],))
    return _linear(model.mean_albedo, (model.texture_basis, params.texture))


def normalise(vectors: Array) -> jax.Array:
    """Unit vectors [..., 3]; a zero vector stays zero with a zero gradient."""
    return jnp.stack(_unit([vectors[..., i] for i in range(3)]), axis=-1)


# Vectors below are lists of three arrays: reducing or broadcasting over an axis of 3 is slow on a CPU.


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vector):
    squared = _dot(vector, vector)
    # sqrt has an infinite slope at 0: the length of a zero vector is replaced before the root, not after it.
    positive = squared > 0
    inverse = jax.lax.rsqrt(jnp.where(positive, squared, 1.0))
    return [jnp.where(positive, x * inverse, 0.0) for x in vector]


def vertex_normals(vertices: Array, triangles: Array) -> jax.Array:
    """Unit normals [..., V, 3] of `vertices` [..., V, 3]: the sum of the adjacent triangles' unit normals, normalised.

    Outward where `triangles` [T, 3] wind anticlockwise seen from outside. Zero-area triangles add nothing; a vertex
    of none has normal 0. Finite gradients everywhere.
    """
    check_shape("vertices", vertices, (None, 3))
    check_shape("triangles", triangles, (None, 3))
    corners = [vertices[..., triangles[:, k], :] for k in range(3)]
    one, two = ([corners[k][..., i] - corners[0][..., i] for i in range(3)] for k in (1, 2))
    normals = [one[i - 2] * two[i - 1] - one[i - 1] * two[i - 2] for i in range(3)]
    # The cross product of parallel edges is rounding, not always 0: it must not become a unit vector of chance.
    solid = _dot(normals, normals) > FLAT**2 * _dot(one, one) * _dot(two, two)
    normals = jnp.stack(_unit([jnp.where(solid, x, 0.0) for x in normals]), axis=-1)
    total = jnp.zeros_like(vertices)
    for k in range(3):
        total = total.at[..., triangles[:, k], :].add(normals)
    return normalise(total)
