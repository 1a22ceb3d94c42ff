"""The one way of timing: figures that can be known beforehand, rows, tables, charts."""

import itertools
import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import chart, harness


@pytest.fixture
def cache(tmp_path):
    """A compilation cache of this test alone."""
    before = {name: getattr(jax.config, name) for name in (
        "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes")}
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_program_is_counted_and_timed_apart(cache):
    a, b = jnp.ones((64, 32)), jnp.ones((32, 48))
    program = harness.compile_program(lambda a, b: jnp.sin(a @ b), a, b)
    assert program.flops == pytest.approx(2 * 64 * 32 * 48, rel=0.1)
    assert program.bytes >= 4 * (64 * 32 + 32 * 48 + 64 * 48)
    assert min(program.trace_s, program.compile_s, program.cached_s) > 0
    np.testing.assert_allclose(program.call(a, b), np.sin(np.full((64, 48), 32.0)), rtol=1e-5)
    assert set(program.row()) == {"trace_s", "compile_s", "cached_s", "gflop", "gbyte", "memory_mb"}


def test_runs_alternate_and_are_summed_up(monkeypatch):
    monkeypatch.setattr(harness, "_SETTLED", 0.001)
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0])
    monkeypatch.setattr(harness, "time", clock)
    order = []

    def short():
        order.append("short")
        now[0] += 2**-12

    def long():
        order.append("long")
        now[0] += 2**-6

    spreads = harness.run_blocked({"short": short, "long": long}, runs=10, warm=1)
    assert [name for name, _ in itertools.groupby(order)] == ["short", "long"] * 11
    assert order.count("long") == 11 and order.count("short") > 22  # repeated until the one before is past
    assert 15 <= spreads["long"].low and spreads["short"].ms < 1
    for spread in spreads.values():
        assert 0 <= spread.low <= spread.ms <= spread.high and spread.runs == 10


def test_the_roofline_takes_the_tighter_bound():
    program = harness.Program(call=None, trace_s=1, compile_s=1, cached_s=1, flops=2e9, bytes=1e9, memory_mb=None)
    spread = harness.Spread(ms=100.0, low=90.0, high=110.0, cpu=100.0, runs=20)
    row = harness.roofline(program, spread, harness.Ceilings(matmul_gflops=100.0, copy_gbytes=20.0))
    assert row["bound"] == "memory" and row["roofline"] == 0.5 and row["of_matmul"] == 0.2
    row = harness.roofline(program, spread, harness.Ceilings(matmul_gflops=25.0, copy_gbytes=20.0))
    assert row["bound"] == "matmul" and row["roofline"] == row["of_matmul"] == 0.8


def test_ceilings_are_measured():
    found = harness.ceilings(side=128, megabytes=1, runs=3)
    assert found.matmul_gflops > 0 and found.copy_gbytes > 0
    assert harness.peak_memory_mb() > 10


def test_rows_go_to_a_file_and_into_a_table(tmp_path):
    rows = [{"case": "x", "ms": 1.23456, **harness.describe_machine()}, {"case": "y", "runs": 20}]
    path = tmp_path / "new" / "rows.jsonl"
    harness.append_rows(path, rows[:1])
    harness.append_rows(path, rows[1:])
    assert harness.read_rows(path) == json.loads(json.dumps(rows))
    assert rows[0]["jax"] == jax.__version__ and rows[0]["cores"] >= 1
    assert harness.table(rows, ("case", "ms", "runs")).splitlines()[2:] == ["| x | 1.235 |  |", "| y |  | 20 |"]


def test_import_time_is_of_a_fresh_interpreter(monkeypatch):
    now, called = [0.0], []

    def run(words, **_):
        called.append(words)
        now[0] += {"pass": 0.25, "import json": 0.5, "import jax": 1.5}[words[-1]]

    monkeypatch.setattr(harness, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(harness, "subprocess", SimpleNamespace(run=run))
    assert harness.import_seconds("json", runs=1) < harness.import_seconds("jax", runs=1)
    assert harness.import_seconds("json", runs=3) == 0.25
    assert all(words[:2] == [sys.executable, "-c"] for words in called) and len(called) == 10


def test_bars_are_as_long_as_their_values(tmp_path):
    made = chart.bars([("one", 1.0, 0.9, 1.1, "pie_jax"), ("two", 2.0, 1.9, 2.2, "peer")], title="t")
    chart.save(made, tmp_path / "bars.png")
    picture = np.asarray(Image.open(tmp_path / "bars.png").convert("RGB"))
    blue = (picture == (0, 114, 178)).all(-1).sum(1).max()
    red = (picture == (213, 94, 0)).all(-1).sum(1).max()
    assert red == pytest.approx(2 * blue, rel=0.05)
    with pytest.raises(ValueError, match="kinds"):
        chart.bars([("one", 1.0, 1.0, 1.0, "unknown")], title="t")
