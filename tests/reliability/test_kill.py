"""Commands killed by SIGKILL, and several at once: the short form of `benchmarks.reliability.kill` and `.processes`."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from benchmarks.reliability import kill, processes
from benchmarks.reliability.children import Child
from benchmarks.reliability.world import COMMANDS, EMBED

ONE = dataclasses.replace(processes.quick(EMBED), argv=("a.png", *processes.quick(EMBED).argv[2:]))


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    """The processes compile each program once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("xla")))
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
        yield


@pytest.mark.parametrize("name,shares", [("embed", (0.3, 0.75)), ("train", (0.6,)), ("convert", (0.5, 0.99)),
                                         ("edit", (0.7,))])
def test_what_is_killed_ends_the_same_when_it_is_run_again(world, tmp_path, name, shares):
    command = ONE if name == "embed" else COMMANDS[name]
    child = Child(command, world.copy(tmp_path / "due"))
    assert child.wait() == 0, child.err
    due = kill.Undisturbed(results=kill.contents(tmp_path / "due", command.made), operations=child.operations,
                           seconds=0.0)
    assert due.results and due.operations > 5
    for share in shares:
        at = int(share * due.operations)
        assert kill.killed(command, world, tmp_path / str(at), due, at=at) == ""


def test_a_trial_tells_what_a_command_that_loses_work_does(world, tmp_path):
    due = kill.Undisturbed(results={"frames/frame_00001.png": "other"}, operations=1, seconds=0.0)
    assert "differs: frames/frame_00001.png" in kill.killed(COMMANDS["edit"], world, tmp_path / "a", due, at=0)


def test_processes_with_shares_do_each_photo_once(world, tmp_path):
    command = processes.quick(processes.FOUR)
    due = processes.alone(command, world, tmp_path / "due")
    assert {name.split("/")[1] for name in due if name.endswith(".npz")} == set("abcd")
    assert processes.shares(command, world, tmp_path / "two", 2, due) == ""


def test_processes_lose_no_part_of_one_pack(world, tmp_path):
    assert processes.one_pack(world, tmp_path / "pack", 4) == ""


def test_a_process_on_trial_cannot_connect(tmp_path):
    code = ("import socket\nfrom benchmarks.reliability.children import _count_writes\n"
            f"_count_writes({str(tmp_path)!r}, None)\nsocket.create_connection(('127.0.0.1', 9), timeout=1)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConnectionRefusedError: connects to ('127.0.0.1', 9)" in done.stderr
