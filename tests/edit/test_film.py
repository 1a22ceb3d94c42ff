"""Films: every kind, frames that are kept and gone on from, one program for many frames."""

import sys

import numpy as np
import pytest
from PIL import Image

from pie_jax.cli.progress import Progress
from pie_jax.edit.film import make_film
from pie_jax.errors import PackError, UsageError
from pie_jax.io.film import film_bytes
from pie_jax.portrait import PhotoEditor


def frame(number, size=64):
    image = np.zeros((size, size, 3), np.uint8)
    image[:, : 8 * number + 4] = 40 * number + 20
    return image


def draw(numbers):
    yield from map(frame, numbers)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_films_of_pillow_hold_every_frame(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    drawn = make_film(path, 4, draw, facts={}, order=[0, 1, 2, 3, 2, 1], rate=10, loop=True,
                      progress=Progress(quiet=True))
    with Image.open(path) as film:
        assert drawn == 4 and film.n_frames == 6 and film.info.get("loop", 0) == 0
        for at, number in enumerate([0, 1, 2, 3, 2, 1]):
            film.seek(at)
            assert np.abs(np.asarray(film.convert("RGB"), int) - frame(number)).mean() < 3
            assert film.info["duration"] == 100
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no frames are left


def test_a_film_as_mp4_is_h264(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = tmp_path / "film.mp4"
    make_film(path, 3, lambda numbers: (frame(n, 65) for n in numbers), facts={}, order=[0, 1, 2], rate=24, loop=True,
              progress=Progress(quiet=True))
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        pictures = [picture.to_ndarray(format="rgb24") for picture in film.decode(video=0)]
        assert stream.codec_context.name == "h264" and stream.average_rate == 24
    assert len(pictures) == 3 and pictures[0].shape == (64, 64, 3)  # its sides are even
    assert np.abs(pictures[2].astype(int) - frame(2)).mean() < 4


def test_mp4_without_pyav_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PackError, match=r"pie_jax\[video\]"):
        film_bytes(draw([0]), suffix=".mp4", rate=24)
    with pytest.raises(UsageError):
        film_bytes(draw([0]), suffix=".avi", rate=24)
    with pytest.raises(UsageError):
        film_bytes([], suffix=".gif", rate=24)


def test_a_film_that_was_stopped_goes_on(tmp_path):
    path, asked = tmp_path / "film.webp", []

    def stopped(numbers):
        for number in numbers:
            asked.append(number)
            if len(asked) == 3:
                raise KeyboardInterrupt
            yield frame(number)

    with pytest.raises(KeyboardInterrupt):
        make_film(path, 5, stopped, facts={"a": 1}, order=range(5), rate=5, loop=True, progress=Progress(quiet=True))
    assert not path.exists()
    drawn = make_film(path, 5, draw, facts={"a": 1}, order=range(5), rate=5, loop=True, progress=Progress(quiet=True))
    assert drawn == 3
    with Image.open(path) as film:
        assert film.n_frames == 5


def test_frames_of_other_settings_are_drawn_again(tmp_path):
    folder = tmp_path / "frames"
    counts = [make_film(folder, count, draw, facts=facts, order=range(count), rate=5, loop=True,
                        progress=Progress(quiet=True)) for count, facts in ((3, {}), (3, {}), (4, {}), (3, {"b": 1}))]
    assert counts == [3, 0, 1, 3] and len(list(folder.glob("frame_*.png"))) == 3


def test_many_edits_in_one_program_are_each_of_them(photo_pack, fitted):
    editor = PhotoEditor(photo_pack, fitted, size=256)
    targets = [editor.target(yaw=yaw, expression={"smile": 0.5}) for yaw in (-8.0, 0.0, 9.0)]
    one_by_one = list(editor.edit_many(targets))
    together = list(editor.edit_many(targets, batch=2))
    assert len(together) == 3
    for a, b in zip(one_by_one, together, strict=True):
        assert a.shape == (256, 256, 3) and np.abs(a.astype(int) - b).max() <= 1
