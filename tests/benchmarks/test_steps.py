"""`python -m benchmarks.steps` on a toy pack: rows of every part, the peer beside, one JSON object at the end."""

import dataclasses
import json
import sys
from functools import partial

import jax
import pytest
import toy

import benchmarks
from benchmarks import components, harness, random_pack, scaling, steps
from pie_jax.config import EnergyConfig, VGGConfig
from pie_jax.energy import portrait_energy
from pie_jax.errors import PackError
from pie_jax.pack import check_weights, save_pack

CONFIGS = dataclasses.replace(
    toy.CONFIGS, **toy.layers_for(dataclasses.replace(toy.GENERATOR, resolution=8)),
    perceptual=VGGConfig(width=4, resolution=16, layers=("conv1_1",)),
    energy=EnergyConfig(render_resolution=16, control_sampling="one", weight_landmark=1e-4))


@pytest.fixture
def no_settings(monkeypatch):
    """The benchmark sets JAX up for its process; a test process keeps what it has, and measures it briefly."""
    monkeypatch.setattr(harness, "start", lambda device=None, use_cores=None: None)
    monkeypatch.setattr(harness, "ceilings", partial(harness.ceilings, side=256, megabytes=4, runs=1))


def test_side_by_side(tmp_path, capsys, no_settings):
    pytest.importorskip("torch")
    save_pack(tmp_path / "toy", toy.toy_pack(jax.random.key(3), configs=CONFIGS), storage="float32")
    out = tmp_path / "out"
    assert steps.main(["--pack", str(tmp_path / "toy"), "--torch", "--no-compile", "--controls", "pose", "--runs", "2",
                       "--batch", "2", "--out", str(out)]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["ratio_compile"] is None and last["ms_step"] > 0
    assert last["ratio_eager_fused"] > 0 and last["ratio_eager_best"] > 0
    assert last["parity_energy"] < 1e-3 and last["parity_gradient"] < 1e-3
    rows = harness.read_rows(out / "rows.jsonl")
    cases = {"step", "synthesis", "perceptual", "regressor", "recognition", "rig", "render"}
    assert {(row["case"], row["implementation"]) for row in rows} >= {
        (case, name) for case in cases for name in ("pie_jax", "eager_fused", "eager_best")}
    kinds = [row for row in rows if "step" in row["case"] and row["implementation"] == "pie_jax"]
    mean = next(row for row in kinds if row["case"] == "mean step")
    assert sum(row["share"] for row in kinds) == pytest.approx(2.0, abs=0.01)  # their shares, and the mean's 1
    assert mean["ms"] == pytest.approx(sum(row["share"] * row["ms"] for row in kinds if row is not mean), rel=0.01)
    assert last["ms_step"] == mean["ms"] <= last["ms_whole_step"] * 1.5
    ours = next(row for row in rows if row["case"] == "step" and row["implementation"] == "pie_jax")
    assert ours["batch"] == 2 and ours["controls"] == 1 and ours["gflop"] > 0 and ours["compile_s"] > 0
    assert {path.suffix for path in out.glob("toy-8-2-float32-controls1*")} == {".png", ".md"}


def test_the_parts_that_are_asked_for(tmp_path, capsys, no_settings):
    save_pack(tmp_path / "toy", toy.toy_pack(jax.random.key(3), configs=CONFIGS), storage="float32")
    common = ["--pack", str(tmp_path / "toy"), "--controls", "pose", "--runs", "1", "--preset", "paper", "--parts"]
    assert steps.main([*common, "rig", "--out", str(tmp_path / "out")]) == 0
    rows = harness.read_rows(tmp_path / "out" / "rows.jsonl")
    assert [row["case"] for row in rows] == ["step", "mean step", "rig"]  # paper has one kind of step
    assert rows[0]["share"] == 1.0 and rows[0]["ms"] == rows[1]["ms"]
    with pytest.raises(SystemExit, match="no part 'hat'; it has synthesis"):
        steps.main([*common, "hat"])


@pytest.mark.parametrize("benchmark", (steps, scaling), ids=("steps", "scaling"))
def test_what_a_chart_lacks_is_said_before_anything_is_measured(benchmark, monkeypatch, capsys, tmp_path):
    def measured(*_, **__):
        raise AssertionError("the measurement began")

    monkeypatch.setattr(harness, "start", measured)
    for name in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "benchmarks.chart", raising=False)
    monkeypatch.delattr(benchmarks, "chart", raising=False)
    assert benchmark.main(["--out", str(tmp_path)]) == PackError.exit_code
    assert "matplotlib" in (said := capsys.readouterr().err) and "pip install" in said and said.count("\n") == 1


def test_nonsense_is_refused(capsys):
    for bad in (["--torch", "--precision", "bfloat16"], ["--batch", "0"], ["--random", "512"]):
        assert steps.main(bad) == 2
    assert "float32" in capsys.readouterr().err


@pytest.mark.parametrize("resolution", random_pack.SIZES)
def test_random_packs_have_the_public_sizes(resolution):
    configs = random_pack.configs_of_size(resolution)
    assert configs.generator.num_layers == {256: 14, 1024: 18}[resolution]
    if resolution == 1024:
        assert configs.generator.channels(1024) == 32 and configs.generator.channels(64) == 512
    with pytest.raises(ValueError, match="resolution"):
        random_pack.configs_of_size(128)


def test_a_random_pack_is_a_whole_pack():
    pack = random_pack.random_pack(CONFIGS, pool=4)
    for part, weights in pack.weights.items():
        check_weights(part, weights, pack.configs)
    described = portrait_energy(pack)
    assert described.missing == () and components.counts(described, 3) == (3, 6)
    everything = portrait_energy(pack, config=dataclasses.replace(CONFIGS.energy, control_sampling="all", samples=2))
    assert components.counts(everything, 2) == (12, 24)
