"""The measures of benchmarks.quality on pictures whose answer is known."""

import json

import numpy as np
import pytest

from benchmarks.quality import measure
from benchmarks.quality.__main__ import main, rounded
from benchmarks.quality.edits import EDITS, Edit, obtained
from benchmarks.quality.summary import accuracy, summary
from pie_jax.morphable import PARAMETERS, VECTOR_SLICES
from pie_jax.render import light


def rows_of(obtain, *, seeds=3):
    """Rows as `measure` writes them, with `obtain(edit)` read from every edit and edits 6 dB nearer to the truth."""
    edits = {edit.name: {"asked": edit.asked, "obtained": obtain(edit), "before": -5.0, "drift": 0.25,
                         "identity_cosine": 0.8, "identity_cosine_of_truth": 0.9, "landmark_px128": 1.0, "moved": 0.1,
                         **{f"{region}_db": 26.0 for region in ("truth", "face", "region", "mouth")},
                         **{f"{region}_unedited_db": 20.0 for region in ("truth", "face", "region", "mouth")}}
             for edit in EDITS}
    return [{"seed": seed, "psnr_db": 30.0 + seed, "ssim": 0.9, "seconds": 4.0, "edits": dict(edits)}
            for seed in range(seeds)]


def test_edits_are_named_by_what_they_ask_and_know_their_rig():
    edit = Edit(quantity="yaw", asked=-15.0)
    assert (edit.name, edit.control, edit.request) == ("yaw-15", "pose", {"yaw": -15.0})
    assert Edit(quantity="smile", asked=2.0).request == {"expression": {"smile": 2.0}}
    assert Edit(quantity="azimuth", asked=45.0).request["light"][0] == 45.0
    assert len({edit.name for edit in EDITS}) == len(EDITS)


def test_what_was_obtained_is_read_in_the_unit_that_was_asked():
    vector = np.zeros(PARAMETERS, np.float32)
    vector[VECTOR_SLICES["rotation"]] = np.radians([3.0, -15.0, 0.0])
    vector[VECTOR_SLICES["illumination"]] = np.asarray(light(30.0, 10.0, 0.6, ambient=0.4))
    vector[VECTOR_SLICES["expression"].start + 1] = 1.5
    names = ("jaw_open", "smile")
    found = [obtained(vector, quantity, names) for quantity in ("pitch", "yaw", "azimuth", "elevation", "smile")]
    np.testing.assert_allclose(found, [3.0, -15.0, 30.0, 10.0, 1.5], rtol=1e-4)


def test_a_perfect_and_a_weak_answer_have_their_slopes():
    assert accuracy(rows_of(lambda edit: edit.asked), "yaw") == pytest.approx({"slope": 1, "correlation": 1, "mae": 0})
    weak = accuracy(rows_of(lambda edit: 0.5 * edit.asked + 1), "yaw")
    assert (weak["slope"], weak["correlation"]) == pytest.approx((0.5, 1.0))


def test_the_summary_counts_gains_against_the_unedited():
    figures = summary(rows_of(lambda edit: edit.asked))
    assert (figures["count"], figures["psnr_median"], figures["seconds_per_portrait"]) == (3, 31.0, 4.0)
    assert figures["yaw_in_order"] == 3 and figures["truth_gain_db"]["yaw"] == pytest.approx(6.0)
    assert figures["mouth_error_ratio"]["smile"] == pytest.approx(10 ** -0.3)
    assert figures["mouth_closer"]["jaw_open"] == 3
    assert figures["identity_cosine_ratio"] == pytest.approx(0.8 / 0.9)
    assert json.loads(json.dumps(rounded(figures)))["drift"]["pose"] == 0.25


def test_the_farther_of_two_requests_is_a_portraits_own_edit():
    rows = rows_of(lambda edit: edit.asked)
    for row, before in zip(rows, (0.1, 1.9, 0.2)):
        for asked in (0, 1, 2):
            edit = row["edits"][f"smile+{asked}"] = dict(row["edits"][f"smile+{asked}"], before=before)
            edit["mouth_db"] = 26.0 if abs(before - asked) > 1 else 14.0  # the small edits make it worse
    figures = summary(rows)
    assert figures["mouth_farther"]["smile"] == pytest.approx({"closer": 3, "error_ratio": 10 ** -0.3})
    assert figures["mouth_closer"]["smile"] == 2


def test_errors_are_taken_over_their_region():
    truth = np.full((8, 8, 3), 0.5, np.float32)
    image, mask = truth.copy(), np.zeros((8, 8))
    image[2, 2], mask[2, 2] = 0.6, 1.0
    assert measure.decibels(image, truth, mask) == pytest.approx(20.0, abs=1e-3)
    assert measure.decibels(image, truth) == pytest.approx(20.0 + 10 * np.log10(64), abs=1e-3)


def test_sharpness_is_the_gradient_energy_of_the_face():
    rng = np.random.default_rng(0)
    image, mask = rng.random((16, 16, 3)), np.ones((16, 16))
    assert measure.sharpness(image, image, mask) == pytest.approx(1.0)
    assert measure.sharpness(0.5 * image, image, mask) == pytest.approx(0.25)
    mask[:8] = 0
    blurred = image.copy()
    blurred[:8] = 0.5
    assert measure.sharpness(blurred, image, mask) == pytest.approx(1.0, rel=0.2)


def test_the_mouth_is_the_box_round_both_mouths():
    points = np.zeros((66, 2))
    points[48:] = [10, 20]
    moved = points.copy()
    moved[48:, 1] = 24
    mask = measure.mouth_mask((50, 50), points, moved)
    assert mask[20, 10] == mask[24, 10] == mask[22, 9] == 1 and mask[30, 10] == mask[20, 15] == 0


def test_seeds_of_training_are_refused():
    with pytest.raises(SystemExit, match="belong to training"):
        main(["--seed", "999999", "--count", "2"])
