"""Hair and skull: still without a turn, outline to outline with one, and what lies before moves by its depth."""

import dataclasses

import jax
import numpy as np
import pytest

from pie_jax.config import CameraConfig
from pie_jax.face3d.geometry import camera_from_model
from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import project
from pie_jax.photo.skull import head_motion

R = 256
CAMERA = CameraConfig()
MIDDLE, HALF = np.float32([0, 0.35, -0.8]), np.float32([0.8, 1.05, 0.9])


def posed(yaw=0.0, roll=0.0):
    return dataclasses.replace(FaceParams.zeros(), rotation=np.radians(np.float32([0, yaw, roll])),
                               translation=np.float32([0, -0.3, 0]))


def at(params, *points):
    return np.asarray(project(np.float32(points), params, CAMERA, resolution=R))[:, :2]


@pytest.fixture(scope="module")
def moved():
    face = at(posed(), (-0.7, -0.9, 0), (0.7, 0.9, 0))
    motion = jax.jit(lambda source, target: head_motion(face, source, target, CAMERA, resolution=R))
    return lambda source, target: [np.asarray(found) for found in motion(source, target)]


def toward_camera(params):
    away = np.asarray(camera_from_model(params.rotation, params.translation, CAMERA)) - MIDDLE
    return away / np.linalg.norm(away)


def read(displacement, place):
    x, y = np.round(np.asarray(place) - 0.5).astype(int)
    return displacement[:, y, x]


def test_without_a_turn_nothing_moves(moved):
    displacement, head, over = moved(posed(10, 5), posed(10, 5))
    np.testing.assert_allclose(displacement, 0.0, atol=1e-3)
    crown, chin = (tuple(np.round(p).astype(int)[::-1]) for p in at(posed(10, 5), (0, 1.1, -0.5), (0, -0.8, 0)))
    assert head[crown] > 0.9 and head[-1, -1] < 0.3 and over[crown] > 0.9 and over[chin] < 0.1


@pytest.mark.parametrize("yaws", [(0, 15), (0, -15), (25, 10), (-10, 5)])
def test_the_outline_comes_from_the_outline(moved, yaws):
    source, target = posed(yaws[0]), posed(yaws[1])
    displacement, _, _ = moved(source, target)
    facing = sum(toward_camera(p) for p in (source, target))
    across = np.float32([facing[2], 0, -facing[0]]) / np.hypot(facing[0], facing[2])
    for side in (-1, 1):  # of the skull, as both poses see it
        outline = MIDDLE + side * 1.15 * HALF[0] * across
        before, after = (at(p, outline)[0] for p in (source, target))
        np.testing.assert_allclose(read(displacement, (before + after) / 2), before - after, atol=0.5)


def test_what_is_nearer_moves_by_its_depth(moved):
    source, target = posed(0), posed(12)
    displacement, _, _ = moved(source, target)
    front = MIDDLE + HALF * np.float32([0, 0, 1 / np.sqrt(1.1)])  # of the dome
    before, after = (at(p, front)[0] for p in (source, target))
    np.testing.assert_allclose(read(displacement, (before + after) / 2), before - after, atol=1.0)
    middle_before, middle_after = (at(p, MIDDLE)[0] for p in (source, target))
    assert after[0] - before[0] > middle_after[0] - middle_before[0] + 2


def test_the_way_back_is_the_same_way(moved):
    forth, back = moved(posed(-5, 3), posed(15, -2)), moved(posed(15, -2), posed(-5, 3))
    np.testing.assert_allclose(forth[0], -back[0], atol=1e-3)
    for one, other in zip(forth[1:], back[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_pose_gives_finite_motion():
    face = at(posed(), (-0.7, -0.9, 0), (0.7, 0.9, 0))
    turned = jax.jit(lambda p, q: head_motion(face, p, q, CAMERA, resolution=32))
    for yaw in (-90, -45, 0, 60, 90):
        for roll in (-90, 0, 45):
            target = dataclasses.replace(posed(yaw, roll), translation=np.float32([0.5, 0.4, -1]))
            assert all(np.isfinite(found).all() for found in turned(posed(20), target))
