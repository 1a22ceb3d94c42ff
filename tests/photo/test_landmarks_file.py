"""Points that a user brings: three conventions, two kinds of file, and what is refused."""

import json

import numpy as np
import pytest

from pie_jax.errors import InputError
from pie_jax.nn.face_mesh import LANDMARKS, landmarks_of
from pie_jax.photo.fitted import frame_photo
from pie_jax.photo.landmarks_file import read_landmarks

RNG = np.random.default_rng(0)


def test_66_68_and_478_points(tmp_path):
    points = RNG.uniform(0, 400, (68, 2))
    mesh = RNG.uniform(0, 400, (478, 3))
    np.savez(tmp_path / "p.npz", a=np.delete(points, [60, 64], 0), b=points, c=mesh)
    table = read_landmarks(tmp_path / "p.npz")
    np.testing.assert_allclose(table["a"], table["b"])
    np.testing.assert_allclose(table["c"], landmarks_of(mesh))
    assert all(value.shape == (66, 2) for value in table.values()) and len(set(LANDMARKS)) == 66
    (tmp_path / "p.json").write_text(json.dumps({"me.jpg": points.tolist()}))
    np.testing.assert_allclose(read_landmarks(tmp_path / "p.json")["me.jpg"], table["b"])


@pytest.mark.parametrize("text,said", [
    ("", "cannot be read as landmarks"), ("[1, 2]", "cannot be read as landmarks"),
    ('{"a": [[1, 2]]}', "66, 68 or 478"),
    ('{"a": "x"}', "cannot be read|66, 68"), (json.dumps({"a": [[float("nan"), 1.0]] * 66}), "finite")])
def test_other_files_are_refused(tmp_path, text, said):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_landmarks(tmp_path / "p.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_landmarks(tmp_path / "gone.json")


def test_known_points_frame_a_photo_without_looking(photo_pack, photo):
    found = frame_photo(photo_pack, photo)
    known = frame_photo(photo_pack.__class__(weights={}), photo, landmarks=found[1])
    assert known[0] == found[0] and np.array_equal(known[1], found[1])
