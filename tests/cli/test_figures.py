"""Figures: sizes, crisp pixels, labels that fit, curves where they belong."""

import numpy as np
import pytest
from PIL import Image

from pie_jax.cli import figures


def checker(side=32):
    y, x = np.mgrid[0:side, 0:side]
    return np.repeat(((x // 4 + y // 4) % 2)[..., None], 3, -1).astype(np.float32)


def test_grid_enlarges_small_pictures_by_whole_factors():
    sheet = figures.grid([figures.Tile(image=checker(), label="a", detail="b")] * 5, columns=3, title="name.png")
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB" and sheet.width >= 3 * 224 and sheet.height >= 2 * 224
    margin = 224 // 12
    row = np.flatnonzero((pixels[:, margin + 3] == 0).all(-1))[0]  # the first black cell on the left edge
    cell = pixels[row - 14 if row > 14 else row:, margin:margin + 224][:7]
    assert set(np.unique(cell)) <= {0, 255, *figures._GROUND}  # nothing was smeared between black and white


def test_one_tile_and_none():
    assert figures.grid([figures.Tile(image=checker(256))], columns=6).width >= 256
    with pytest.raises(ValueError, match="tiles"):
        figures.grid([], columns=2)


def test_labels_are_cut_to_fit():
    text = figures.shorten("a label much too long for its picture", 100, 16)
    assert text.endswith("…") and figures.font(16).getlength(text) <= 100
    assert figures.shorten("short", 100, 16) == "short"
    assert figures.shorten("李", 100, 16) == "\\u674e"
    assert figures.legible("写_é – Ω.png") == "\\u5199_e - \\u03a9.png"


def test_enlarge_keeps_or_shrinks():
    assert figures.enlarge(checker(), 32, 32).size == (32, 32)
    assert figures.enlarge(checker(), 20, 20).size == (20, 20)
    assert figures.to_pillow(np.full((2, 2, 3), np.nan)).getpixel((0, 0)) == (0, 0, 0)


def test_chart_draws_each_curve_in_its_colour():
    steps = np.arange(1, 301)
    series = {"synthesis": np.exp(-steps / 50) + 0.01, "edit": np.full(300, 0.2), "energy": np.full(300, np.nan)}
    series["energy"] = series["synthesis"] + series["edit"]
    chart = figures.energy_chart(steps, series, total="energy", marks={0: "W", 200: "W+"}, title="x")
    assert chart.size == (1200, 680)
    pixels = np.asarray(chart).astype(int)
    for colour in (*figures._SERIES[:2], figures._INK):
        near = np.abs(pixels[80:610, 95:960] - np.array(colour)).max(-1) < 12
        assert near.sum() > 200


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [0.0, 0.0], [1.0], [np.inf, 1e-30], [3.0, 3.0], [-1.0, 2.0]])
def test_chart_survives_any_trace(values):
    chart = figures.energy_chart(np.arange(len(values)), {"energy": values, "edit": values[::-1]}, total="energy")
    assert isinstance(chart, Image.Image)
    assert figures.energy_chart([], {}).size == (1200, 680)


def test_running_median():
    values = np.array([1.0, 9.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(figures.running_median(values, 1), [5.0, 2.0, 3.0, 3.0, 3.5])
    np.testing.assert_allclose(figures.running_median(values, 0), values)


def test_numbers_are_short():
    assert [figures._number(v) for v in (0.001, 0.02, 1, 20, 1000, 23456, 1e-5, 2.5e6, float("nan"))] == [
        "0.001", "0.02", "1", "20", "1000", "23456", "1e-5", "2.5e6", "–"]
