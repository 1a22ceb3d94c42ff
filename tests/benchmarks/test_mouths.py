"""Sources of a mouth's inside: where they are placed, where they are measured, and what is summed up."""

import numpy as np

from benchmarks.photo.mouths import SOURCES, _box, _placed, summarise


def test_a_picture_is_placed_by_its_points():
    image = np.zeros((64, 64, 3), np.float32)
    image[20:24, 30:36] = 1.0
    found = np.array([[30, 20], [36, 20], [30, 24], [36, 24]]) / 64
    wanted = found * 1.5 + [0.05, 0.02]
    middle = np.round((wanted.mean(axis=0)) * 64).astype(int)
    placed = _placed(image, found, wanted, 64)
    assert placed[middle[1], middle[0]].min() > 0.9
    ink = np.argwhere(placed[..., 0] > 0.5).mean(axis=0)[::-1] + 0.5
    np.testing.assert_allclose(ink, wanted.mean(axis=0) * 64, atol=0.6)


def test_the_box_of_a_mouth_has_a_margin():
    region = _box(np.array([[0.25, 0.5], [0.75, 0.625]]), 64)
    rows, columns = np.nonzero(region.any(axis=1))[0], np.nonzero(region.any(axis=0))[0]
    assert (columns[0], columns[-1]) == (10, 53) and (rows[0], rows[-1]) == (26, 45)


def test_medians_are_parted_by_teeth():
    rows = [{"teeth": teeth, "gain_db": dict.fromkeys(SOURCES, gain)} for teeth, gain in (
        (True, 1.0), (True, 2.0), (True, 4.0), (False, -1.0))]
    summary = summarise(rows)
    assert summary["mouth_teeth"] == {"pairs": 3, **dict.fromkeys(SOURCES, 2.0)}
    assert summary["mouth_no_teeth"] == {"pairs": 1, **dict.fromkeys(SOURCES, -1.0)}
