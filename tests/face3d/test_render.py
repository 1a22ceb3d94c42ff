"""The renderer against Deep3D's formulas and closed forms; gradients to every parameter; batches; degenerate poses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from pie_jax.config import CameraConfig
from pie_jax.face3d import morphable, render
from pie_jax.face3d.morphable import FaceParams, MorphableModel

CAMERA = CameraConfig()
draw = jax.jit(render.render, static_argnames=("camera", "resolution", "supersample"))
light = jax.jit(render.light)
light_direction = jax.jit(render.light_direction)


def toy_model(rows=9, columns=10):
    """An egg of head size with smooth made-up bases."""
    longitude, latitude = np.meshgrid(np.linspace(0, 2 * np.pi, columns, endpoint=False),
                                      np.linspace(0.1, np.pi - 0.1, rows))
    shape = np.stack([0.7 * np.sin(latitude) * np.cos(longitude), 1.1 * np.cos(latitude),
                      0.8 * np.sin(latitude) * np.sin(longitude)], -1).reshape(-1, 3)
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1)
    triangles = np.concatenate([np.stack([index[:-1], right[:-1], index[1:]], -1).reshape(-1, 3),
                                np.stack([right[1:], index[1:], right[:-1]], -1).reshape(-1, 3)])

    def basis(count, scale):
        waves = np.arange(1, count + 1)[None, None] * 0.37 + np.arange(3)[None, :, None]
        return scale * np.sin(waves * (1 + shape[:, :, None]))

    arrays = dict(mean_shape=shape, identity_basis=basis(80, 0.01), expression_basis=basis(64, 0.01),
                  mean_albedo=0.5 + 0.3 * np.sin(3 * shape), texture_basis=basis(80, 0.02))
    return MorphableModel(triangles=jnp.asarray(triangles, jnp.int32), expression_names=("jaw_open",) * 64,
                          landmark_vertices=jnp.arange(66, dtype=jnp.int32) % (rows * columns),
                          **{name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()})


MODEL = toy_model()


def some_params(leading=(), seed=0):
    rng = np.random.default_rng(seed)
    scale = {"identity": 1, "texture": 1, "expression": 1, "rotation": 0.3, "translation": 0.1, "illumination": 0.2}
    return FaceParams(**{name: jnp.asarray(scale[name] * rng.standard_normal((*leading, size)), jnp.float32)
                         for name, size in morphable.SIZES.items()})


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_shading_is_deep3d():
    """The nine functions written out as in the public code's constants a and c."""
    rng = np.random.default_rng(0)
    normals, albedo = unit(rng.standard_normal((6, 3))), rng.uniform(0, 1, (6, 3))
    gamma = rng.standard_normal(27)
    a = [np.pi, 2 * np.pi / np.sqrt(3), 2 * np.pi / np.sqrt(8)]
    c = [1 / np.sqrt(4 * np.pi), np.sqrt(3) / np.sqrt(4 * np.pi), 3 * np.sqrt(5) / np.sqrt(12 * np.pi)]
    nx, ny, nz = normals.T
    basis = np.stack([a[0] * c[0] + 0 * nx, -a[1] * c[1] * ny, a[1] * c[1] * nz, -a[1] * c[1] * nx,
                      a[2] * c[2] * nx * ny, -a[2] * c[2] * ny * nz, 0.5 * a[2] * c[2] / np.sqrt(3) * (3 * nz**2 - 1),
                      -a[2] * c[2] * nx * nz, 0.5 * a[2] * c[2] * (nx**2 - ny**2)], -1)
    light = gamma.reshape(3, 9) + np.array([0.8] + [0] * 8)
    result = jax.jit(render.shade)(*(jnp.asarray(v, jnp.float32) for v in (albedo, normals, gamma)))
    np.testing.assert_allclose(result, basis @ light.T * albedo, atol=1e-5)


@pytest.mark.parametrize("azimuth, elevation", [(0, 0), (50, 0), (-120, 30), (10, -70)])
def test_light_is_the_cosine_lobe(azimuth, elevation):
    """Irradiance equals the lobe's second-order expansion in closed form, near the true clamped cosine."""
    normals = unit(np.random.default_rng(1).standard_normal((200, 3)))
    az, el = np.deg2rad([azimuth, elevation])
    cosine = normals @ [np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)]
    gamma = light(azimuth, elevation, 0.7, ambient=0.3)
    received = np.asarray(jax.jit(render.irradiance)(jnp.asarray(normals, jnp.float32), gamma))
    expected = 0.3 + 0.7 * (0.25 + 0.5 * cosine + 5 / 16 * (1.5 * cosine**2 - 0.5))
    np.testing.assert_allclose(received, np.stack([expected] * 3, -1), atol=1e-5)
    assert np.abs(expected - (0.3 + 0.7 * np.maximum(cosine, 0))).max() < 0.7 * 0.1


def test_light_round_trip_and_grid():
    azimuth, elevation = (jnp.asarray(v) for v in np.meshgrid([-150.0, -30.0, 0.0, 90.0], [-80.0, 0.0, 45.0]))
    gamma = light(azimuth, elevation, 0.9, ambient=0.25)
    assert gamma.shape == (3, 4, 27)
    back = light_direction(gamma)
    for result, expected in zip(back, (azimuth, elevation, jnp.full_like(azimuth, 0.9))):
        np.testing.assert_allclose(result, expected, atol=1e-3)
    np.testing.assert_allclose(render.light_ambient(gamma), 0.25, atol=1e-5)


def test_no_light_has_no_direction_but_a_gradient():
    gamma = jnp.zeros(27)
    assert [float(v) for v in light_direction(gamma)] == [0, 0, 0]
    np.testing.assert_allclose(render.light_ambient(gamma), 0.8 * render.BAND0, rtol=1e-6)
    jacobian = jax.jit(jax.jacrev(lambda g: jnp.stack(render.light_direction(g))))
    for gamma in (jnp.zeros(27), light(0.0, 90.0, 0.5)):
        assert np.isfinite(jacobian(gamma)).all()


@pytest.mark.parametrize("azimuth, elevation, brighter", [(60, 0, np.s_[:, 16:]), (-60, 0, np.s_[:, :16]),
                                                         (0, 60, np.s_[:16]), (0, -60, np.s_[16:])])
def test_light_comes_from_where_it_is_said(azimuth, elevation, brighter):
    model = dataclasses.replace(MODEL, mean_albedo=jnp.full_like(MODEL.mean_albedo, 0.6))
    params = dataclasses.replace(FaceParams.zeros(), illumination=light(azimuth, elevation, 0.7, ambient=0.2))
    image = np.asarray(draw(model, params, camera=CAMERA, resolution=32).image)
    assert image[brighter].mean() > 1.25 * image.mean()


def test_landmarks_are_projected_vertices():
    params = some_params((2,))
    rendering = draw(MODEL, params, camera=CAMERA, resolution=48)
    world = np.asarray(jax.jit(morphable.shape)(MODEL, params))
    rotation = np.asarray(jax.jit(render.geometry.rotation_matrix)(params.rotation))
    world = world @ rotation.transpose(0, 2, 1) + np.asarray(params.translation)[:, None]
    depth = 10 - world[..., 2]
    expected = np.stack([0.5 + CAMERA.focal * world[..., 0] / depth, 0.5 - CAMERA.focal * world[..., 1] / depth], -1)
    np.testing.assert_allclose(rendering.landmarks, 48 * expected[:, :66], atol=1e-3)
    few = jax.jit(lambda p: render.project_landmarks(MODEL, p, CAMERA, resolution=48))(params)
    np.testing.assert_allclose(few, rendering.landmarks, atol=1e-3)


def test_camera_crop_moves_the_face():
    """Half the crop in the middle of the portrait: the same picture, half as large."""
    params = some_params()
    small = draw(MODEL, params, camera=CameraConfig(crop_x=0.25, crop_y=0.25, crop_size=0.5), resolution=64)
    whole = draw(MODEL, params, camera=CAMERA, resolution=32)
    np.testing.assert_allclose(small.image[16:48, 16:48], whole.image, atol=1e-3)
    np.testing.assert_allclose(small.landmarks, whole.landmarks + 16, atol=1e-3)


@functools.cache
def mapped():
    """Two faces [2, 1], and what they are drawn as by vmap [2]."""
    params = some_params((2, 1))
    flat = FaceParams.from_vector(params.to_vector().reshape(-1, 257))
    return params, jax.jit(jax.vmap(lambda p: render.render(MODEL, p, CAMERA, resolution=24)))(flat)


@pytest.mark.parametrize("leading", [(), (2, 1)])
def test_batch_shapes_vmap_and_eager(leading):
    params, expected = mapped()
    if not leading:
        params, expected = (jax.tree.map(lambda x, first=first: x[first], each)
                            for each, first in ((params, (0, 0)), (expected, slice(1))))
    together = draw(MODEL, params, camera=CAMERA, resolution=24)
    for field, tail in (("image", (24, 24, 3)), ("coverage", (24, 24)), ("landmarks", (66, 2))):
        result = getattr(together, field)
        assert result.shape == (*leading, *tail)
        np.testing.assert_allclose(result.reshape(-1, *tail), getattr(expected, field), atol=1e-4)


def test_gradients_to_every_field():
    """float64 against finite differences: shape, colours, pose towards the camera, light."""
    with jax.enable_x64(True):
        model = jax.tree.map(lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, toy_model(7, 8))
        params = jax.tree.map(lambda a: a.astype(jnp.float64), some_params(seed=4))
        weight = jnp.asarray(np.random.default_rng(5).standard_normal((16, 16, 3)))

        @jax.jit
        def value(params):
            rendering = render.render(model, params, CAMERA, resolution=16)
            return jnp.sum(weight * jnp.sin(rendering.image)) + 1e-3 * jnp.sum(rendering.landmarks**2)

        for field, gradient in vars(jax.grad(value)(params)).items():
            assert float(jnp.abs(gradient).max()) > 1e-4, field
        check_grads(value, (params,), order=1, modes=["rev"], eps=1e-6, rtol=1e-4)


@jax.jit
def gradient_and_rendering(params, model):
    def value(params):
        rendering = render.render(model, params, CAMERA, resolution=16)
        return jnp.sum(rendering.image**2) + jnp.sum(rendering.landmarks**2), rendering

    return jax.grad(value, has_aux=True)(params)


@pytest.mark.parametrize("name, value", [("translation", (0, 0, 20)), ("translation", (0, 0, 10)),
                                         ("translation", (500, 0, 0)), ("rotation", (0, 0, 0)), ("identity", 0)])
def test_degenerate_poses_stay_finite(name, value):
    params = dataclasses.replace(some_params(), **{name: jnp.broadcast_to(jnp.asarray(value, jnp.float32),
                                                                           (morphable.SIZES[name],))})
    flat = dataclasses.replace(jax.tree.map(jnp.zeros_like, MODEL), triangles=MODEL.triangles)
    model = flat if name == "identity" else MODEL
    gradient, rendering = gradient_and_rendering(params, model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, rendering)))
    if name != "rotation" and value != (0, 0, 10):
        assert not np.asarray(rendering.coverage).any() and not np.asarray(rendering.image).any()


def test_supersampled_coverage_is_the_area():
    params = FaceParams.zeros()
    hard = draw(MODEL, params, camera=CAMERA, resolution=16)
    soft = draw(MODEL, params, camera=CAMERA, resolution=16, supersample=4)
    fine = draw(MODEL, params, camera=CAMERA, resolution=64)
    blocks = np.asarray(fine.coverage).reshape(16, 4, 16, 4)
    np.testing.assert_allclose(soft.coverage, blocks.mean((1, 3)), atol=1e-6)
    composed = np.asarray(soft.image) * np.asarray(soft.coverage)[..., None]
    np.testing.assert_allclose(composed, np.asarray(fine.image).reshape(16, 4, 16, 4, 3).mean((1, 3)), atol=1e-4)
    np.testing.assert_allclose(soft.landmarks, hard.landmarks)
    assert 0 < (np.asarray(soft.coverage) % 1 > 0).mean() < 0.3


def test_vertices_of_the_near_side_are_visible():
    params = dataclasses.replace(FaceParams.zeros(), illumination=light(30, 20, 0.5))
    result = jax.jit(render.render_vertices, static_argnames=("camera", "resolution"))(
        MODEL, params, camera=CAMERA, resolution=64)
    near = np.asarray(MODEL.mean_shape)[:, 2] > 0.3
    far = np.asarray(MODEL.mean_shape)[:, 2] < -0.2
    visible = np.asarray(result.visible)
    assert visible[near].mean() > 0.95 and not visible[far].any()
    assert result.position.shape == (90, 2) and result.colour.shape == (90, 3) and result.landmarks.shape == (66, 2)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="resolution, supersample: expected at least 1"):
        render.render(MODEL, FaceParams.zeros(), CAMERA, resolution=0)
    with pytest.raises(ValueError, match="gamma: expected shape"):
        render.light_direction(jnp.zeros(9))


def test_no_second_trace():
    traces = []

    @jax.jit
    def value(params):
        traces.append(1)
        return render.render(MODEL, params, CAMERA, resolution=16).image

    for seed in range(3):
        value(some_params(seed=seed))
    assert len(traces) == 1
