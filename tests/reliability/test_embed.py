"""One bad photo, folder or argument never stops the others, and costs one line."""

import json
import os
import pathlib

import jax
import numpy as np
import pytest
import toy

from pie_jax.config import EnergyConfig
from pie_jax.edit import main as edit
from pie_jax.embed import main
from pie_jax.embed.photos import collect, listed
from pie_jax.errors import InputError, UsageError
from pie_jax.io import save_png
from pie_jax.pack import save_pack
from pie_jax.portrait import Embedding, edit_portrait

QUICK = ("--steps", "2,1")
PARTS = ("generator", "regressor", "morphable", "rignet_pose", "rignet_expression", "rignet_illumination")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack") / "toy"
    save_pack(folder, toy.toy_pack(jax.random.key(0), parts=PARTS, energy=EnergyConfig(
        terms=("synthesis",), render_resolution=16)))
    return folder


@pytest.fixture
def command(pack, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        save_png(name, np.random.default_rng(len(name)).uniform(size=(64, 64, 3)))

    def call(run, *argv):
        code = run([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and "unexpected" not in err, err
        return code, out, err

    return call


def embed(command, pack, *argv):
    return command(main, *argv, *QUICK, "-o", "out", "--pack", pack)


def test_a_folder_that_cannot_be_written_is_that_photos_fault(command, pack, monkeypatch):
    make = pathlib.Path.mkdir

    def refused(self, *args, **knobs):
        if self.name == "a":
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *args, **knobs)

    monkeypatch.setattr(pathlib.Path, "mkdir", refused)
    code, out, err = embed(command, pack, "a.png", "b.png")
    assert code == 1 and "out/b" in out and "out/a: cannot be made (Permission denied)" in err
    assert Embedding.load("out/b").w_plus.ndim == 2


def test_results_that_cannot_be_written_are_that_photos_fault(command, pack, monkeypatch):
    import tempfile

    make = tempfile.mkstemp

    def refused(*args, dir=None, **knobs):
        if pathlib.Path(dir).name == "a":
            raise PermissionError(13, "Permission denied", str(dir))
        return make(*args, dir=dir, **knobs)

    monkeypatch.setattr("tempfile.mkstemp", refused)
    code, out, err = embed(command, pack, "a.png", "b.png")
    assert code == 1 and "out/b" in out and "cannot be written (Permission denied)" in err


def test_a_full_disk_ends_the_run(command, pack, monkeypatch):
    import errno

    def full(*args, **knobs):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert embed(command, pack, "b.png")[0] == 0
    monkeypatch.setattr("tempfile.mkstemp", full)
    code, out, err = embed(command, pack, "a.png", "b.png", "--restart")
    assert code == 7 and "No space left on device" in err and out == ""
    assert Embedding.load("out/b").w_plus.ndim == 2  # what was there is there


def test_a_photo_named_twice_is_done_once_and_many_are_listed_soon(tmp_path, monkeypatch):
    import time

    monkeypatch.chdir(tmp_path)
    save_png("a.png", np.zeros((40, 40, 3)))
    os.symlink("a.png", "link.png")
    assert len(collect(["a.png", "./a.png", "link.png", str(tmp_path / "a.png")])) == 1
    began = time.perf_counter()
    assert len(collect([f"{i}.png" for i in range(20_000)])) == 20_000
    assert time.perf_counter() - began < 8


def test_lists_are_files_of_names(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "long.txt").write_text("x" * 3_000_000)
    with pytest.raises(InputError, match="names no photo"):
        listed([str(tmp_path / "empty.txt")])
    with pytest.raises(InputError, match="is no file"):
        listed(["/dev/zero"])
    assert len(str(collect(listed([str(tmp_path / "long.txt")]))[0].error or "")) < 1000


@pytest.mark.parametrize("flags,said", [
    (("--samples", "1" * 20), "expected 1 to"), (("--face", "0"), "expected 1 or more, or all"),
    (("--face", "x"), "expected 1 or more, or all")])
def test_odd_numbers_are_refused(command, pack, flags, said):
    code, _, err = command(main, "a.png", *flags, "-o", "out", "--pack", pack)
    assert code == 2 and said in err and len(err.splitlines()) == 1


def test_edit_says_what_to_name_instead(command, pack):
    assert embed(command, pack, "a.png")[0] == 0
    for name, said in (("a.png", "is a photo; embed it first"), ("out", "name one of out/a"),
                       ("gone", "no embedding here")):
        code, _, err = command(edit, name, "--yaw", "3")
        assert code == 3 and said in err and len(err.splitlines()) == 1
    for sweep in ("intensity=-1:1:3", "yaw=80:100:3"):
        code, _, err = command(edit, "out/a", "--sweep", sweep, "-o", "s.png")
        assert code == 2 and "expected" in err and not pathlib.Path("s.png").exists()


@pytest.mark.parametrize("change", [
    {"w_plus": np.full((2, 3), 1e38, np.float32)}, {"w_plus": np.zeros((2, 3, 4), np.float32)},
    {"params": np.zeros((2, 257), np.float32)}, {"params": np.zeros(3, np.float32)}, {"facts": np.array(3.0)},
    {"facts": np.array("[" * 100_000)}, {"photo/portrait": np.zeros(3)}, {"facts": np.array('{"format": "x"}')}])
def test_an_embedding_of_other_shapes_is_exit_code_3(command, pack, change):
    assert embed(command, pack, "a.png")[0] == 0
    with np.load("out/a/embedding.npz") as arrays:
        np.savez("changed.npz", **{**{name: arrays[name] for name in arrays.files}, **change})
    code, _, err = command(edit, "changed.npz", "--yaw", "3", "--pack", pack)
    assert code == 3 and "changed.npz: not an embedding, or damaged" in err and len(err.splitlines()) == 1


def test_requests_are_checked_at_the_door(command, pack):
    assert embed(command, pack, "a.png")[0] == 0
    embedding = Embedding.load("out/a")
    for request, said in (
            ({"like": (np.zeros((8, 8, 3), np.uint8), ["pose"])}, "floats in 0..1"),
            ({"like": (np.full((8, 8, 3), 200.0), ["pose"])}, "in 0..1, got"), ({"like": "a.png"}, "its controls"),
            ({"like": ("a.png", ["nose"])}, "unknown 'nose'"), ({"light": (0, 20, -3)}, "intensity and ambient >= 0"),
            ({"light": 3}, "azimuth, elevation, intensity"), ({"light": ("a", 1, 2)}, "finite number"),
            ({"yaw": 120}, "-90 to 90")):
        with pytest.raises(UsageError, match=said):
            edit_portrait(pack, embedding, detail=0.0, **request)
    report = json.loads(pathlib.Path("out/a/report.json").read_text())
    assert report["outcome"] == "finished"


def test_photos_in_the_folder_of_the_results_stay_as_they_are(command, pack):
    before = {path: path.read_bytes() for path in pathlib.Path(".").glob("*.png")}
    code, out, _ = command(main, ".", *QUICK, "-o", ".", "--pack", pack)
    assert code == 0 and Embedding.load("a").w_plus.ndim == Embedding.load("b").w_plus.ndim == 2
    assert {path: path.read_bytes() for path in pathlib.Path(".").glob("*.png")} == before


@pytest.mark.parametrize("change,said", [
    (lambda data: data[:len(data) // 2], "damaged"), (lambda data: b"", "damaged"),
    (lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:], "damaged")])
def test_a_damaged_checkpoint_is_not_gone_on_from(command, pack, monkeypatch, change, said):
    from pie_jax.embed import work

    def stopped(*args, **knobs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work, "_SAVE_SECONDS", 0.0)
        patched.setattr(work, "write_results", stopped)
        assert embed(command, pack, "a.png")[0] == 130
    file = pathlib.Path("out/a/checkpoint.npz")
    file.write_bytes(change(file.read_bytes()))
    code, out, err = embed(command, pack, "a.png")
    assert code == 0 and "going on from the checkpoint" not in err and not file.exists()
    again = Embedding.load("out/a")
    assert embed(command, pack, "a.png", "--restart")[0] == 0
    np.testing.assert_array_equal(Embedding.load("out/a").w_plus, again.w_plus)


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(command, pack, monkeypatch):
    from pie_jax.embed import work

    def stopped(*args, **knobs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work, "_SAVE_SECONDS", 0.0)
        patched.setattr(work, "write_results", stopped)
        assert embed(command, pack, "a.png")[0] == 130
    code, out, err = command(main, "a.png", "--steps", "2,2", "-o", "out", "--pack", pack)
    assert code == 0 and "have changed" in err and "going on" not in err


def killed_in(step, command, pack, monkeypatch, *, leaving):
    """Embed a.png, the process ending in a `step` of `work` after it has written half of the file `leaving`."""
    from pie_jax.embed import work

    def killed(*args, **knobs):
        (pathlib.Path("out/a") / leaving).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work, step, killed)
        assert embed(command, pack, "a.png")[0] == 130


def test_a_folder_left_half_done_is_the_photos_own(command, pack, monkeypatch):
    killed_in("write_results", command, pack, monkeypatch, leaving="embedding.npz")
    assert pathlib.Path("out/a/embedding.npz").read_bytes() == b"half"
    code, out, err = embed(command, pack, "a.png")
    assert code == 0 and "out/a" in out and not pathlib.Path("out/a-2").exists()
    assert Embedding.load("out/a").w_plus.ndim == 2


def test_killed_before_it_has_cleared_up_the_next_run_does(command, pack, monkeypatch):
    killed_in("settle", command, pack, monkeypatch, leaving="checkpoint.npz")
    assert pathlib.Path("out/a/report.json").is_file() and pathlib.Path("out/a/checkpoint.npz").is_file()
    code, out, err = embed(command, pack, "a.png")
    assert code == 0 and "already done" in err
    assert not {"checkpoint.npz", "begun.json"} & {path.name for path in pathlib.Path("out/a").iterdir()}
