"""The studio: a head whose parts are where their names say, scenes that repeat, pictures without holes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.face3d import morphable, render
from pie_jax.face3d.geometry import px_from_world
from pie_jax.face3d.morphable import FaceParams
from pie_jax.studio import names, sheet
from pie_jax.studio.drawing import _draw_batch, render_scenes, scene_vertices
from pie_jax.studio.head import build_head
from pie_jax.studio.render import contact_sheet, load_truth, main
from pie_jax.studio.scene import (
    STUDIO_CAMERA,
    align_translation,
    light,
    posed,
    sample_scenes,
    scenes_of_seeds,
    with_params,
)
from pie_jax.studio.sheet import changed
from pie_jax.studio.zbuffer import nearest_triangles

RESOLUTION = 64
COUNT = 6  # always drawn at this size and number: by one program


@pytest.fixture(scope="module")
def head():
    return build_head()


@pytest.fixture(scope="module")
def scenes(head):
    return sample_scenes(jax.random.key(0), COUNT, head=head)


@pytest.fixture(scope="module")
def seen(head, scenes):
    return render_scenes(head, scenes, resolution=RESOLUTION)


def expression(**values):
    """[64] with the named expressions at a share of their FULL value."""
    out = np.zeros(64, np.float32)
    for name, share in values.items():
        out[names.EXPRESSION_NAMES.index(name)] = share * names.FULL[name]
    return out


def face(head, **values):
    model = head.morphable
    return model.mean_shape + model.expression_basis @ expression(**values)


def test_names_are_unique_and_sides_come_in_pairs():
    for group, count in ((names.EXPRESSION_NAMES, 64), (names.IDENTITY_NAMES, 80), (names.TEXTURE_NAMES, 80)):
        assert len(group) == len(set(group)) == count
    for name in names.EXPRESSION_NAMES:
        if name.endswith("_left"):
            assert name.replace("_left", "_right") in names.EXPRESSION_NAMES
    assert set(names.FULL) == set(names.EXPRESSION_NAMES)


def test_shapes_and_values(head):
    model = head.morphable
    vertices = model.mean_shape.shape[0]
    assert 3000 <= vertices <= 6000 and model.landmark_vertices.shape == (66,)
    assert model.identity_basis.shape == (vertices, 3, 80) and model.texture_basis.shape == (vertices, 3, 80)
    assert model.expression_basis.shape == (vertices, 3, 64) and model.expression_names == names.EXPRESSION_NAMES
    assert head.triangles.shape[0] < 16_000 and head.adjacent.shape[0] == head.triangles.max() + 1
    np.testing.assert_array_equal(head.triangles[: len(model.triangles)], model.triangles)
    for leaf in jax.tree.leaves(head):
        assert np.isfinite(leaf).all() and (leaf.dtype in (np.float32, np.int32, bool))
    assert 0 <= model.mean_albedo.min() and model.mean_albedo.max() <= 1
    width, height, _ = np.ptp(model.mean_shape, axis=0)
    assert 1.2 < width < 1.6 and 1.4 < height < 2.3


def _mirror(points):
    """index [V] of the vertex that mirrors each, and how far off it is at most."""
    flipped = points * np.array([-1, 1, 1], np.float32)
    index = np.array([np.argmin(((points - f) ** 2).sum(1)) for f in flipped])
    return index, np.abs(points[index] - flipped).max(1)


def test_left_and_right_mirror_and_add_up(head):
    model = head.morphable
    index, off = _mirror(np.asarray(model.mean_shape))
    twin = np.arange(len(index)) == index[index]  # slits repeat a place: those vertices are left out
    exact = (off < 1e-5) & twin & (np.abs(model.mean_shape[:, 1] - model.mean_shape[index, 1]) < 1e-6)
    lips = np.abs(model.expression_basis[..., names.EXPRESSION_NAMES.index("lips_part")]).max(1) < 1e-4
    exact &= lips
    assert exact.mean() > 0.5
    sign = np.array([-1, 1, 1], np.float32)
    at = names.EXPRESSION_NAMES.index
    for name in names.EXPRESSION_NAMES:
        if not name.endswith("_left"):
            continue
        left, right = (model.expression_basis[..., at(name[:-5] + side)] for side in ("_left", "_right"))
        np.testing.assert_allclose((left[index] * sign)[exact], right[exact], atol=2e-5, err_msg=name)
        if name[:-5] not in names.EXPRESSION_NAMES:  # the whole mouth or jaw goes to that side
            assert left[..., 0].sum() > 0 > right[..., 0].sum()
            continue
        np.testing.assert_allclose(left + right, model.expression_basis[..., at(name[:-5])], atol=1e-6, err_msg=name)
        weight = np.abs(left).sum(1)
        assert (weight * model.mean_shape[:, 0]).sum() > 0, f"{name} is not on the person's left"


def test_landmarks_lie_where_ibug_says(head):
    points = head.morphable.mean_shape[head.morphable.landmark_vertices]
    jaw, brows, nose, eyes, mouth = points[:17], points[17:27], points[27:36], points[36:48], points[48:]
    assert (np.diff(jaw[:, 0]) > -5e-3).all() and jaw[8, 1] == jaw[:, 1].min()
    assert (np.diff(brows[:, 0]) > 0).all() and brows[:, 1].min() > eyes[:, 1].max()
    assert (np.diff(nose[:4, 1]) < 0).all() and nose[3, 2] == points[:, 2].max() and (np.diff(nose[4:, 0]) > 0).all()
    for eye, x in ((eyes[:6], -0.31), (eyes[6:], 0.31)):
        assert abs(eye[:, 0].mean() - x) < 0.03 and eye[0, 0] < eye[3, 0]
        assert eye[1:3, 1].min() > eye[[0, 3], 1].max() - 0.01 and eye[4:, 1].max() < eye[1:3, 1].min() - 0.05
    outer, inner = mouth[:12], mouth[12:]
    assert outer[0, 0] < -0.2 and outer[6, 0] > 0.2 and outer[1:6, 1].min() > outer[7:, 1].max()
    assert (np.diff(inner[:3, 0]) > 0).all() and (np.diff(inner[3:, 0]) < 0).all()
    opened = face(head, jaw_open=1)[head.morphable.landmark_vertices[60:]]
    assert (opened[:3, 1] - opened[3:][::-1, 1]).min() > 0.1  # upper lip over lower lip


def test_full_blink_closes_the_lids_of_everybody(head):
    model = head.morphable
    upper, lower = model.landmark_vertices[[37, 38, 43, 44]], model.landmark_vertices[[41, 40, 47, 46]]
    rng = np.random.default_rng(0)
    for identity in (np.zeros(80), *rng.normal(size=(5, 80))):
        person = model.mean_shape + model.identity_basis @ identity
        assert (person[upper, 1] - person[lower, 1]).min() > 0.05
        closed = person + model.expression_basis @ expression(blink=1)
        np.testing.assert_allclose(closed[upper], closed[lower], atol=1e-5)
        one = person + model.expression_basis @ expression(blink_left=1)
        np.testing.assert_allclose(one[upper[2:]], one[lower[2:]], atol=1e-5)
        np.testing.assert_allclose(one[upper[:2]], person[upper[:2]], atol=1e-6)


def test_closed_lids_hide_the_eyeballs(head, scenes):
    frontal = posed(head, scenes, jnp.zeros((COUNT, 3)))
    count = {}
    for share in (0, 1):
        blinking = jnp.broadcast_to(jnp.asarray(expression(blink=share)), (COUNT, 64))
        segments = render_scenes(head, with_params(frontal, expression=blinking), resolution=64).segments
        count[share] = (np.asarray(segments) == names.SEGMENTS.index("eye")).sum((1, 2))
    assert count[0].min() >= 8 and count[1].max() == 0


@pytest.mark.parametrize(
    ("name", "landmarks", "least"),
    [
        ("jaw_open", (63, 64, 65), 3.0),
        ("smile", (48, 54), 1.0),
        ("blink", (37, 38, 43, 44), 1.0),
        ("brow_raise", range(17, 27), 1.2),
    ],
)
def test_complete_expressions_move_pixels_at_64_px(head, name, landmarks, least):
    params = FaceParams.zeros(leading=(2,))
    params = dataclasses.replace(
        params,
        expression=jnp.stack([jnp.zeros(64), jnp.asarray(expression(**{name: 1}))]),
        translation=jnp.broadcast_to(align_translation(head, jnp.zeros(80), jnp.zeros(3)), (2, 3)),
    )
    points = render.project_landmarks(jax.tree.map(jnp.asarray, head.morphable), params, STUDIO_CAMERA, resolution=64)
    moved = np.linalg.norm(np.asarray(points[1] - points[0])[np.array(list(landmarks))], axis=1)
    assert moved.mean() > least


def test_a_seed_is_a_person_and_keys_repeat(head, scenes):
    again = sample_scenes(jax.random.key(0), COUNT, head=head)
    jax.tree.map(np.testing.assert_array_equal, scenes, again)
    few, many = (scenes_of_seeds(seeds, head=head) for seeds in (range(7, 7 + COUNT), range(5, 5 + COUNT)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[2], atol=1e-6), few, many)
    assert np.abs(many.params.identity[0] - many.params.identity[1]).max() > 0.5
    assert len(set(np.asarray(many.hair_style).tolist())) >= 3


def test_values_of_scenes_are_in_range(scenes):
    for name in ("eye_colour", "hair_colour", "cloth_colour", "background_top", "background_bottom"):
        value = np.asarray(getattr(scenes, name))
        assert value.shape == (COUNT, 3) and value.min() >= 0 and value.max() <= 1
    assert np.abs(scenes.params.identity).max() <= 2 and np.abs(scenes.params.rotation).max() <= 0.6
    assert {leaf.shape[0] for leaf in jax.tree.leaves(scenes)} == {COUNT}


def test_a_turned_head_stays_framed(head, scenes):
    corners = head.morphable.landmark_vertices[np.array([*range(36, 48), 48, 54])]
    for yaw in (-0.5, 0.0, 0.5):
        turned = posed(head, scenes, jnp.tile(jnp.array([[0.1, yaw, 0.05]]), (COUNT, 1)))
        neutral = dataclasses.replace(turned.params, expression=jnp.zeros((COUNT, 64)))
        vertices = morphable.shape(jax.tree.map(jnp.asarray, head.morphable), neutral)[:, corners]
        px = np.asarray(render.project(vertices, neutral, STUDIO_CAMERA, resolution=1))[..., :2]
        eyes, mouth = px[:, :12].mean(1), px[:, 12:].mean(1)
        np.testing.assert_allclose(eyes + 0.1 * (mouth - eyes), 0.5, atol=0.01)
        if yaw == 0:
            assert abs(eyes[:, 1].mean() - 0.47) < 0.02 and abs(mouth[:, 1].mean() - 0.71) < 0.03
            assert np.abs(px[:, 6:12, 0].mean() - 0.62) < 0.015


def test_pictures_are_whole(seen):
    images, segments = np.asarray(seen.images), np.asarray(seen.segments)
    assert images.shape == (COUNT, RESOLUTION, RESOLUTION, 3) and np.isfinite(images).all()
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.05
    assert seen.landmarks.shape == (COUNT, 66, 2)
    for one in segments:
        assert {names.SEGMENTS.index(name) for name in ("background", "face", "eye", "cloth")} <= set(
            one.ravel().tolist()
        )
    coverage = np.asarray(seen.coverage)
    assert set(np.unique(coverage)) <= {0, 0.25, 0.5, 0.75, 1} and 0.1 < coverage.mean() < 0.5


def test_no_holes_in_the_head(head, scenes):
    frontal = posed(head, with_params(scenes, expression=jnp.zeros((COUNT, 64))), jnp.zeros((COUNT, 3)))
    segments = np.asarray(render_scenes(head, frontal, resolution=64).segments)
    empty = segments == 0
    neighbours = sum(np.roll(empty, shift, axis).astype(int) for shift in (-1, 1) for axis in (1, 2))
    assert not (empty & (neighbours == 0))[:, 1:-1, 1:-1].any()
    assert (segments[:, 20:50, 25:39] != 0).all()


def test_landmarks_are_on_the_picture_of_the_face(head, scenes):
    frontal = posed(head, scenes, jnp.zeros((COUNT, 3)))
    seen = render_scenes(head, frontal, resolution=64)
    at = np.floor(np.asarray(seen.landmarks)[:, 27:36]).astype(int)  # the nose
    for coverage, points in zip(np.asarray(seen.coverage), at):
        assert (coverage[points[:, 1], points[:, 0]] == 1).all()


def test_the_renderer_draws_the_same_face(head, scenes, seen):
    model = jax.tree.map(jnp.asarray, head.morphable)
    draw = jax.jit(lambda model, params: render.render(
        model, params, STUDIO_CAMERA, resolution=RESOLUTION, supersample=2))
    drawn = draw(model, scenes.params)
    np.testing.assert_allclose(drawn.landmarks, seen.landmarks, atol=1e-3)
    both = (np.asarray(seen.coverage) == 1) & (np.asarray(drawn.coverage) == 1)
    assert both.mean() > 0.1
    inside = both & (np.asarray(seen.segments) == 1)
    difference = np.abs(np.clip(drawn.image, 0, 1) - seen.images)[inside]
    assert np.median(difference) < 1e-3 and np.quantile(difference, 0.95) < 0.03


def test_light_comes_from_where_it_says(head, scenes):
    frontal = posed(head, scenes, jnp.zeros((COUNT, 3)))

    def sides(azimuth):
        gamma = jnp.broadcast_to(light(azimuth, 10.0, 0.7, ambient=0.3), (COUNT, 27))
        seen = render_scenes(head, with_params(frontal, illumination=gamma), resolution=RESOLUTION)
        skin = np.where((np.asarray(seen.coverage) > 0.9)[..., None], np.asarray(seen.images), np.nan)
        return np.nanmean(skin[:, :, :RESOLUTION // 2]), np.nanmean(skin[:, :, RESOLUTION // 2:])

    left, right = sides(60.0)
    assert right > 1.3 * left
    left, right = sides(-60.0)
    assert left > 1.3 * right


def slow_nearest(vertices, triangles, two_sided, pixels):
    """The obvious z-buffer, one triangle after another."""
    best, depth = np.full((pixels, pixels), -1), np.full((pixels, pixels), np.inf)
    xs, ys = np.meshgrid(np.arange(pixels) + 0.5, np.arange(pixels) + 0.5)
    for t, (a, b, c) in enumerate(vertices[triangles].astype(np.float64)):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area == 0 or (area > 0 and not two_sided[t]):
            continue
        w1 = ((xs - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (ys - a[1])) / area
        w2 = ((b[0] - a[0]) * (ys - a[1]) - (xs - a[0]) * (b[1] - a[1])) / area
        z = a[2] + w1 * (b[2] - a[2]) + w2 * (c[2] - a[2])
        hit = (w1 >= 0) & (w2 >= 0) & (w1 + w2 <= 1) & (z < depth)
        best[hit], depth[hit] = t, z[hit]
    return best


def test_zbuffer_is_the_obvious_one():
    rng = np.random.default_rng(3)
    centres = rng.uniform(-5, 45, (120, 1, 2))
    size = 10 ** rng.uniform(-0.5, 1.6, (120, 1, 1))
    xy = centres + size * rng.normal(size=(120, 3, 2))
    vertices = np.concatenate([xy, rng.uniform(7, 14, (120, 3, 1))], -1).reshape(-1, 3).astype(np.float32)
    triangles = np.arange(360, dtype=np.int32).reshape(120, 3)
    two_sided = rng.random(120) < 0.3
    both = np.stack([vertices, vertices[::-1]])  # the second with other triangles on top
    found = jax.jit(jax.vmap(lambda v: nearest_triangles(v, triangles, two_sided, pixels=40)))(both)
    for one, seen in zip(both, np.asarray(found)):
        assert (seen == slow_nearest(one, triangles, two_sided, 40)).mean() > 0.998  # edges and near ties may differ


def test_vertices_of_a_scene_start_with_the_morphable_model(head, scenes):
    @jax.jit
    def of_the_scene(head, one):
        world, albedo = scene_vertices(head, one)
        return px_from_world(world, STUDIO_CAMERA, resolution=64), albedo

    @jax.jit
    def of_the_model(model, params):
        points = render.project(morphable.shape(model, params), params, STUDIO_CAMERA, resolution=64)
        return points, morphable.albedo(model, params)

    one = jax.tree.map(lambda leaf: np.asarray(leaf)[0], scenes)
    points, albedo = of_the_scene(head, one)
    expected, colour = of_the_model(head.morphable, one.params)
    count = expected.shape[0]
    np.testing.assert_allclose(points[:count], expected, atol=1e-3)
    np.testing.assert_allclose(albedo[:count], np.clip(colour, 0, 1.2), atol=1e-5)


def test_rendering_inside_jit_and_no_second_trace(head, scenes, seen):
    inside = jax.jit(lambda h, s: render_scenes(h, s, resolution=RESOLUTION).images)(head, scenes)
    np.testing.assert_allclose(inside, seen.images, atol=1e-5)
    before = _draw_batch._cache_size()
    render_scenes(head, sample_scenes(jax.random.key(5), COUNT, head=head), resolution=RESOLUTION)
    assert _draw_batch._cache_size() == before


def test_command_writes_truth_and_the_same_person_again(tmp_path, capsys):
    arguments = ["--count", str(COUNT), "--resolution", str(RESOLUTION), "--seed", "4"]
    assert main([*arguments, "-o", str(tmp_path / "a"), "--sheet"]) == 0
    edits = ["--yaw", "20", "--neutral", "--expression", "smile=2", "--light", "-40,10,0.8"]
    assert main([*arguments, "-o", str(tmp_path / "b"), *edits]) == 0
    first, arrays = load_truth(tmp_path / "a" / "truth.npz")
    second, _ = load_truth(tmp_path / "b" / "truth.npz")
    assert arrays["seed"].tolist() == list(range(4, 4 + COUNT)) and arrays["camera"] == STUDIO_CAMERA
    assert arrays["coverage"].shape == (COUNT, RESOLUTION, RESOLUTION) and arrays["landmarks"].shape == (COUNT, 66, 2)
    pictures = [f"00000{seed}.png" for seed in range(4, 4 + COUNT)]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [*pictures, "sheet.png", "truth.npz"]
    np.testing.assert_array_equal(first.params.identity, second.params.identity)
    np.testing.assert_array_equal(first.hair_style, second.hair_style)
    np.testing.assert_allclose(second.params.rotation[:, 1], np.deg2rad(20), atol=1e-6)
    np.testing.assert_allclose(second.params.expression, np.tile(expression(smile=1), (COUNT, 1)))
    np.testing.assert_allclose(second.params.illumination[0], light(-40.0, 10.0, 0.8), atol=1e-6)
    assert main([*arguments, "-o", str(tmp_path / "c"), "--vary", "expression"]) == 0
    third, _ = load_truth(tmp_path / "c" / "truth.npz")
    np.testing.assert_array_equal(first.params.rotation, third.params.rotation)
    assert np.abs(first.params.expression - third.params.expression).max() > 0.05
    capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--expression", "smirk=1"],
        ["--expression", "smile"],
        ["--light", "1,2"],
        ["--count", "0"],
        ["--vary", "mood"],
        ["--yaw", "90"],
        ["--resolution", "4"],
        ["--nonsense"],
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments, tmp_path, capsys):
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_exit_code_7(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["-o", str(tmp_path / "file" / "out"), "--count", "1"]) == 7
    assert capsys.readouterr().err.count("\n") == 1


def test_contact_sheet_fills_with_black():
    picture = contact_sheet(np.full((5, 4, 4, 3), 255, np.uint8), columns=3)
    assert picture.shape == (8, 12, 3) and (picture[4:, 8:] == 0).all() and (picture[:4] == 255).all()


def test_changes_of_the_sheet_are_one_thing_at_a_time(head, scenes):
    neutral, turned, smiling = (changed(head, scenes, c) for c in ({}, {"yaw": 30.0}, {"expression": {"smile": 1.0}}))
    np.testing.assert_array_equal(neutral.params.expression, 0)
    np.testing.assert_allclose(turned.params.rotation[:, 1], np.deg2rad(30), atol=1e-6)
    np.testing.assert_array_equal(turned.params.illumination, neutral.params.illumination)
    np.testing.assert_allclose(smiling.params.expression[0], expression(smile=1))
    np.testing.assert_array_equal(smiling.params.translation, neutral.params.translation)


@pytest.mark.parametrize("arguments", [["-o", "x.jpg"], ["-o", "x.png", "--people", "0"], []])
def test_wrong_arguments_of_the_sheet(arguments, capsys):
    assert sheet.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
