"""A generator of few pictures: augmentation and its rule, the decoded start, bit-exact resume, figures."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax.config import GeneratorConfig
from pie_jax.nn.layers import apply
from pie_jax.nn.stylegan2 import Mapping, Synthesis
from pie_jax.pack import load_pack, read_manifest, save_pack
from pie_jax.training import decoded, generator, supervised
from pie_jax.training.adversarial import AdversarialConfig, new_state
from pie_jax.training.core.checkpoints import load_checkpoint
from pie_jax.training.data.adaptive import LARGEST, adapt, augment
from pie_jax.training.generator_start import initial_weights
from pie_jax.training.image_distances import frechet, nearest, precision_recall

SIDE = 8
SIZES = ["--resolution", str(SIDE), "--channel-base", "64", "--channel-max", "8", "--channel-min", "4"]


def face(side=32):
    """A picture with a smooth structure of its own in each channel."""
    row, column = np.mgrid[:side, :side] / side
    return np.stack([row, column, np.hypot(row - 0.5, column - 0.5)], axis=-1).astype(np.float32) * 1.2 - 0.6


def test_augmentation_is_none_at_probability_0_and_follows_its_key():
    images, augmented = np.stack([face()] * 8), jax.jit(augment)
    np.testing.assert_array_equal(augmented(jax.random.key(0), images, np.float32(0.0)), images)
    one, again, other = (augmented(jax.random.key(k), images, np.float32(0.8)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other) and np.isfinite(one).all() and one.shape == images.shape
    rare = [np.asarray(augmented(jax.random.key(k), images, np.float32(0.05))) for k in range(40)]
    changed = np.mean([np.any(one != images, axis=(1, 2, 3)).mean() for one in rare])
    assert 0.2 < changed < 0.6  # of eleven kinds, each in one of twenty


def test_augmentation_passes_gradients():
    images = jnp.asarray(np.stack([face(8)] * 2))
    total = jax.jit(lambda x: jnp.sum(jnp.square(augment(jax.random.key(3), x, jnp.full((), 0.7)))))
    slope, step = jax.grad(total)(images), 0.1  # a square of a linear map: any step is exact
    direction = jax.random.normal(jax.random.key(4), images.shape)
    numeric = (total(images + step * direction) - total(images - step * direction)) / (2 * step)
    assert float(jnp.sum(slope * direction)) == pytest.approx(float(numeric), rel=1e-3)


def test_probability_follows_certainty():
    knobs = {"target": 0.6, "images": 100.0, "batch": 4}
    start = jnp.full((), 0.3)
    assert float(adapt(start, jnp.full((), 0.9), **knobs)) == pytest.approx(0.34)
    assert float(adapt(start, jnp.full((), 0.2), **knobs)) == pytest.approx(0.26)
    assert float(adapt(jnp.zeros(()), jnp.zeros(()), **knobs)) == 0.0
    assert float(adapt(jnp.full((), LARGEST), jnp.ones(()), **knobs)) == pytest.approx(LARGEST)


def test_mapping_of_codes_has_their_mean_and_covariance():
    config = GeneratorConfig(resolution=16, channel_base=64, mapping_layers=2, mapping_linear_output=True,
                             mapping_lr_multiplier=1.0)
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((400, decoded.SPAN)) * np.linspace(2.0, 0.1, decoded.SPAN) + 0.5
    w_mean = jnp.asarray(rng.standard_normal(512), jnp.float32)
    weights, middle = decoded.gaussian_mapping(config, codes, w_mean)
    w = np.asarray(apply(Mapping(config), weights, jax.random.normal(jax.random.key(0), (8000, 512))))
    directions = decoded.code_directions(dim=512, span=decoded.SPAN).T
    true = np.asarray(decoded.codes_to_w(jnp.asarray(codes, jnp.float32), w_mean, directions))
    np.testing.assert_allclose(middle, true.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(w.mean(axis=0), middle, atol=0.1)
    found, wanted = np.cov(w, rowvar=False), np.cov(true, rowvar=False)
    assert np.linalg.norm(found - wanted) < 0.2 * np.linalg.norm(wanted)
    with pytest.raises(ValueError, match="2 layers"):
        decoded.gaussian_mapping(dataclasses.replace(config, mapping_layers=8), codes, w_mean)


def test_lower_layers_of_a_larger_generator_are_taken():
    pack = load_pack("demo", parts=("generator",))
    config = dataclasses.replace(pack.configs.generator, resolution=32)
    mapping, synthesis, told = initial_weights(jax.random.key(0), config, pack)
    old = pack.weights["generator"]
    assert told == "from the pack's generator at 128 px" and set(synthesis) == {"b4", "b8", "b16", "b32"}
    w_plus = jnp.broadcast_to(old["w_mean"], (1, pack.configs.generator.num_layers, 512))
    whole = jax.jit(lambda weights: apply(Synthesis(pack.configs.generator), weights, w_plus, resolution=32))
    lower = jax.jit(lambda weights: apply(Synthesis(config), weights, w_plus[:, :config.num_layers]))
    np.testing.assert_allclose(lower(synthesis), whole(old["synthesis"]), atol=1e-5)
    assert mapping is old["mapping"]


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    """A folder as `training.photographs` leaves it."""
    folder, rng = tmp_path_factory.mktemp("framed"), np.random.default_rng(1)
    (folder / "pictures").mkdir()
    kept = []
    for i in range(10):
        base = np.full((SIDE, SIDE, 3), rng.uniform(60, 190, 3)) + rng.uniform(-10, 10, (SIDE, SIDE, 3))
        Image.fromarray(base.astype(np.uint8)).save(folder / "pictures" / f"h{i}.png")
        kept.append({"name": f"{i}.jpg", "folder": "f", "hash": f"h{i}", "held_out": i < 4})
    (folder / "photographs.json").write_text(json.dumps({"resolution": SIDE, "format": "png", "kept": kept}))
    return folder


def flags(tmp_path, framed, stage, run, *more):
    return ["--pack", str(tmp_path / "pack"), "--run", str(tmp_path / run), "--photos", str(framed), "--stage", stage,
            "--batch", "4", "--debug", *SIZES, *more]


@pytest.fixture(scope="module")
def trained(framed, tmp_path_factory):
    """A folder in which a generator was decoded, its pack as "start", and then trained adversarially in one call."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pie_jax.training.photograph_report.COUNTED", 16)
        patch.setattr(supervised, "fit_mapping", functools.partial(supervised.fit_mapping, count=1000))  # not kept
        judges = toy.toy_pack(jax.random.key(0), parts=("perceptual",))
        save_pack(folder / "judges", judges, storage="float32")
        assert generator.main(flags(folder, framed, "decoded", "one", "--steps", "60", "--judges",
                                    str(folder / "judges"))) == 0
        shutil.copytree(folder / "pack", folder / "start")
        assert generator.main(adversarial_flags(folder, framed, "two", 18)) == 0
    return folder


def test_a_mapping_that_cannot_hold_codes_is_refused_before_the_training(framed, tmp_path, capsys):
    configs = dataclasses.replace(toy.SMALLEST, generator=dataclasses.replace(toy.SMALLEST.generator, mapping_layers=8))
    save_pack(tmp_path / "pack", toy.toy_pack(jax.random.key(0), configs=configs, parts=("generator",)))
    assert generator.main(flags(tmp_path, framed, "decoded", "one", "--steps", "1")) == 2
    assert "8 layers" in capsys.readouterr().err and not (tmp_path / "one").exists()


def adversarial_flags(folder, framed, run, steps):
    return flags(folder, framed, "adversarial", run, "--steps", str(steps), "--augment-images", "64")


def test_decoded_then_adversarial(trained):
    record = read_manifest(trained / "start")["training"]["generator"]
    assert record["photographs"] == 6 and record["held_out"]["psnr_of_training_db"] > 12
    with Image.open(trained / "one" / "decoded.png") as sheet:
        assert sheet.size == (16 * SIDE, 3 * SIDE)

    before = load_pack(trained / "start", parts=("generator",)).weights["generator"]["synthesis"]["b8"]["conv1"]
    record = read_manifest(trained / "pack")["training"]["generator"]
    assert record["start"].startswith("from the pack's generator")
    assert {"overfitting", "score_held_out", "distance_perceptual", "precision", "recall"} <= set(record["held_out"])
    assert {"certainty", "augment", "r1"} <= set(record["terms"])
    after = load_pack(trained / "pack", parts=("generator",)).weights["generator"]["synthesis"]["b8"]["conv1"]
    assert 0 < np.abs(after["affine"]["bias"] - before["affine"]["bias"]).max() < 1e-4  # still warming up
    with Image.open(trained / "two" / "samples" / "0000018.png") as sheet:
        assert sheet.size == (8 * SIDE, 2 * SIDE)


def test_a_resumed_run_is_bit_exact(framed, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("pie_jax.training.photograph_report.COUNTED", 16)
    shutil.copytree(trained / "start", tmp_path / "pack")
    for steps in (3, 18):
        assert generator.main(adversarial_flags(tmp_path, framed, "halves", steps)) == 0
    pack = load_pack(trained / "start", parts=("generator",))
    mapping, synthesis = (pack.weights["generator"][name] for name in ("mapping", "synthesis"))
    template = new_state(jax.random.key(0), pack.configs.generator, AdversarialConfig(), mapping, synthesis,
                         w_mean=jnp.zeros(512))
    whole, halves = (load_checkpoint(run / "checkpoint.npz", template)[0] for run in
                     (trained / "two", tmp_path / "halves"))
    for a, b in zip(*(jax.tree.leaves((each.weights, each.ema, each.optimiser, each.extra))
                      for each in (whole, halves)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 5)) * [1, 2, 3, 1, 1]
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-6)
    assert frechet(a, a + 2.0) == pytest.approx(20.0, rel=1e-6)
    assert frechet(a, 2.0 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(np.cov(a, rowvar=False).trace(), rel=1e-3)
    few = rng.standard_normal((6, 40))  # fewer than features
    assert frechet(few, few + 1.0) == pytest.approx(40.0, rel=1e-6)


def test_precision_recall_and_nearest():
    rng = np.random.default_rng(1)
    real = rng.standard_normal((300, 4))
    narrow, far = 0.1 * rng.standard_normal((300, 4)), real + 100.0
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.95 and recall < 0.2
    assert precision_recall(real, far) == (0.0, 0.0)
    assert precision_recall(real, real) == (1.0, 1.0)
    known = np.eye(4)
    index, cosine = nearest(known, np.array([[0.0, 0.6, 0.8, 0.0]]))
    assert index[0] == 2 and cosine[0] == pytest.approx(0.8)
