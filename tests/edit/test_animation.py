"""Keyframes: what lies between them, and one line for what is none."""

import json

import pytest

from pie_jax.edit.animation import EASINGS, read_keyframes, sweep
from pie_jax.errors import InputError, UsageError

KEYS = [{"at": 0, "yaw": -10}, {"at": 1, "smile": 2, "easing": "linear"}, {"at": 2, "yaw": 10, "easing": "smooth"}]


def written(tmp_path, text, name="moves.json"):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_numbers_between_keys(tmp_path):
    film = read_keyframes(written(tmp_path, {"keys": KEYS, "loop": "once"}))
    frames = film.frames(rate=4, own={"yaw": 3.0, "smile": 0.0})
    assert len(frames) == 9 and film.seconds == 2 and film.loop == "once"
    assert [frame["yaw"] for frame in frames[::4]] == [-10, 0, 10]  # smooth, halfway at half the time
    assert frames[1]["yaw"] == pytest.approx(-10 + 20 * (0.125**2) * (3 - 0.25))
    assert [frame["smile"] for frame in frames] == [0, 0.5, 1, 1.5, 2, 2, 2, 2, 2]  # from its own, then held


def test_a_loop_that_repeats_has_no_frame_twice(tmp_path):
    film = read_keyframes(written(tmp_path, {"keys": [{"at": 0, "yaw": 0}, {"at": 1, "yaw": 0, "smile": 1}]}))
    frames = film.frames(rate=10, own={"yaw": 0, "smile": 0})
    assert len(frames) == 10 and film.order(10) == list(range(10)) and frames[-1]["smile"] < 1


def test_csv_says_the_same_as_json(tmp_path):
    film = read_keyframes(written(tmp_path, "at, yaw, smile, easing\n0,-10,,\n1,,2,linear\n2,10,,smooth\n", "m.csv"))
    assert film.tracks == read_keyframes(written(tmp_path, {"keys": KEYS})).tracks


def test_a_sweep_goes_there_and_back():
    film = sweep("yaw", -20, 20, 5, rate=10)
    assert [frame["yaw"] for frame in film.frames(rate=10, own={"yaw": 7})] == pytest.approx([-20, -10, 0, 10, 20])
    assert film.order(5) == [0, 1, 2, 3, 4, 3, 2, 1]


def test_easings_begin_at_0_and_end_at_1():
    for name, ease in EASINGS.items():
        assert ease(0.0) == 0.0 and ease(1.0) == 1.0 and 0.0 <= ease(0.4) <= 1.0, name


@pytest.mark.parametrize("text", [
    "", "[", "[]", "{}", '{"keys": 1}', '{"keys": []}', {"keys": [{"yaw": 1}]}, {"keys": [{"at": 0, "yaw": 1}]},
    {"keys": [{"at": 1, "yaw": "far"}]}, {"keys": [{"at": 1, "yaw": True}]}, {"keys": [{"at": 1, "yaw": None}]},
    {"keys": [{"at": 2, "yaw": 1}, {"at": 1, "yaw": 2}]}, {"keys": [{"at": 1e9, "yaw": 1}]},
    {"keys": [{"at": 1, "yaw": 1, "easing": "bouncy"}]}, {"keys": KEYS, "loop": "ever"}, {"keys": KEYS, "rate": 3},
    '{"keys": [{"at": 1, "yaw": NaN}]}', '{"keys": [{"at": 1, "yaw": 1e999}]}', "[" * 5000])
def test_what_is_no_keyframes_gets_one_line(tmp_path, text):
    with pytest.raises(InputError, match="moves.json") as error:
        read_keyframes(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.csv").write_bytes(b"x" * (2**20 + 1))
    for name in ("binary.json", "large.csv", "missing.json"):
        with pytest.raises(InputError, match=name):
            read_keyframes(tmp_path / name)


def test_too_many_frames(tmp_path):
    film = read_keyframes(written(tmp_path, {"keys": [{"at": 500, "yaw": 1}]}))
    with pytest.raises(UsageError, match="at most"):
        film.frames(rate=60, own={"yaw": 0})
