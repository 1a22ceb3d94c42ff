"""Rotations and camera: closed forms, conventions, gradients at the singular points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from pie_jax.config import CameraConfig
from pie_jax.face3d import geometry


def world_from_px(points, camera, *, resolution):
    """World points of px x, y and depth [V, 3]: the camera's equations the other way round."""
    depth, side = points[..., 2], camera.crop_size * resolution
    x = ((points[..., 0] - camera.crop_x * resolution) / side - camera.centre_x) * depth / camera.focal
    y = -((points[..., 1] - camera.crop_y * resolution) / side - camera.centre_y) * depth / camera.focal
    return np.stack([x, y, camera.distance - depth], axis=-1)


def axis_rotations(pitch, yaw, roll):
    cx, sx, cy, sy, cz, sz = *(f(pitch) for f in (np.cos, np.sin)), *(f(yaw) for f in (np.cos, np.sin)), *(
        f(roll) for f in (np.cos, np.sin))
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return z @ y @ x


def test_rotation_is_roll_yaw_pitch():
    angles = np.random.default_rng(0).uniform(-2, 2, (2, 5, 3)).astype(np.float32)
    expected = np.array([axis_rotations(*a) for a in angles.reshape(-1, 3)]).reshape(2, 5, 3, 3)
    np.testing.assert_allclose(geometry.rotation_matrix(angles), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(geometry.rotation_matrix))(angles), expected, atol=1e-6)


def test_rotation_convention():
    nose, crown, ear = jnp.eye(3)[2][None], jnp.eye(3)[1][None], jnp.eye(3)[0][None]
    turn = 0.3
    assert geometry.rotate(nose, jnp.array([0, turn, 0.0]))[0, 0] > 0  # yaw: to the image's right
    assert geometry.rotate(nose, jnp.array([turn, 0, 0.0]))[0, 1] < 0  # pitch: down
    assert geometry.rotate(crown, jnp.array([turn, 0, 0.0]))[0, 2] > 0
    assert geometry.rotate(ear, jnp.array([0, 0, turn]))[0, 1] > 0  # roll: anticlockwise


def test_camera_is_deep3d():
    """The public projection matrix [[f, 0, c], [0, f, c], [0, 0, 1]] at 224 px, its y flipped into rows."""
    points = np.random.default_rng(1).uniform(-1, 1, (7, 3)).astype(np.float32)
    cam = np.stack([points[:, 0], points[:, 1], 10 - points[:, 2]], -1)
    image = cam @ np.array([[1015.0, 0, 112], [0, 1015, 112], [0, 0, 1]]).T
    image = image[:, :2] / image[:, 2:]
    px = geometry.px_from_world(points, CameraConfig(), resolution=224)
    np.testing.assert_allclose(px[:, 0], image[:, 0], rtol=1e-5)
    np.testing.assert_allclose(px[:, 1], 224 - image[:, 1], rtol=1e-5)
    np.testing.assert_allclose(px[:, 2], cam[:, 2], rtol=1e-6)


def test_crop_box_and_inverse():
    camera = CameraConfig(crop_x=0.2, crop_y=0.1, crop_size=0.6)
    points = np.random.default_rng(2).uniform(-1, 1, (3, 4, 3)).astype(np.float32)
    px = geometry.px_from_world(points, camera, resolution=128)
    crop = geometry.crop_from_world(points, camera)
    np.testing.assert_allclose(px[..., 0], 128 * (0.2 + 0.6 * crop[..., 0]), rtol=1e-5)
    np.testing.assert_allclose(px[..., 1], 128 * (0.1 + 0.6 * crop[..., 1]), rtol=1e-5)
    np.testing.assert_allclose(world_from_px(np.asarray(px), camera, resolution=128), points, atol=2e-5)


def test_points_at_and_behind_the_camera_are_finite():
    points = jnp.array([[0.3, 0.2, 10.0], [0.3, 0.2, 12.0], [0.0, 0.0, 10.0]])
    out, pull = jax.vjp(lambda p: geometry.crop_from_world(p, CameraConfig()), points)
    assert np.isfinite(out).all() and np.isfinite(pull(jnp.ones_like(out))[0]).all()
    np.testing.assert_allclose(out[:, 2], [0, -2, 0])


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.2, -0.4, 0.1)])
def test_gradients(angles):
    with jax.enable_x64(True):
        points = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (4, 3)))

        def place(points, rotation, translation):
            world = geometry.world_from_model(points, rotation, translation)
            return geometry.px_from_world(world, CameraConfig(), resolution=64)

        arguments = points, jnp.array(angles), jnp.array([0.1, 0.2, 0.3])
        check_grads(jax.jit(place), arguments, order=1, modes=["rev", "fwd"])


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="rotation: expected shape"):
        geometry.rotation_matrix(jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="points: expected shape"):
        geometry.px_from_world(jnp.zeros(3), CameraConfig(), resolution=8)


# Properties


angles = st.lists(st.floats(-3.25, 3.25, width=32), min_size=3, max_size=3).map(np.float32)
turn, slope = jax.jit(geometry.rotation_matrix), jax.jit(jax.jacrev(geometry.rotation_matrix))
to_px = jax.jit(lambda points: geometry.px_from_world(points, CameraConfig(), resolution=128))


def from_px(points):
    return world_from_px(np.asarray(points), CameraConfig(), resolution=128)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(angles)
def test_every_rotation_is_one(rotation):
    matrix = np.asarray(turn(rotation), np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=2e-6)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=2e-6)
    assert np.isfinite(slope(rotation)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1.5, 1.5, width=32), min_size=3, max_size=3).map(np.float32))
def test_every_point_before_the_camera_is_found_again(point):
    px = to_px(point[None])
    assert px[0, 2] > 0
    np.testing.assert_allclose(from_px(px)[0], point, atol=5e-5)


def test_lines_of_sight_and_the_cameras_place_undo_the_projection():
    camera, rng = CameraConfig(), np.random.default_rng(5)
    points = rng.normal(0, 0.5, (6, 3)).astype(np.float32)
    rotation, translation = np.float32([0.2, -0.4, 0.3]), np.float32([0.1, -0.2, 0.5])
    world = geometry.world_from_model(points, rotation, translation)
    px = np.asarray(geometry.px_from_world(world, camera, resolution=128))
    lines = np.asarray(geometry.lines_of_sight(px[:, :2], camera, resolution=128))
    np.testing.assert_allclose([0, 0, camera.distance] + px[:, 2:] * lines, world, atol=1e-5)
    eye = np.asarray(geometry.camera_from_model(rotation, translation, camera))
    np.testing.assert_allclose(geometry.world_from_model(eye[None], rotation, translation)[0], [0, 0, camera.distance],
                               atol=1e-5)
