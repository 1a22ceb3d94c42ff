"""Where pixels come from: nowhere new without an edit, where the mesh says with one; the smooth field between."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.face3d import geometry
from pie_jax.face3d.morphable import shape, vertex_normals
from pie_jax.face3d.render import light, project, project_landmarks
from pie_jax.photo.holes import holes_of
from pie_jax.photo.maps import sample, smooth_field
from pie_jax.photo.motion import find_motion, lids_met, source_face_of

R = 256


def displacement_at(motion, place):
    return np.asarray(sample(motion.displacement, jnp.asarray(place)[..., 0], jnp.asarray(place)[..., 1])).T


@pytest.fixture(scope="module")
def moved(photo_pack):
    """(source, target, landmarks of the source or None) -> Motion, by a program of each of the two halves."""
    model, holes, camera = photo_pack.morphable, holes_of(photo_pack.morphable), photo_pack.configs.camera
    face = jax.jit(lambda p, points: source_face_of(model, holes, p, camera, resolution=R, landmarks=points))
    motion = jax.jit(lambda source_face, q: find_motion(model, holes, source_face, q, camera))
    return lambda source, target, landmarks=None: motion(face(source, landmarks), target)


def test_the_models_holes_are_two_eyes_and_a_mouth(photo_pack):
    holes = holes_of(photo_pack.morphable)
    assert set(holes.region) == {1, 2, 3}
    places = np.asarray(photo_pack.morphable.mean_shape)
    middles = [places[holes.triangles[holes.region == r]].mean((0, 1)) for r in (1, 2, 3)]
    assert middles[0][0] < 0 < middles[1][0] and middles[2][1] < 0 < middles[0][1]
    edges = np.concatenate([holes.triangles[:, [0, 1]], holes.triangles[:, [1, 2]], holes.triangles[:, [2, 0]]])
    assert set(np.unique(edges)) == set(holes.vertices)


def test_without_an_edit_nothing_moves(moved, source):
    motion = moved(source, source)
    np.testing.assert_allclose(motion.displacement, 0.0, atol=1e-3)
    np.testing.assert_allclose(motion.light, 1.0, atol=1e-4)
    assert float(motion.opened) == pytest.approx(0, abs=1e-5)


def test_a_turn_is_the_meshs_own(photo_pack, moved, source):
    turned = dataclasses.replace(source, rotation=source.rotation + np.float32([0, 0.2, 0]))
    motion = moved(source, turned)
    a, b = (np.asarray(project(shape(photo_pack.morphable, p), p, photo_pack.configs.camera, resolution=R))[:, :2]
            for p in (source, turned))
    inner = np.asarray(photo_pack.morphable.landmark_vertices)[[27, 28, 29, 31, 35, 48, 54, 19]]  # nose, mouth, a brow
    assert np.abs(b[inner] + displacement_at(motion, b[inner]) - a[inner]).max() < 1.0
    corners = np.asarray(motion.displacement)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, 0.0, atol=0.5)


def turned_far(source, *yaws):
    """The face of `source` turned to each of the yaws, radians."""
    return [dataclasses.replace(source, rotation=np.float32([0, yaw, 0])) for yaw in yaws]


def test_what_the_photo_shows_almost_edge_on_is_not_read(photo_pack, moved, source):
    before, after = turned_far(source, 0.35, -0.1)
    model, camera = photo_pack.morphable, photo_pack.configs.camera
    normals = [np.asarray(vertex_normals(geometry.rotate(shape(model, p), p.rotation), model.triangles))[:, 2]
               for p in (before, after)]
    away = (normals[0] < -0.1) & (normals[1] > 0.3)  # the cheek that comes round
    assert away.sum() > 20
    places = np.asarray(project(shape(model, after), after, camera, resolution=R))[away, :2]
    seen = np.asarray(moved(before, after).seen)
    assert seen[places[:, 1].astype(int), places[:, 0].astype(int)].mean() < 0.1
    assert seen[np.asarray(moved(before, after).face) > 0].mean() > 0.8


def test_no_step_of_the_motion_tears_the_skin(photo_pack, moved, source):
    before, after = turned_far(source, 0.0, 0.45)
    motion, camera = moved(before, after), photo_pack.configs.camera
    nose = np.asarray(project_landmarks(photo_pack.morphable, after, camera, resolution=R))[27:36]
    (left, top), (right, bottom) = (edge.astype(int) for edge in (nose.min(axis=0) - 8, nose.max(axis=0) + 8))
    steps = [np.abs(np.diff(np.asarray(motion.displacement)[:, top:bottom, left:right], axis=axis)).max()
             for axis in (1, 2)]
    assert max(steps) < 2.5  # px; where the nose hides the cheek, 12 otherwise


def test_lids_that_meet_keep_their_edge(photo_pack, moved, source):
    names, model, camera = photo_pack.morphable.expression_names, photo_pack.morphable, photo_pack.configs.camera
    shut = dataclasses.replace(source, expression=source.expression + 3 * np.eye(64, dtype=np.float32)[
        names.index("blink")])
    motion = moved(source, shut)
    eyes = np.asarray(project_landmarks(model, shut, camera, resolution=R))[36:48]
    (left, top), (right, bottom) = (edge.astype(int) for edge in (eyes.min(axis=0) - 4, eyes.max(axis=0) + 4))
    steps = np.abs(np.diff(np.asarray(motion.displacement)[:, top:bottom, left:right], axis=1)).max()
    assert steps > 3  # px: a slope would smear the lids


def test_a_mouth_that_the_photo_shows_open_is_not_painted(photo_pack, moved, source):
    """Its own inside is stretched instead, however far it opens."""
    jaw = jax.nn.one_hot(photo_pack.morphable.expression_names.index("jaw_open"), 64)
    closed, wide, wider = (dataclasses.replace(source, expression=source.expression + x * jaw) for x in (0.0, 2.0, 4.0))
    motion = moved(closed, wide)
    assert float(motion.gap) > 0.5 and float(motion.opened) == 1
    own = moved(wide, wider)
    assert float(own.gap) > 1.2 * float(motion.gap) and float(own.opened) == 0


def test_an_opened_mouth_and_raised_brows_leave_the_eyes_alone(photo_pack, moved, source):
    names = photo_pack.morphable.expression_names
    change = np.zeros(64, np.float32)
    change[names.index("jaw_open")], change[names.index("brow_raise")] = 1.0, 2.0
    motion = moved(source, dataclasses.replace(source, expression=source.expression + change))
    assert float(motion.opened) == 1 and float(np.asarray(motion.mouth).sum()) > 20
    eyes = np.asarray(project(shape(photo_pack.morphable, source), source, photo_pack.configs.camera, resolution=R))
    holes = holes_of(photo_pack.morphable)
    for region in (1, 2):
        middle = eyes[np.unique(holes.triangles[holes.region == region])].mean(axis=0)[:2]
        assert np.abs(displacement_at(motion, middle)).max() < 0.6


def test_light_is_a_ratio_on_the_face(moved, source):
    lit = dataclasses.replace(source, illumination=np.asarray(light(70.0, 10.0, 1.2, ambient=0.3)))
    factor = np.asarray(moved(source, lit).light)
    face = np.asarray(moved(source, lit).face) > 0
    middle = R // 2
    left, right = factor[..., :middle][:, face[:, :middle]].mean(), factor[..., middle:][:, face[:, middle:]].mean()
    assert right > 1.3 * left and abs(factor[:, 0, 0] - 1).max() < 0.2


def test_the_smooth_field_holds_what_is_sure_and_is_smooth():
    known, sure = jnp.zeros((1, 64, 64)), jnp.zeros((64, 64))
    known, sure = known.at[:, 24:40, 24:40].set(3.0), sure.at[24:40, 24:40].set(1e3)
    field = np.asarray(jax.jit(partial(smooth_field, coarser=4))(known, sure))[0]
    assert field[32, 32] == pytest.approx(3.0, abs=0.05) and abs(field[0]).max() < 0.5
    assert np.all(np.diff(field[32, 40:]) <= 1e-3) and np.abs(np.diff(field[32])).max() < 0.6


def test_lids_close_until_they_meet(photo_pack, source):
    model, names = photo_pack.morphable, photo_pack.morphable.expression_names
    blink = names.index("blink")

    def asked(value):
        return dataclasses.replace(source, expression=np.eye(64, dtype=np.float32)[blink] * value)

    met = [float(lids_met(model, source, asked(value)).expression[blink]) for value in (0.5, 4.0, 8.0)]
    assert met[0] == pytest.approx(0.5) and 1.0 < met[1] < 4.0 and met[2] == pytest.approx(met[1], rel=0.02)


def test_the_mesh_is_bent_on_to_the_points_of_the_photo(photo_pack, moved, source):
    camera = photo_pack.configs.camera
    own = np.asarray(project_landmarks(photo_pack.morphable, source, camera, resolution=1))
    shifted = own + np.float32([0.02, 0.0])
    turned = dataclasses.replace(source, rotation=source.rotation + np.float32([0, 0.15, 0]))
    plain, bent = (moved(source, turned, points) for points in (own, shifted))
    nose = own[30] * R
    away = nose + np.float32([0.02 * R, 0])
    assert float(sample(bent.face, *away)) == 1
    np.testing.assert_allclose(displacement_at(plain, nose), displacement_at(bent, away), atol=0.5)  # as before, there


def test_around_the_face_the_way_back_undoes_the_way(moved, source):
    turned = dataclasses.replace(source, rotation=source.rotation + np.float32([0.05, 0.26, 0]))
    forth, back = moved(source, turned), moved(turned, source)
    left = np.hypot(*np.asarray(sample(forth.displacement, *back.sources()) + back.displacement))
    around = np.asarray(back.face) == 0
    far = np.hypot(*np.asarray(back.displacement))[around]
    assert far.max() > 15 and np.mean(far > 5) > 0.5  # px
    assert np.sqrt(np.mean(left[around] ** 2)) < 0.15 and left[around].max() < 1.5


def test_the_frame_stays_where_a_head_reaches_it(moved, source):
    beside = dataclasses.replace(source, translation=source.translation + np.float32([0.75, 0.3, 0]))
    turned = dataclasses.replace(beside, rotation=beside.rotation + np.float32([0.1, 0.25, 0]))
    for motion in (moved(beside, turned), moved(turned, beside)):
        across, down = np.asarray(motion.displacement)
        assert np.abs(across).max() > 10
        for plane in (across, down):
            assert max(np.abs(plane[[0, -1]]).max(), np.abs(plane[:, [0, -1]]).max()) < 0.7
        x, y = (np.asarray(place) for place in motion.sources())
        assert 0 <= x.min() and x.max() <= R and 0 <= y.min() and y.max() <= R
