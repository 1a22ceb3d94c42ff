"""What the regressor learns from photographs, and what it keeps of what it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import load_pack, read_manifest, save_pack
from pie_jax.training import regressor
from pie_jax.training.core import loop
from pie_jax.training.losses import face_losses

SIZES = ["--stage-sizes", ",".join(map(str, toy.CONFIGS.regressor.stage_sizes)),
         "--width", str(toy.CONFIGS.regressor.width), "--resolution", str(toy.CONFIGS.regressor.resolution)]


@pytest.fixture(scope="module")
def pack():
    return toy.toy_pack(jax.random.key(0), parts=("generator", "regressor", "landmarks", "morphable"),
                        configs=toy.SMALLEST)


@pytest.fixture(scope="module")
def step_terms(pack):
    """weights, points [66, 2] in 0..1 of the portrait or None -> terms and weights after one step on two photos.

    `keep` holds two painted portraits.
    """
    losses = regressor.RegressorLossConfig(keep=2.0, render_rows=1, resolution=16)
    step = jax.jit(regressor.make_step(pack.configs, losses, peak=1e-3, painted=2))
    importance = face_losses.importance(pack.morphable, pack.weights["regressor"]["output_std"])
    frozen = {"morphable": pack.morphable, "generator": pack.weights["generator"],
              "landmarks": pack.weights["landmarks"],
              "importance": jnp.asarray(importance)}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)

    def take(weights, points):
        state = loop.new_state(jax.random.key(1), weights, regressor.OPTIMISER,
                               extra={"before": pack.weights["regressor"]})
        state, terms = step(state, {"photos": {"images": images, "points": np.stack([points] * 2)}}, frozen)
        return jax.device_get((terms, state.weights))

    return take


def constant(weights, vector):
    """A regressor that says `vector` [257] of every picture."""
    head = {"kernel": jnp.zeros_like(weights["head"]["kernel"]), "bias": jnp.asarray(vector) / weights["output_std"]}
    return {**weights, "head": head}


def test_photos_are_compared_with_their_points_and_the_rest_is_kept(pack, step_terms):
    weights, camera = pack.weights["regressor"], pack.configs.camera
    vector = np.asarray(toy.params_vector(jax.random.key(3)))
    crop = np.asarray(face_losses.projected_landmarks(pack.morphable, FaceParams.from_vector(vector), camera))
    points = (crop * camera.crop_size + (camera.crop_x, camera.crop_y)).astype(np.float32)
    there, _ = step_terms(constant(weights, vector), points)
    away, _ = step_terms(constant(weights, vector), points + np.float32(0.05))
    assert there["landmark"] == pytest.approx(0.0, abs=1e-6)  # painted portraits are not judged by landmarks
    assert away["landmark"] == pytest.approx(1.6e-3 * 224**2 * 2 * (0.05 / camera.crop_size) ** 2, rel=1e-4)
    assert there["kept"] > 0.1  # it says something else of painted portraits than the regressor before

    same, after = step_terms(weights, points)
    assert same["kept"] == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_array_equal(after["bn1"]["mean"], weights["bn1"]["mean"])
    assert not np.array_equal(after["conv1"]["kernel"], weights["conv1"]["kernel"])


def test_a_regressor_is_trained_further_on_photos(pack, tmp_path, capsys):
    from PIL import Image

    save_pack(tmp_path / "pack", pack, storage="float32")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    argv = ["--pack", str(tmp_path / "pack"), "--run", str(tmp_path / "run"), "--steps", "2", "--batch", "2",
            "--photos", str(tmp_path / "photos"), "--painted", "2", "--render-rows", "1", "--keep", "2", *SIZES]
    assert regressor.main(argv) == 2
    assert "--keep, --share: need --warm" in capsys.readouterr().err
    assert regressor.main([*argv, "--warm", "--share", "1.5"]) == 2
    assert "--share: expected" in capsys.readouterr().err
    assert regressor.main([*argv, "--warm", "--painted", "0"]) == 2
    assert "--keep: there are photos alone" in capsys.readouterr().err
    assert regressor.main([*argv, "--warm", "--debug"]) == 0
    record = read_manifest(tmp_path / "pack")["training"]["regressor"]
    assert {"colour", "landmark", "prior", "kept"} <= set(record["terms"]) and record["photos"] == 2
    assert record["losses"]["keep"] == 2.0
    trained = load_pack(tmp_path / "pack", parts=("regressor",)).weights["regressor"]
    before = pack.weights["regressor"]
    np.testing.assert_array_equal(trained["bn1"]["var"], before["bn1"]["var"])
    for _ in range(2):  # the same run, finished: it began with the same regressor each time
        assert regressor.main([*argv, "--warm", "--share", "0.25", "--debug"]) == 0
    halted = load_pack(tmp_path / "pack", parts=("regressor",)).weights["regressor"]
    gone = [np.asarray(each["conv1"]["kernel"] - before["conv1"]["kernel"]) for each in (halted, trained)]
    np.testing.assert_allclose(gone[0], 0.25 * gone[1], atol=1e-7)
    assert np.abs(gone[1]).max() > 1e-5
