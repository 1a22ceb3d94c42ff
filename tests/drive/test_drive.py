"""A photo driven by pictures of a face: it follows them, holds what is not seen, and goes on where it was stopped."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from pie_jax.drive import main
from pie_jax.drive.run import driven
from pie_jax.drive.source import open_source
from pie_jax.drive.track import Track, smoothed
from pie_jax.errors import InputError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.portrait import PhotoEditor
from pie_jax.portrait.request import AXES

YAW = AXES.index("yaw")
TURNS = (0.0, 3.0, 6.0, 9.0, 12.0, 9.0)


@pytest.fixture(scope="module")
def frames(photo_pack, fitted):
    """The sample's portrait, turned a little more from one to the next."""
    editor = PhotoEditor(photo_pack, fitted, size=256)
    start = float(np.degrees(fitted.params.rotation[YAW]))
    return [editor.edit(yaw=start + turn) for turn in TURNS]


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def still(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "me.png"
    Image.fromarray(frames[0]).save(path)
    return path


def run(*words):
    return main([str(word) for word in words])


def pictures(folder):
    return [np.asarray(Image.open(path), int) for path in sorted(folder.glob("frame_*.png"))]


def test_a_photo_follows_a_clip_of_itself(still, clip, frames, tmp_path, capsys):
    assert run(still, "--by", clip, "-o", tmp_path / "out", "--size", 256, "--smooth", 1, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 6 and told["held"] == 0
    made = pictures(tmp_path / "out")
    for number in (2, 4):
        apart = np.abs(made[number] - frames[number].astype(int)).mean()
        assert apart < 0.6 * np.abs(frames[0].astype(int) - frames[number]).mean()
    assert not (tmp_path / ".out.work").exists()


def test_pictures_without_a_face_are_held_and_counted(still, clip, tmp_path, capsys):
    for path in clip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (256, 256), (120, 90, 60)).save(tmp_path / "002.png")
    assert run(still, "--by", tmp_path, "-o", tmp_path / "out", "--size", 256, "--smooth", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["held"] == 1
    made = pictures(tmp_path / "out")
    assert np.array_equal(made[1], made[2]) and not np.array_equal(made[2], made[3])


def test_a_film_has_the_sound_of_the_video(still, frames, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    video, out = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    with av.open(str(video), "w") as film:
        pictured, heard = film.add_stream("libx264", rate=12), film.add_stream("aac", rate=44100)
        pictured.width = pictured.height = 256
        pictured.pix_fmt = "yuv420p"
        for frame in frames:
            film.mux(pictured.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(pictured.encode())
        wave = (8000 * np.sin(np.arange(22050) / 20.0)).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        sound.sample_rate = 44100
        film.mux(heard.encode(sound))
        film.mux(heard.encode())
    source = open_source(video)
    assert source.rate == 12 and len(list(source.pictures())) == 6 and len(list(source.pictures(start=4))) == 2
    assert run(still, "--by", video, "-o", out, "--size", 256) == 0
    with av.open(str(out)) as film:
        assert film.streams.video[0].average_rate == 12 and len(film.streams.audio) == 1
        assert sum(1 for _ in film.decode(video=0)) == 6
    with av.open(str(out)) as film:
        assert sum(frame.samples for frame in film.decode(audio=0)) > 15000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


def test_a_film_that_was_stopped_goes_on_after_its_last_whole_part(still, clip, tmp_path, monkeypatch):
    pytest.importorskip("av", reason="PyAV is not installed")
    from pie_jax.drive import run as drive_run
    from pie_jax.io.film import H264

    drawn, add = [], H264.add

    def stopped(film, frame):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(film.path.name)
        add(film, frame)

    monkeypatch.setattr(drive_run, "_SEGMENT", 2)
    words = still, "--by", clip, "-o", tmp_path / "out.mp4", "--size", 256
    with monkeypatch.context() as patched:
        patched.setattr(H264, "add", stopped)
        assert run(*words) == 130
    assert not (tmp_path / "out.mp4").exists() and len(list((tmp_path / ".out.mp4.work").glob("*.mp4"))) == 1
    drawn.clear()
    monkeypatch.setattr(H264, "add", lambda film, frame: (drawn.append(film.path.name), add(film, frame)))
    assert run(*words) == 0
    assert len(drawn) == 4 and [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_another_photo_gives_a_picture(still, clip, frames, tmp_path):
    assert run(still, "--by", clip / "004.png", "-o", tmp_path / "one.png", "--size", 256) == 0
    made = np.asarray(Image.open(tmp_path / "one.png"), int)
    assert np.abs(made - frames[4].astype(int)).mean() < np.abs(frames[0].astype(int) - frames[4]).mean()
    assert run(still, "--by", clip / "004.png", "-o", tmp_path / "one.mp4") == 2
    assert run(still, "--by", clip, "-o", tmp_path / "one.png") == 2


def test_what_cannot_be_followed_gets_one_line(still, tmp_path, capsys):
    wall, empty, broken = tmp_path / "walls", tmp_path / "empty", tmp_path / "broken.mp4"
    wall.mkdir()
    empty.mkdir()
    Image.new("RGB", (256, 256), (120, 90, 60)).save(wall / "0.png")
    Image.new("RGB", (256, 256), (120, 90, 60)).save(wall / "1.png")
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + b"x" * 500)
    for by, code in ((wall, 5), (empty, 3), (broken, 3), (tmp_path / "none.mp4", 3)):
        assert run(still, "--by", by, "-o", tmp_path / "out.mp4") == code, by
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    with pytest.raises(InputError):
        open_source(tmp_path / "none")


def test_a_track_goes_on_where_it_was(tmp_path):
    facts = np.arange(32, dtype=np.uint8)
    rows = Track(np.ones((5, 257), np.float32), np.array([True] * 5))
    rows.save(tmp_path / "track.npz", facts=facts)
    again = Track.load(tmp_path / "track.npz", facts=facts)
    assert np.array_equal(again.params, rows.params) and again.seen.all()
    assert len(Track.load(tmp_path / "track.npz", facts=facts + 1).seen) == 0
    (tmp_path / "track.npz").write_bytes(b"damaged")
    assert len(Track.load(tmp_path / "track.npz", facts=facts).seen) == 0


def test_values_are_taken_or_their_changes():
    zero = np.zeros(257, np.float32)
    own = dataclasses.replace(FaceParams.from_vector(zero), rotation=np.float32([0.1, 0.2, 0]),
                              expression=np.full(64, 0.5, np.float32))
    first = FaceParams.from_vector(zero)
    first = dataclasses.replace(first, rotation=np.float32([0, 0.3, 0]), translation=np.float32([1, 0, 0]))
    row = dataclasses.replace(first, rotation=np.float32([0, 0.4, 0]), translation=np.float32([1, 2, 0]),
                              expression=np.full(64, 2.0, np.float32), illumination=np.ones(27, np.float32))
    vectors = [np.asarray(p.to_vector()) for p in (row, first)]
    plain = driven(own, *vectors, controls=("pose", "expression"), relative=())
    np.testing.assert_allclose(plain.rotation, [0, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(plain.translation, [0, 2, 0], atol=1e-6)
    assert plain.expression[0] == 2.0 and plain.illumination[0] == 0.0
    changes = driven(own, *vectors, controls=("pose", "expression"), relative=("pose",))
    np.testing.assert_allclose(changes.rotation, [0.1, 0.3, 0], atol=1e-6)


def test_smoothing_has_no_lag_and_keeps_a_blink():
    t = np.arange(60)
    blink = np.exp(-((t - 30) / 2.5) ** 2)
    noise = 0.05 * np.random.default_rng(0).normal(size=60)
    rows = np.zeros((60, 257), np.float32)
    rows[:, 0], rows[:, 1] = blink + noise, noise
    calm = smoothed(rows, 5)
    assert abs(int(calm[:, 0].argmax()) - 30) <= 1 and calm[:, 0].max() > 0.9
    assert calm[:, 1].std() < 0.8 * noise.std()
    assert np.array_equal(smoothed(rows, 1), rows) and smoothed(rows[:3], 9).shape == (3, 257)
