"""Shares of a run: every photo in exactly one, processes that meet on the loopback, one that is lost."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import toy

from pie_jax.config import EnergyConfig
from pie_jax.embed import main
from pie_jax.embed.arguments import parse
from pie_jax.embed.photos import Photo, listed, output_folder
from pie_jax.embed.rendezvous import rendezvous
from pie_jax.embed.share import Share, find_share
from pie_jax.errors import InputError, ResourceError, UsageError
from pie_jax.io import save_png
from pie_jax.pack import save_pack


def photos(*names):
    return [Photo(path=pathlib.Path(name)) for name in names]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_every_photo_is_in_one_share_and_shares_are_equal(count):
    every = photos(*(f"img-{i:03d}.png" for i in range(40)))
    shares = [Share(index=i, count=count).of(every) for i in range(count)]
    assert sorted(p.path.name for share in shares for p in share) == [p.path.name for p in every]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_photos_that_may_want_one_folder_are_in_one_share():
    every = photos("a/face.png", "b/Face.jpg", "c/face-2.png", "c/face-2-3.png", "other.png", "c/img-2.png")
    shares = [{p.path.name for p in Share(index=i, count=3).of(every)} for i in range(3)]
    assert shares == [{"face.png", "Face.jpg", "face-2.png", "face-2-3.png"}, {"other.png"}, {"img-2.png"}]


@pytest.mark.parametrize("flags, words", [
    ("--share 3/3", "expected 0 to 2"), ("--share 1", "I/N"), ("--share 0/0", "at least 1"), ("--share=-1/2", "I/N"),
    ("--coordinator a:1 --processes 2 --process 3", "expected 0 to 1"), ("--process 3 --processes 2", "--coordinator"),
    ("--coordinator a:1 --processes 2", "--process"), ("--coordinator a --processes 2 --process 0", "HOST:PORT"),
    ("--share 0/2 --distributed", "one of them"), ("--wait 0", "--wait"), ("--devices 0", "--devices"),
])
def test_shares_that_do_not_exist_are_usage_errors(flags, words, capsys):
    assert main(["x.png", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


def test_a_share_needs_no_other_process():
    assert find_share(parse(["x"])) == Share() and Share().name == ""
    assert find_share(parse(["x", "--share", "1/4"])) == Share(index=1, count=4)


def test_no_cluster_is_a_usage_error(monkeypatch):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="--share"):
        rendezvous()


def test_nobody_at_the_coordinator():
    with pytest.raises(ResourceError, match="not all processes met there within 1 s"):
        rendezvous(coordinator=f"127.0.0.1:{free_port()}", count=2, index=1, seconds=1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Two processes on the loopback


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A toy pack of a generator alone, and a folder of six portraits."""
    folder = tmp_path_factory.mktemp("share")
    pack = toy.toy_pack(jax.random.key(0), parts=("generator",), configs=toy.SMALLEST, energy=EnergyConfig(
        terms=("synthesis",)))
    save_pack(folder / "toy", pack)
    (folder / "photos").mkdir()
    for i, image in enumerate(np.asarray(toy.portraits(jax.random.key(1), 6, pack=pack))):
        save_png(folder / "photos" / f"{i}.png", np.kron(image, np.ones((8, 8, 1))))  # a smaller picture is refused
    return folder


def start(place, out, *flags) -> subprocess.Popen:
    command = [sys.executable, "-m", "pie_jax.embed", place / "photos", "--pack", place / "toy", "-o", out, *flags]
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_COMPILATION_CACHE_DIR": str(place / "xla")}
    return subprocess.Popen([str(word) for word in command], env=environment, text=True, stderr=subprocess.PIPE,
                            stdout=subprocess.PIPE)


def finished(out) -> dict[str, int]:
    """Photo -> when its report was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/report.json")}


def test_two_processes_do_every_photo_once_and_a_lost_one_costs_its_own(place, tmp_path):
    out, steps = tmp_path / "out", ("--steps", "1000,2")
    flags = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2)
    survivor, lost = (start(place, out, *steps, *flags, "--process", i) for i in range(2))
    shares = [{"0", "2", "4"}, {"1", "3", "5"}]
    deadline = time.monotonic() + 300
    while not (lost_done := finished(out).keys() & shares[1]) and time.monotonic() < deadline:
        time.sleep(0.05)
    lost.send_signal(signal.SIGKILL)  # with two of its three photos to do
    said, errors = survivor.communicate(timeout=300)
    lost.communicate()
    assert lost.returncode == -signal.SIGKILL and lost_done
    assert survivor.returncode == 0 and "process 0 of 2: 3 of 6 photos" in errors, errors
    assert len(said.splitlines()) == 3
    first = finished(out)
    assert shares[0] <= first.keys() < shares[0] | shares[1]
    again = start(place, out, *steps, "--share", "1/2")
    assert again.communicate(timeout=300)[1].count("already done") == len(first.keys() & shares[1])
    assert again.returncode == 0
    last = finished(out)
    assert last.keys() == shares[0] | shares[1] and {name: last[name] for name in first} == first


def test_shares_of_one_photo_each_are_summed_up(place, tmp_path):
    photos_ = [str(place / "photos" / f"{i}.png") for i in range(2)]
    for i in range(3):  # the last one has nothing to do
        assert main([*photos_, "--pack", str(place / "toy"), "-o", str(tmp_path), "--steps", "2,1", "--quiet",
                     "--share", f"{i}/3"]) == 0
    names = [line.split(",")[0] for line in (tmp_path / "summary.csv").read_text().splitlines()]
    assert names == ["name", "0", "1"] and (tmp_path / "index.html").is_file()


def test_a_share_at_work_keeps_out_itself_and_whole_runs_only(tmp_path):
    with output_folder(tmp_path, share="0-of-2"), output_folder(tmp_path, share="1-of-2"):
        for share in ("0-of-2", ""):
            with pytest.raises(UsageError, match="another run"), output_folder(tmp_path, share=share):
                pass
    with output_folder(tmp_path), pytest.raises(UsageError), output_folder(tmp_path, share="0-of-2"):
        pass


def test_a_list_names_photos(place, tmp_path):
    (tmp_path / "list.txt").write_text(f"{place}/photos/0.png\n\n{place}/photos/1.png\n")
    assert [pathlib.Path(name).name for name in listed([tmp_path / "list.txt"])] == ["0.png", "1.png"]
    for bad in ("none.txt", "latin.txt"):
        (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(InputError, match=bad):
            listed([tmp_path / bad])
