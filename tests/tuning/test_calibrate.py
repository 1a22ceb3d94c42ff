"""Calibration: curves of known answers, where edits arrive, and the command on a toy pack."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from pie_jax.pack import Manifest, load_pack, save_pack
from pie_jax.portrait import calibration
from pie_jax.tuning import calibrate

PARTS = ("generator", "regressor", "morphable", "rignet_pose", "rignet_expression", "rignet_illumination")


def test_a_curve_follows_a_weak_and_saturating_answer():
    rng = np.random.default_rng(0)
    asked = rng.uniform(-2, 2, 4000)
    answer = np.where(asked > 0, 0.9 * asked, 0.7 * asked)
    x, y = calibrate.curve_of(asked, answer + 0.1 + 0.05 * rng.normal(size=4000))
    assert 0.0 in x and y[list(x).index(0.0)] == 0.0  # what is not asked is not moved, whatever the bias
    assert np.all(np.diff(x) > 0) and np.all(np.diff(y) > 0)
    np.testing.assert_allclose(np.interp([-1.5, 1.5], x, y), [-1.05, 1.35], atol=0.1)
    change = np.array([-3.0, -0.7, 0.0, 0.9, 3.0])
    backwards = calibration._backwards(change, x, y)
    np.testing.assert_allclose(backwards[1:4], [-1.0, 0.0, 1.0], atol=0.1)
    assert backwards[0] == pytest.approx(1.25 * x[0]) and backwards[4] == pytest.approx(1.25 * x[-1])
    slopes = np.diff(y) / np.diff(x)
    assert slopes.min() >= calibrate.FLATTEST - 1e-9 and slopes.max() <= calibrate.STEEPEST + 1e-9
    assert calibrate.curve_of(asked, rng.normal(size=4000)) is None  # it does not follow
    assert calibrate.curve_of(np.zeros(10), np.zeros(10)) is None


def test_reach_is_where_edits_arrive():
    asked = np.linspace(-40, 40, 9)
    assert calibrate.reach_of(asked, np.clip(asked, -22, 31)) == [-30.0, 30.0]
    assert calibrate.reach_of(asked, 0 * asked + 50) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack") / "toy"
    save_pack(folder, toy.toy_pack(jax.random.key(0), parts=PARTS))
    return folder


def test_the_command_leaves_its_measurement_in_the_pack(folder):
    before = load_pack(folder)
    assert calibration.calibration(before) == {}
    assert calibrate.main(["--pack", str(folder), "--samples", "16", "--checked", "8"]) == 0
    pack = load_pack(folder)
    found = calibration.calibration(pack)
    assert pack.hash == before.hash and set(found["curves"]) == {"pose", "expression", "illumination"}
    assert found["samples"] == 16 and found["command"].endswith("--samples 16 --checked 8 --seed 0")
    assert set(found["reach"]) <= set(found["edits"])
    other = Manifest({**pack.manifest, "parts": {**pack.manifest["parts"], "generator": {"sha256": "0" * 64}}})
    assert calibration.calibration(dataclasses.replace(pack, manifest=other)) == {}


def test_edits_of_rigs_that_obey_are_seen_to_arrive(folder, monkeypatch):
    """The toy networks obey nothing; with rigs and eyes that do, every number of the grid comes out as asked."""
    pack = load_pack(folder)
    params_vector = np.tile(np.asarray(calibrate.FaceParams.zeros(leading=(8,)).to_vector()), (1, 1)).astype(np.float32)
    params_vector[:, calibrate.VECTOR_SLICES["illumination"]] = 0.1
    told = {}

    def solve_edit(pack, w_plus, source, wanted, *, order):
        told["params_vector"] = np.asarray(wanted.to_vector())
        return w_plus

    monkeypatch.setattr(calibration, "solve_edit", solve_edit)
    monkeypatch.setattr(calibrate, "_read", lambda pack, w_plus: told["params_vector"])
    w_plus = jax.numpy.zeros((8, toy.LAYERS, toy.W_DIM))
    for name, control, low, high in (("yaw", "pose", -30, 30), ("jaw_open", "expression", 0, 2),
                                     ("azimuth", "illumination", -60, 60)):
        grid = np.linspace(low, high, 5)
        found = calibrate.measure_reach(pack, w_plus, params_vector, name=name, control=control, grid=grid)
        np.testing.assert_allclose(found["obtained"], grid, atol=0.02 * grid[-1])
        assert found["reach"] == [grid[0], grid[-1]] and max(found["spread"]) < 0.02 * grid[-1]


def test_a_pack_without_rigs_says_so(tmp_path, capsys):
    save_pack(tmp_path / "p", toy.toy_pack(jax.random.key(0), parts=PARTS[:3]))
    assert calibrate.main(["--pack", str(tmp_path / "p")]) == 4
    assert "rignet_pose" in capsys.readouterr().err
