"""Coefficients and bases: order of the public vector, linearity, normals and their singular points."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from pie_jax.face3d import morphable
from pie_jax.face3d.morphable import FaceParams, MorphableModel

RNG = np.random.default_rng(0)


def toy_model(vertices=12):
    def draw(*shape):
        return jnp.asarray(RNG.standard_normal(shape), jnp.float32)

    triangles = jnp.asarray(RNG.integers(0, vertices, (20, 3)), jnp.int32)
    return MorphableModel(
        mean_shape=draw(vertices, 3), identity_basis=draw(vertices, 3, 80), expression_basis=draw(vertices, 3, 64),
        mean_albedo=draw(vertices, 3), texture_basis=draw(vertices, 3, 80), triangles=triangles,
        landmark_vertices=jnp.arange(66, dtype=jnp.int32) % vertices, expression_names=("jaw_open",) * 64)


def test_vector_order_is_deep3d():
    vector = jnp.arange(257, dtype=jnp.float32)
    params = FaceParams.from_vector(vector)
    starts = {"identity": 0, "expression": 80, "texture": 144, "rotation": 224, "illumination": 227, "translation": 254}
    assert {name: int(getattr(params, name)[0]) for name in starts} == starts
    np.testing.assert_array_equal(params.to_vector(), vector)


@pytest.mark.parametrize("leading", [(), (3,), (2, 0, 4)])
def test_vector_round_trip_over_batch_shapes(leading):
    vector = jnp.asarray(RNG.standard_normal((*leading, 257)), jnp.float32)
    np.testing.assert_array_equal(FaceParams.from_vector(vector).to_vector(), vector)
    assert FaceParams.zeros(leading=leading).to_vector().shape == (*leading, 257)


def test_params_are_a_pytree():
    params = FaceParams.from_vector(jnp.zeros((4, 257)))
    assert len(jax.tree.leaves(params)) == 6
    assert jax.vmap(lambda p: p.to_vector())(params).shape == (4, 257)


@pytest.mark.parametrize("control, field", list(morphable.CONTROL_FIELDS.items()))
def test_control_takes_only_its_field(control, field):
    ours, theirs = (FaceParams.from_vector(jnp.full((2, 257), v)) for v in (1.0, 2.0))
    mixed = morphable.with_control(ours, theirs, control)
    for other in dataclasses.fields(FaceParams):
        assert float(getattr(mixed, other.name)[0, 0]) == (2.0 if other.name == field else 1.0)
    assert morphable.control_vector(mixed, control).shape == (2, morphable.SIZES[field])


def test_unknown_control_is_named():
    with pytest.raises(ValueError, match="control: expected one of .*'hair'"):
        morphable.control_vector(FaceParams.zeros(), "hair")


def test_shape_and_albedo_are_linear():
    model = toy_model()
    params = FaceParams.from_vector(jnp.asarray(RNG.standard_normal((2, 3, 257)), jnp.float32))
    expected = (np.asarray(model.mean_shape) + np.einsum("vcn,abn->abvc", model.identity_basis, params.identity)
                + np.einsum("vcn,abn->abvc", model.expression_basis, params.expression))
    np.testing.assert_allclose(jax.jit(morphable.shape)(model, params), expected, atol=1e-4)
    expected = np.asarray(model.mean_albedo) + np.einsum("vcn,abn->abvc", model.texture_basis, params.texture)
    np.testing.assert_allclose(jax.jit(morphable.albedo)(model, params), expected, atol=1e-4)
    one = jax.jit(morphable.shape)(model, FaceParams.zeros())
    np.testing.assert_allclose(one, model.mean_shape)


def test_shape_checks_the_basis():
    with pytest.raises(ValueError, match="identity: expected shape"):
        morphable.shape(toy_model(), dataclasses.replace(FaceParams.zeros(), identity=jnp.zeros(7)))


def test_normals_of_a_sphere_point_outwards():
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(0.1, np.pi - 0.1, 16))
    points = np.stack([np.sin(latitude) * np.cos(longitude), np.cos(latitude), np.sin(latitude) * np.sin(longitude)],
                      -1).reshape(-1, 3)
    index = np.arange(16 * 24).reshape(16, 24)
    right = np.roll(index, -1, 1)
    triangles = np.concatenate([np.stack([index[:-1], right[:-1], index[1:]], -1).reshape(-1, 3),
                                np.stack([right[1:], index[1:], right[:-1]], -1).reshape(-1, 3)])
    normals = np.asarray(jax.jit(morphable.vertex_normals)(points.astype(np.float32), triangles))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    assert (normals * points).sum(-1)[24:-24].min() > 0.99


def test_normals_match_the_slow_sum():
    vertices = RNG.standard_normal((2, 9, 3)).astype(np.float32)
    triangles = RNG.integers(0, 9, (15, 3))
    expected = np.zeros_like(vertices)
    for b in range(2):
        for i, j, k in triangles:
            if len({i, j, k}) == 3:
                normal = np.cross(vertices[b, j] - vertices[b, i], vertices[b, k] - vertices[b, i])
                expected[b, [i, j, k]] += normal / np.linalg.norm(normal)
    norm = np.linalg.norm(expected, axis=-1, keepdims=True)
    expected = np.where(norm > 0, expected / np.where(norm > 0, norm, 1), 0)
    for function in (morphable.vertex_normals, jax.jit(morphable.vertex_normals)):
        np.testing.assert_allclose(function(vertices, triangles), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(morphable.vertex_normals, (0, None))(vertices, triangles), expected, atol=1e-5)


def test_gradients_of_normals_also_at_zero_area():
    with jax.enable_x64(True):
        vertices = jnp.asarray(RNG.standard_normal((6, 3)))
        triangles = jnp.array([[0, 1, 2], [2, 1, 3], [3, 4, 0]])
        check_grads(jax.jit(lambda v: morphable.vertex_normals(v, triangles)), (vertices,), order=1, modes=["rev"])
        flat = jnp.zeros((3, 3)).at[1, 0].set(1.0).at[2, 0].set(2.0)
        triangle = jnp.array([[0, 1, 2], [0, 0, 1]])
        gradient = jax.jit(jax.grad(lambda v: jnp.sum(morphable.vertex_normals(v, triangle) * 3.0)))(flat)
        np.testing.assert_array_equal(gradient, 0)
