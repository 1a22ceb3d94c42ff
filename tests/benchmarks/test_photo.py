"""The benchmark of photographs: its figures from rows, its pictures without a face, a pair measured end to end."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.photo import nobody, pairs
from benchmarks.photo.__main__ import summarise
from benchmarks.photo.measure import psnr
from benchmarks.photo.portraits import detect, edits, guesses, pictures
from pie_jax.pack import load_pack
from pie_jax.photo.detect import find_faces
from pie_jax.photo.fitted import PARTS
from pie_jax.portrait import edit_photo


def test_figures_are_medians_and_counts_of_rows():
    rows = [{"kind": "pair", "unedited_db": 20.0 + i, "gain_db": gain, "teeth": i < 2, "landmarks_px224": 1.0,
             "identity": 0.9, "identity_of_photos": 0.9} for i, gain in enumerate((3.0, 1.0, -2.0))]
    rows += [{"kind": "nobody", "accepted": i == 0} for i in range(4)]
    rows += [{"kind": "studio", "found": True, "of": "yaw", "gain_db": 5.0, "over_generator_db": 1.0,
              "landmarks_by": "landmarks"},
             {"kind": "time", "fit_seconds": 0.25}]
    found = summarise(rows)
    assert (found["pairs"], found["pairs_gain_db"], found["pairs_better"], found["pairs_teeth_gain_db"]) == (3, 1, 2, 2)
    assert found["pairs_identity"] == 1 and found["false_accepts"] == 1 and found["fit_seconds"] == 0.25
    assert found["studio_gain_db"] == {"yaw": 5.0, "light": None, "jaw_open": None, "smile": None, "blink": None}
    assert found["own_points"] == {"made people": 1.0}
    assert "detect_rate" not in found


def test_psnr_of_a_region():
    a, b = np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.1)
    b[0] = 0.5
    region = np.ones((4, 4), bool)
    region[0] = False
    assert psnr(a, b, region) == pytest.approx(20.0) and psnr(a, b) < 15


def test_pictures_of_nobody_are_the_same_each_time_and_have_no_face(photo_pack):
    for number, kind in enumerate(nobody.KINDS[:4]):
        (found, image), (_, again) = nobody.picture(number, None), nobody.picture(number, None)
        assert found == kind and np.array_equal(np.asarray(image), np.asarray(again)) and image.size == (384, 384)
        assert find_faces(photo_pack, image) == []


def test_a_pair_is_measured(photo_pack, photo, fitted, tmp_path):
    smiling = edit_photo(photo_pack, fitted, expression={"smile": 1.0})
    Image.fromarray(fitted.portrait).save(tmp_path / f"x{pairs.NEUTRAL}", quality=95)
    Image.fromarray(np.round(smiling * 255).astype(np.uint8)).save(tmp_path / f"x{pairs.SMILING}", quality=95)
    points = find_faces(photo_pack, Image.fromarray(fitted.portrait))[0].points / fitted.portrait.shape[0]
    np.savez(tmp_path / "points.npz", x_smiling=points, **{f"x{pairs.NEUTRAL[:-4]}": points})
    (row, pictures_of_it), = pairs.measure(photo_pack, tmp_path, lambda image: np.ones(4) / 2)
    assert row["person"] == "x" and row["gain_db"] > 1.5 and row["landmarks_px224"] < 2 and row["identity"] == 1
    assert len(pictures_of_it) == 3
    assert [path.name for path in pictures(tmp_path, 1)] == [f"x{pairs.NEUTRAL}"]
    found, = detect(photo_pack, tmp_path, 1)
    assert found["found"] and found["points_of_eyes"] < 0.03
    regressing = load_pack("demo", parts=(*PARTS, "regressor"))
    guess, = (row for row in guesses(regressing, tmp_path, 1))
    assert guess["picture"] == f"x{pairs.NEUTRAL[:-4]}" and 0 < guess["guess_px224"] < 20
    assert guess["landmarks_by"] == "face_mesh"
    row = edits(photo_pack, tmp_path / f"x{pairs.NEUTRAL}", lambda image: np.ones(4) / 2)
    assert row["outside_changed"] == 0 and row["there_and_back_db"] > 20 and row["identity_smile"] == 1
