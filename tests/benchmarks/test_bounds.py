"""The benchmark of bounds: measured once, each of the bounds in a row, equal ones in one program."""

import numpy as np
import pytest

from benchmarks import bounds as benchmark
from pie_jax import runtime
from pie_jax.bounds import Bounds, Range
from pie_jax.nn import autotune, probes
from pie_jax.nn.probes import Times


def test_a_measurement_and_its_probes_are_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(runtime, "keeps_programs", lambda: True)
    monkeypatch.setattr(probes, "time_probes", lambda asked: {p: Times((2e-3, 3e-3), (1e-3, 1e-3)) for p in asked})
    variants, rows = benchmark.measure()
    assert set(variants) == {"committed", "measured", "none", "all"}
    assert [row["kind"] for row in rows] == ["measurement"] + ["probe"] * len(autotune.PROBES)
    assert all(row["direct_ms"] == 2 and row["other_ms"] == 1 and row["measured"] for row in rows[1:])


def test_equal_bounds_share_a_program():
    made = []

    def make():
        made.append(runtime.backend().bounds)
        return lambda: None, np.full(2, 1.0 + 1e-6 * (len(made) - 1)), np.ones((2, 3))

    first, other = Bounds(winograd=(), fused_upsample=()), Bounds(winograd=(Range(1, 0, 9),), fused_upsample=())
    variants = {"committed": first, "measured": first, "all": other}
    rows = benchmark.time_variants(({"kind": "step"}, make), variants, runs=2)
    assert made == [first, other] and [row["as_committed"] for row in rows] == [True, True, False]
    assert [row["energy_difference"] for row in rows] == [0.0, 0.0, pytest.approx(1e-6, rel=0.1)]
    assert {row["gradient_difference"] for row in rows} == {0.0}
