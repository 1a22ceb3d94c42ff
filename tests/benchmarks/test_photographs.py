"""The benchmarks of generators of photographs: medians and bars, rows and chart of a training's log."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import training_log
from benchmarks.photographs import enlarged, summarise
from pie_jax.errors import InputError


def test_bars_are_asked_of_medians():
    rows = [{"kind": "synthesis", "name": "a", "pack": "1", "picture": str(i), "psnr_db": psnr, "identity": 0.8}
            for i, psnr in enumerate((24.0, 26.0, 30.0))]
    rows += [{"kind": "synthesis", "name": "a", "pack": "2", "picture": "0", "psnr_db": 30.0, "identity": 0.6},
             {"kind": "carried", "picture": "0", "identity_smile": 0.9}]
    found = summarise(rows)
    assert found["a 1"] == {"portraits": 3, "psnr_db": 26.0, "identity": 0.8, "bars_met": True}
    assert found["a 2"]["bars_met"] is False and found["carried photo"] == {"portraits": 1, "identity_smile": 0.9}


def test_portraits_are_enlarged_evenly():
    image = np.full((64, 64, 3), 0.5, np.float32)
    large = enlarged(image)
    assert large.shape == (256, 256, 3) and np.abs(large - 0.5).max() < 0.01


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "adversarial"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"batch": 16}))
    rows = []
    for step in range(100, 1100, 100):
        rows.append({"step": step, "seconds": step, "terms": {"loss": 1.0, "critic": 2.0, "augment": step / 2000}})
        rows.append({"step": step, "seconds": step, "metrics": {
            "distance_perceptual": 1e4 / step, "score_training": 1.0, "nearest_mean": 0.5}})
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_log_becomes_rows_a_chart_and_a_slope(run, tmp_path, capsys):
    out = tmp_path / "results"
    assert training_log.main([str(run), "--out", str(out), "--name", "x"]) == 0
    found = json.loads(capsys.readouterr().out)["adversarial"]
    assert found["images"] == 16_000 and found["distance_perceptual"] == 10.0
    assert found["distance_perceptual_slope"] == pytest.approx(-1.0, abs=1e-3)
    rows = [json.loads(line) for line in (out / "x.jsonl").read_text().splitlines()]
    assert len(rows) == 20 and {row["run"] for row in rows} == {"adversarial"}
    with Image.open(out / "x.png") as picture:
        assert picture.size == (1200, 900)


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(InputError, match="is not the run folder"):
        list(training_log.rows_of(tmp_path))
