"""`python -m benchmarks.scaling` at toy sizes: slopes of known data, rows, tables, charts, one JSON line at the end."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from benchmarks import chart, embedding_cost, growth, harness, random_pack, scaling
from pie_jax.config import DEFAULT_PRESET, EnergyConfig, preset_stages
from pie_jax.pack import check_weights, save_pack

CONFIGS = dataclasses.replace(
    toy.CONFIGS, **toy.layers_for(dataclasses.replace(toy.GENERATOR, resolution=8)),
    energy=EnergyConfig(render_resolution=16, terms=("synthesis",), edit_detail=None))
PARTS = ("generator", "morphable", "pool")  # what is left compiles in a second
SIZES = {"batch": (1, 2), "vertices": (64, 256), "steps": (2, 4)}


def rows_of(quantity: str, work, cost, **more) -> list[dict]:
    return [{"quantity": quantity, "size": w, "work": w, "cpu_ms": c, **{k: v[i] for k, v in more.items()}}
            for i, (w, c) in enumerate(zip(work, cost))]


@pytest.fixture
def at_toy_sizes(monkeypatch, tmp_path):
    """The folder of a toy pack; small sizes, and the process's own settings."""
    monkeypatch.setattr(harness, "start", lambda device=None, use_cores=None: None)
    monkeypatch.setattr(scaling, "QUANTITIES", {
        name: dataclasses.replace(quantity, sizes=SIZES.get(name, quantity.sizes))
        for name, quantity in scaling.QUANTITIES.items()})
    save_pack(tmp_path / "toy", toy.toy_pack(jax.random.key(3), configs=CONFIGS, parts=PARTS), storage="float32")
    return str(tmp_path / "toy")


@pytest.mark.parametrize("power", (0.0, 0.5, 1.0, 2.0))
def test_the_slope_is_the_power(power):
    work = np.array([1.0, 2.0, 5.0, 40.0])
    assert growth.fit_slope(work, 3.0 * work**power) == pytest.approx(power, abs=1e-12)
    with pytest.raises(ValueError, match="work"):
        growth.fit_slope([2, 2], [1, 3])


def test_what_grows_faster_than_its_work_is_told():
    linear = growth.verdict(rows_of("batch", (1, 2, 4), (10.0, 20.0, 40.0)))
    assert linear["slope"] == linear["slope_last"] == 1.0 and linear["verdict"] == "linear or less"
    late = growth.verdict(rows_of("batch", (1, 2, 4), (10.0, 11.0, 30.0)))  # constant costs hide it from the fit
    assert late["slope"] < growth.SUPERLINEAR < late["slope_last"] and late["verdict"] == "SUPERLINEAR"
    last = scaling.summary([*rows_of("batch", (1, 2), (10.0, 40.0)), *rows_of("samples", (1, 2), (10.0, 15.0))])
    assert last["superlinear"] == ["batch"] and last["slopes"] == {"batch": 2.0, "samples": 0.585}
    assert "SUPERLINEAR" in scaling.tables(rows_of("batch", (1, 2), (10.0, 40.0)))


def test_the_estimate_is_the_measured_photo_many_times():
    rows = [*rows_of("steps", (30, 300), (1e3, 9e3), cpu_s_photo=(1.0, 9.0), peak_mb=(400.0, 401.5)),
            *rows_of("devices", (1, 2), (1e3, 3e3), cpu_s_photo=(1.0, 1.5))]
    last = scaling.summary(rows)
    assert last["hours_70000_photos_one_core"] == 175.0 == 9 * 70_000 / 3600
    assert last["memory_growth_mb_steps"] == 1.5 and last["memory_growth_mb_photos"] is None
    assert last["sharding_overhead"] == 0.5
    assert scaling.summary(rows[2:])["hours_70000_photos_one_core"] is None


def test_the_last_size_of_steps_is_the_default_preset():
    sizes = scaling.QUANTITIES["steps"].sizes
    assert embedding_cost.stages_of(sizes[-1], encoder=True) == preset_stages(DEFAULT_PRESET, encoder=True)
    assert sizes[-1] == 10 * sizes[0]
    for encoder, stages in ((True, 1), (False, 2)):
        few = embedding_cost.stages_of(sizes[0], encoder=encoder)
        assert len(few) == stages and sum(stage.steps for stage in few) == sizes[0]


def test_rows_tables_and_charts(tmp_path, capsys, monkeypatch, at_toy_sizes):
    out = tmp_path / "out"
    faces = {64: {"cpu_ms": 3.0, "runs": 2, "memory_mb": 1.0}, 256: {"cpu_ms": 5.0, "runs": 2, "memory_mb": 2.0}}
    monkeypatch.setattr(scaling, "time_vertices", lambda runs: faces)  # what it calls is slow to compile
    for only in ("batch", "vertices"):  # the second run adds to what the first one left
        assert scaling.main(["--pack", at_toy_sizes, "--only", only, "--runs", "2", "--out", str(out)]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(last["slopes"]) == {"batch", "vertices"} and last["cpu_s_photo"] is None
    rows = harness.read_rows(out / "rows.jsonl")
    assert [(row["quantity"], row["size"], row["work"]) for row in rows] == [
        ("batch", 1, 1), ("batch", 2, 2), ("vertices", 64, 64), ("vertices", 256, 256)]
    assert all(row["cpu_ms"] > 0 and row["runs"] == 2 and row["memory_mb"] >= 0 for row in rows)
    assert all(f"| {name} | " in (out / "table.md").read_text() for name in ("batch", "vertices"))
    with Image.open(out / "vertices.png") as picture:
        assert picture.size[0] > 400
    assert not (out / "photos.png").exists()


def test_the_latest_row_of_a_size_counts():
    rows = rows_of("samples", (1, 2), (3.0, 4.0)) + rows_of("batch", (1, 2), (1.0, 2.0))
    rows += rows_of("batch", (1,), (9.0,))
    assert [row["cpu_ms"] for row in scaling.latest(rows)] == [9.0, 2.0, 3.0, 4.0]


def test_packs_of_other_sides_fit_together(monkeypatch):
    monkeypatch.setattr(random_pack, "grid_head", lambda: None)  # large, and replaced by the pack's own
    pack = toy.toy_pack(jax.random.key(3), configs=CONFIGS)
    assert scaling.pack_of_side(pack, 8) is pack
    larger = scaling.pack_of_side(pack, 16)
    assert larger.configs.generator.num_layers == larger.configs.dfr.num_layers == 6
    assert larger.morphable is pack.morphable and larger.pool is pack.pool
    for part, weights in larger.weights.items():
        check_weights(part, weights, larger.configs)
    assert scaling.QUANTITIES["resolution"].work(16) == 256


def test_embeddings_are_counted_by_photo(at_toy_sizes):
    found = embedding_cost.measure(at_toy_sizes, 1, [{"photos": 1, "steps": 2}, {"photos": 2, "steps": 2}])
    assert [row["photos"] for row in found] == [1, 2]
    assert all(row["cpu_s_photo"] == pytest.approx(row["cpu_ms"] / row["photos"] / 1e3, abs=1e-3) for row in found)


def test_virtual_devices_have_a_process_of_their_own(tmp_path, at_toy_sizes):
    found = embedding_cost.in_a_process(str(tmp_path / "xla"), pack=at_toy_sizes, devices=2,
                                 cases=[{"photos": 2, "steps": 2}], runs=1)
    assert found[0]["devices"] == 2 and found[0]["ms"] > 0


def test_nonsense_is_refused(capsys):
    for bad in (["--only", "weather"], ["--runs", "0"], ["--cores", "0"]):
        assert scaling.main(bad) == 2
    assert "weather" in capsys.readouterr().err
    for x, y in (([1], [1]), ([1, 2], [1]), ([1, 2], [0, 1])):
        with pytest.raises(ValueError, match="positive"):
            chart.log_log(x, y, slope=1.0, title="t", x_label="x", y_label="y")
