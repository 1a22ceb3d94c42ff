"""Each training at toy sizes: it runs and writes its part with a record; and the pieces that it is made of."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from pie_jax.config import RigNetConfig
from pie_jax.errors import PieError, UsageError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import load_pack, read_manifest, save_pack
from pie_jax.training import dfr, landmarks, perceptual, recognition, regressor, rignet
from pie_jax.training.data import augment, codes, studio_data
from pie_jax.training.losses import face_losses, rig_losses

LAYERS = toy.SMALLEST.generator.num_layers


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "toy"
    pack = toy.toy_pack(jax.random.key(0), parts=("generator", "regressor", "landmarks", "dfr", "morphable"),
                        configs=toy.SMALLEST)
    save_pack(folder, pack, storage="float32")
    return folder


@pytest.fixture(scope="module")
def codes_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "codes"


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """A studio set of noise with the right files: 16 people, 2 views, 32 px."""
    folder = tmp_path_factory.mktemp("studio")
    rng, count = np.random.default_rng(0), 32
    params = np.asarray(toy.params_vector(jax.random.key(1), (count,)))
    np.save(folder / "images.npy", rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))
    np.save(folder / "params.npy", params)
    np.save(folder / "landmarks.npy", rng.uniform(0.3, 0.7, (count, 66, 2)).astype(np.float32))
    np.save(folder / "segments.npy", rng.integers(0, 10, (count, 32, 32)).astype(np.uint8))
    state = {"count": count, "views": 2, "resolution": 32, "seed": 0, "done": count}
    (folder / studio_data.COUNT).write_text(json.dumps(state))
    return folder


def flags(pack, run, *more):
    return ["--pack", str(pack), "--run", str(run), "--steps", "8", "--batch", "4", "--debug", *more]


def record_of(pack, part):
    manifest = read_manifest(pack)
    record = manifest["training"][part]
    assert {"command", "seed", "steps", "seconds", "held_out"} <= set(record) and record["steps"] == 8
    assert "pie_jax.training" in record["command"] and str(pack) not in record["command"]
    assert part in load_pack(pack, parts=(part,)).weights
    return record


# ------------------------------------------------------------------------------------- every command
def test_dfr_and_a_rig_are_trained_on_codes(pack_folder, codes_folder, tmp_path):
    pool = ["--codes", str(codes_folder), "--count", "40"]
    assert dfr.main(flags(pack_folder, tmp_path / "dfr", *pool, "--hidden", "8,8")) == 0
    record_of(pack_folder, "dfr")
    more = ["--control", "expression", "--width", "4", "--render-rows", "2", "--generator-rows", "2",
            "--weight-background", "1"]
    assert rignet.main(flags(pack_folder, tmp_path / "rig", *pool, *more)) == 0
    record = record_of(pack_folder, "rignet_expression")
    assert len(record["response"]["slope"]) == len(record["response"]["correlation"]) == 64
    assert set(record["terms"]) >= {"reconstruction", "edit", "consistency", "control", "rest", "background", "loss"}
    assert "background_explained" in record


def test_codes_are_made_once_and_belong_to_their_pack(pack_folder, codes_folder):
    pack = load_pack(pack_folder, parts=codes.PARTS)
    pool = codes.open_codes(codes_folder, pack, count=40, seed=0, quiet=True)
    first = np.array(pool.params_vector)
    again = codes.open_codes(codes_folder, pack, count=40, seed=0, quiet=True)
    np.testing.assert_array_equal(first, again.params_vector)
    assert len(pool) == 40 and pool.held_out == 10
    rows = pool.batch(0, 3, 8)
    np.testing.assert_array_equal(rows["params_vector"], pool.batch(0, 3, 8)["params_vector"])
    w_plus = np.asarray(codes.w_plus_of(pool.rows(np.arange(40)), num_layers=LAYERS))
    for i in (0, 7, 39):
        cross = int(pool.cross[i])
        np.testing.assert_array_equal(w_plus[i, :cross], np.broadcast_to(pool.w_a[i], (cross, toy.W_DIM)))
        np.testing.assert_array_equal(w_plus[i, cross:], np.broadcast_to(pool.w_b[i], (LAYERS - cross, toy.W_DIM)))
    assert 0 < np.mean(np.array(pool.cross) < LAYERS) < 1
    with pytest.raises(PieError, match="another pack, count or seed"):
        codes.open_codes(codes_folder, pack, count=41, seed=0, quiet=True)


def test_an_interrupted_pool_is_completed_with_the_same_codes(pack_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(codes, "_BLOCK", 4)
    pack = load_pack(pack_folder, parts=codes.PARTS)
    whole = codes.open_codes(tmp_path / "whole", pack, count=10, seed=3, quiet=True)
    calls = itertools.count()
    make = codes._make_block

    def cut(*args, **knobs):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return make(*args, **knobs)

    monkeypatch.setattr(codes, "_make_block", cut)
    with pytest.raises(KeyboardInterrupt):
        codes.open_codes(tmp_path / "cut", pack, count=10, seed=3, quiet=True)
    monkeypatch.setattr(codes, "_make_block", make)
    completed = codes.open_codes(tmp_path / "cut", pack, count=10, seed=3, quiet=True)
    for field in dataclasses.fields(codes.Codes):
        np.testing.assert_array_equal(getattr(whole, field.name), getattr(completed, field.name))


def test_regressor_without_truth_learns_from_the_generator(pack_folder, tmp_path):
    more = ["--stage-sizes", "1", "--width", "4", "--resolution", "16", "--render-rows", "2"]
    assert regressor.main(flags(pack_folder, tmp_path / "reg", *more)) == 0
    record = record_of(pack_folder, "regressor")
    assert {"colour", "prior", "landmark"} <= set(record["terms"]) and record["painted"] == 4


def test_supervised_trainings_write_their_parts(pack_folder, data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "WINDOW", 16)
    data = ["--data", str(data_folder), "--studio"]
    small = ["--width", "8", "--depth", "1", "--resolution", "16"]
    assert landmarks.main(flags(pack_folder, tmp_path / "l", *data, *small)) == 0
    assert "error_px_of_128" in record_of(pack_folder, "landmarks")["held_out"]
    assert recognition.main(flags(pack_folder, tmp_path / "r", *data, "--width", "4", "--fc-width", "8",
                                  "--resolution", "32")) == 0
    assert 0 <= record_of(pack_folder, "recognition")["held_out"]["auc"] <= 1
    assert perceptual.main(flags(pack_folder, tmp_path / "p", *data, "--width", "4", "--resolution", "32")) == 0
    assert "pixels_right" in record_of(pack_folder, "perceptual")["held_out"]


def test_what_cannot_be_done_is_one_line(pack_folder, tmp_path, capsys):
    assert landmarks.main(["--pack", str(pack_folder), "--run", str(tmp_path)]) == UsageError.exit_code
    assert landmarks.main(["--pack", str(pack_folder), "--run", str(tmp_path), "--studio", "--data", "nowhere"]) == 2
    assert rignet.main(["--pack", str(tmp_path), "--control", "pose"]) == 4
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)


# ------------------------------------------------------------------------------------------ the pieces
def test_pairs_go_both_ways():
    rows = {"x": jnp.arange(6)}
    source, target = rig_losses.pair_up(rows)
    np.testing.assert_array_equal(source["x"], [0, 3, 1, 4, 2, 5])
    np.testing.assert_array_equal(target["x"], [3, 0, 4, 1, 5, 2])


def test_softened_targets_lie_between_source_and_a_little_beyond_the_target():
    source, target = jnp.zeros((400, 5)), jnp.ones((400, 5))
    asked = np.asarray(rig_losses.soften(jax.random.key(0), source, target, first=10))
    np.testing.assert_array_equal(asked[:10], 1.0)
    whole = (asked[10:] == 1.0).all(axis=1).mean()
    assert 0.4 < whole < 0.6 and asked.min() == 0.0 and 1.2 < asked.max() <= 1.3
    for row in asked[10:]:
        assert len(set(row[row > 0])) <= 1  # one scale a row


def test_pairs_of_the_family_are_portraits_with_their_truth(tmp_path):
    """What --family learns from: FaceParams made anew from z, two views a person; and it needs --studio beside it."""
    from pie_jax.studio.family import draw_z, scenes_from_z
    from pie_jax.studio.head import build_head
    from pie_jax.training.data.family_data import family_portraits

    z = draw_z(5, 4)
    for name, array in (("z", z), ("images", np.zeros((4, 32, 32, 3), np.uint8)),
                        ("landmarks", np.full((4, 66, 2), 0.5, np.float32))):
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "count.json").write_text(json.dumps({"pairs": 2, "seed": 5, "resolution": 32}))
    data = family_portraits(tmp_path)
    assert len(data) == 4 and data.views == 2 and data.people == 2 and data.segments is None
    truth = jax.jit(lambda head, z: scenes_from_z(head, z).params.to_vector())(build_head(), z)
    np.testing.assert_allclose(data.params, truth, atol=1e-5)
    with pytest.raises(UsageError, match="family_data"):
        family_portraits(tmp_path / "nothing")
    argv = ["--pack", str(tmp_path), "--family", str(tmp_path)]
    arguments = regressor.parser().parse_args(argv)
    assert arguments.family == str(tmp_path) and not arguments.studio


def test_response_of_a_perfect_and_of_a_half_hearted_rig():
    asked = np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 0.1]
    std = np.array([1, 10, 0.1])
    perfect = rig_losses.response(asked, asked, std)
    half = rig_losses.response(asked, 0.5 * asked, std)
    assert perfect["gain"] == pytest.approx(1) and perfect["cosine"] == pytest.approx(1)
    np.testing.assert_allclose(half["slope"], 0.5)
    np.testing.assert_allclose(half["correlation"], 1.0)
    assert half["gain"] == pytest.approx(0.5)


def test_rig_terms_vanish_where_they_should():
    pack = toy.toy_pack(jax.random.key(0), parts=("dfr", "rignet_pose", "morphable"), configs=toy.SMALLEST)
    config = RigNetConfig(control="pose", num_layers=LAYERS, w_dim=toy.W_DIM, width=4)
    weights = jax.tree.map(jnp.zeros_like, pack.weights["rignet_pose"])  # the identity
    rng = np.random.default_rng(0)
    rows = {"w_a": rng.normal(size=(4, toy.W_DIM)), "w_b": rng.normal(size=(4, toy.W_DIM)),
            "params_vector": np.asarray(toy.params_vector(jax.random.key(2), (4,))),
            "landmarks": np.full((4, 66, 2), 0.5),
            "images": np.zeros((4, 16, 16, 3))}
    rows = {name: jnp.asarray(value, jnp.float32) for name, value in rows.items()}
    rows["cross"] = jnp.full((4,), LAYERS, jnp.int32)
    frozen = {"dfr": pack.weights["dfr"], "morphable": pack.morphable, "std": jnp.ones(257),
              "w_std": jnp.ones(toy.W_DIM)}
    losses = rig_losses.RigLossConfig(render_rows=2, source="dfr")

    @jax.jit
    def slope_and_terms(weights):
        def loss(weights):
            found = rig_losses.terms(jax.random.key(0), weights, rows, frozen, config=config, configs=pack.configs,
                                     losses=losses)
            return found["loss"], found

        return jax.grad(loss, has_aux=True)(weights)

    gradients, found = slope_and_terms(weights)
    assert found["reconstruction"] == 0 and found["keep"] == 0
    np.testing.assert_allclose(found["rest"], 0, atol=1e-9)  # the identity leaves F(w) alone
    assert found["control"] > 0 and found["edit"] > 0
    assert np.isclose(found["loss"], sum(v for k, v in found.items() if k != "loss"))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))
    assert np.abs(gradients["decoder_kernel"]).max() > 0


def test_landmark_loss_counts_nose_and_inner_mouth_twenty_times():
    truth = jnp.zeros((1, 66, 2))
    moved = truth.at[0, 29].set(0.1), truth.at[0, 0].set(0.1)
    a, b = (face_losses.landmark_loss(x, truth, weights=face_losses.LANDMARK_WEIGHTS)[0] for x in moved)
    assert a / b == pytest.approx(20, rel=1e-4)
    total = np.sum(face_losses.LANDMARK_WEIGHTS)
    assert b == pytest.approx(0.02 / total, rel=1e-4)


def test_a_face_compared_with_its_own_rendering_costs_nothing():
    from pie_jax.face3d.render import render

    model = toy.toy_morphable()
    camera = toy.CONFIGS.camera
    params = FaceParams.from_vector(toy.params_vector(jax.random.key(0), (2,)))

    @jax.jit
    def loss_of(guess):
        crop = render(model, params, face_losses.crop_camera(camera), resolution=16).image
        landmarks_01 = face_losses.projected_landmarks(model, params, camera)
        return face_losses.render_loss(model, guess, crop, landmarks_01, camera, weight_landmark=1.0)

    np.testing.assert_allclose(loss_of(params), 0.0, atol=1e-10)
    assert (loss_of(dataclasses.replace(params, rotation=params.rotation + 0.1)) > 1e-4).all()


def test_degraded_images_keep_shape_range_and_are_independent():
    images = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3))
    same = augment.degrade(jax.random.key(1), images, strength=0.0)
    np.testing.assert_allclose(same, images, atol=1e-6)
    changed = np.asarray(augment.degrade(jax.random.key(1), images))
    assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 1
    assert np.abs(changed - images).mean(axis=(1, 2, 3)).min() > 1e-3


def test_verification_figures():
    person = np.array([0, 0, 1, 1])
    codes_ = np.array([[1, 0], [1, 0], [0, 1], [0, 1.0]])
    assert recognition.verification(codes_, person) == {"auc": 1.0, "rank_1": 1.0, "people": 2.0}
    worst = recognition.verification(codes_[[0, 2, 1, 3]], person)
    assert worst["auc"] < 0.5


def test_windows_cut_images_and_labels_alike():
    labels = jnp.arange(32 * 32).reshape(1, 32, 32) % 251
    images = jnp.repeat(jnp.repeat(labels, 2, axis=1), 2, axis=2)[..., None].repeat(3, axis=-1).astype(jnp.float32)
    image, label = perceptual.windows(jax.random.key(5), images, labels, size=16)
    np.testing.assert_array_equal(image[:, ::2, ::2, 0], label)


def test_layers_are_rescaled_to_a_mean_of_one_and_stay_the_same_function():
    from pie_jax.nn.vgg import VGG

    pack = toy.toy_pack(jax.random.key(3), parts=("perceptual",))
    config, weights = pack.configs.perceptual, pack.weights["perceptual"]
    images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    features = jax.jit(lambda weights, images: VGG(config).apply({"params": weights}, images))
    before = features(weights, images)
    after = features(perceptual.normalise_layers(config, weights, images), images)
    for name in config.layers:
        assert float(after[name].mean()) == pytest.approx(1.0, rel=1e-4)
        np.testing.assert_allclose(after[name] * before[name].mean(), before[name], rtol=1e-3, atol=1e-4)


def test_target_bumps_are_read_back_as_their_points():
    from pie_jax.nn.landmarks import soft_argmax

    points = jax.random.uniform(jax.random.key(0), (2, 66, 2), minval=0.3, maxval=0.7)
    np.testing.assert_allclose(soft_argmax(landmarks.gaussians(points, size=16)), points, atol=2e-3)


def test_normalisation_floors_quiet_components():
    vectors = np.random.default_rng(0).normal(size=(50, 257)).astype(np.float32)
    vectors[:, 5] = 1.0
    scale = dfr.normalisation(vectors)
    assert scale["output_std"][5] == pytest.approx(0.1, rel=0.2)
    assert dfr.explained(vectors, vectors, scale["output_std"])["explained_identity"] == 1.0


# --------------------------------------------------------------------------------------- studio data
def test_views_of_a_family_person_share_the_face_and_nothing_else():
    from pie_jax.studio.family import FACTOR_INDEX, factors_from_z

    z = studio_data.family_people(jax.random.key(0), 4, 3)
    factors = np.asarray(factors_from_z(z)).reshape(4, 3, -1)
    spread = factors.std(axis=1).mean(axis=0)
    same, other = ([spread[FACTOR_INDEX[name]] for name in names]
                   for names in (("identity_0", "skin", "eye_colour"), ("jaw_open", "yaw", "light_azimuth")))
    assert max(same) < 0.05 and min(other) > 0.12
    assert factors.mean(axis=1).std(axis=0)[FACTOR_INDEX["identity_0"]] > 0.2


def test_gain_error_is_the_bias_of_a_change_and_ignores_pairs_that_do_not_change():
    from pie_jax.training.supervised import gain_error

    target = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype(np.float32)
    target[5] = target[4]  # the last pair shows no change
    middle = np.repeat((target[0::2] + target[1::2]) / 2, 2, axis=0)
    assert float(gain_error(target, target)) == pytest.approx(0.0, abs=1e-10)
    assert float(gain_error(0.3 + middle + 0.8 * (target - middle), target)) == pytest.approx(2 / 3 * 0.2**2, rel=1e-4)
    assert float(gain_error(middle, target)) == pytest.approx(2 / 3, rel=1e-4)


def test_the_code_of_a_scene_closes_its_circles_and_the_mapping_is_fitted_to_it():
    from pie_jax.config import GeneratorConfig
    from pie_jax.studio.family import FACTOR_INDEX, FACTORS, code_features
    from pie_jax.training.supervised import fit_mapping

    values = jnp.zeros((2, len(FACTORS))).at[:, FACTOR_INDEX["cloth_hue"]].set(jnp.array([-1.0, 1.0]))
    first, last = code_features(values)
    np.testing.assert_allclose(first[len(FACTORS):], last[len(FACTORS):], atol=1e-5)  # hue -1 is hue 1
    np.testing.assert_array_equal(code_features(values)[:, :len(FACTORS)], values)
    _, r2 = fit_mapping(GeneratorConfig(resolution=32, mapping_layers=2, mapping_lr_multiplier=1.0,
                                        mapping_linear_output=True), count=4000)
    assert r2 > 0.99


def test_studio_rows_are_split_by_person(data_folder):
    data = studio_data.open_data(data_folder)
    assert (len(data), data.people, data.held_out_people, data.training_rows) == (32, 16, 2, 28)
    batch = data.batch(0, 5, 200, fields=("params", "person"))
    assert batch["person"].max() < 14
    np.testing.assert_array_equal(batch["params"], data.batch(0, 5, 200, fields=("params",))["params"])
    assert set(data.tail(10, fields=("person",))["person"]) == {14, 15}
    pairs = recognition.people_batch(data, 0, 0, 6)
    person = np.argmax(pairs["params"][:, None, 0] == data.params[None, :, 0], axis=1) // data.views
    np.testing.assert_array_equal(person[::2], person[1::2])
    assert len(set(person)) == 3


def test_a_studio_set_of_wrong_size_is_refused(tmp_path, data_folder):
    with pytest.raises(UsageError, match="--count"):
        studio_data.build(tmp_path, count=50, views=6, resolution=32, seed=0)
    with pytest.raises(PieError, match="holds another set"):
        studio_data.build(data_folder, count=64, views=2, resolution=32, seed=0)


def test_a_standardised_vgg_starts_in_standard_units():
    from pie_jax.nn.vgg import VGG
    from pie_jax.training.losses.standardise import standardise

    config = dataclasses.replace(toy.CONFIGS.recognition, num_classes=0, layers=("conv1_1", "conv5_3"))
    images = jax.random.uniform(jax.random.key(0), (16, 32, 32, 3))
    shapes = jax.eval_shape(VGG(config).init, jax.random.key(1), images)["params"]
    weights = standardise(config, toy.random_weights(jax.random.key(1), shapes), images)
    features = jax.jit(lambda weights, images: VGG(config).apply({"params": weights}, images))(weights, images)
    np.testing.assert_allclose(features["fc7_pre"].mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(features["fc7_pre"].std(axis=0), 1.0, atol=1e-2)
    assert abs(float(features["conv5_3"].mean()) - 0.4) < 0.1  # the mean of a normal variable's positive part


def test_components_count_by_what_they_move():
    model = toy.toy_morphable()
    louder = dataclasses.replace(model, identity_basis=model.identity_basis.at[..., 0].multiply(10.0))
    before, weight = (face_losses.importance(m, np.ones(257, np.float32)) for m in (model, louder))
    assert weight[0] / weight[1] == pytest.approx(10**0.5 * before[0] / before[1], rel=1e-3)
    assert weight[:80].mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_array_equal(weight[224:], 1.0)
