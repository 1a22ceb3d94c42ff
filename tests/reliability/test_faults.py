"""A disk that is full, broken, read-only, without locks: the short form of `benchmarks.reliability.faults`."""

import dataclasses
import errno
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

from benchmarks.reliability import faults
from benchmarks.reliability.processes import quick
from benchmarks.reliability.world import CONVERT, EDIT, EMBED, contents
from pie_jax.errors import ResourceError
from pie_jax.io import locked_folder, reserve_array, reserve_space, take_lock

ONE = dataclasses.replace(quick(EMBED), argv=("a.png", *quick(EMBED).argv[2:]))


@pytest.mark.parametrize("command,cases", [
    (CONVERT, [(0, errno.ENOSPC), (2, errno.EIO), (4, errno.EROFS), (-1, errno.EDQUOT)]),
    (EDIT, [(0, errno.EROFS), (14, errno.ENOSPC)]), (ONE, [(3, errno.EACCES), (-12, errno.ENOSPC)])],
    ids=["convert", "edit", "embed"])
def test_an_operation_that_fails_costs_one_line(world, tmp_path, command, cases):
    due, operations = faults.prepared(command, world.folder, tmp_path / "due")
    assert operations > 5
    for at, error in cases:
        disk = faults.Disk(fail_at=at % operations, error=error)
        assert faults.trial(command, world.folder, tmp_path / str(at), due, disk) == "", (at, os.strerror(error))
        assert disk.count > at % operations  # it did fail


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, None])
def test_without_locks_work_goes_on(world, tmp_path, error):
    with faults.without_locks(error):
        assert take_lock(0) is None
        code, said = faults.run(CONVERT, world.copy(tmp_path / "convert"))
        assert code == 0 and not [line for line in said if line.startswith("error")]


def test_without_locks_embed_says_so(world, tmp_path):
    with faults.without_locks():
        code, said = faults.run(ONE, world.copy(tmp_path / "embed"))
    assert code == 0 and [line for line in said if "no file locks here; let no second run write there" in line]


def test_a_lock_keeps_others_out(tmp_path):
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        assert take_lock(first) is True and take_lock(second) is False
        os.close(first)
        assert take_lock(second, shared=True) is True
    finally:
        os.close(second)
    with locked_folder(tmp_path):
        third = os.open(tmp_path, os.O_RDONLY)
        assert take_lock(third) is False
        os.close(third)


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
                                           capture_output=True).returncode:
        pytest.skip("only root can mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_told_in_one_line(world, small_disk, tmp_path):
    folder = world.copy(tmp_path / "work")
    command = dataclasses.replace(CONVERT, argv=(*CONVERT.argv[:-1], str(small_disk / "pack")))
    assert faults.run(command, folder)[0] == 0
    before = contents(small_disk, ("pack",))
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    other = dataclasses.replace(command, argv=("rig.npz", "--control", "expression", *command.argv[3:]))
    code, said = faults.run(other, folder)
    assert code == 7 and len(said) == 1 and "No space left on device" in said[0]
    assert contents(small_disk, ("pack",)) == before
    with pytest.raises(OSError, match="No space left"):
        reserve_space(small_disk, 2**22)
    with pytest.raises(ResourceError, match="No space left"):  # and not SIGBUS, where it is filled
        reserve_array(small_disk / "a.npy", (2**20,), np.float32)
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "pack"]
    (small_disk / "filler").unlink()
    assert faults.run(other, folder)[0] == 0
    parts = json.loads((small_disk / "pack/manifest.json").read_text())["parts"]
    assert set(parts) == {"rignet_pose", "rignet_expression"}


def test_a_reserved_array_is_an_npy_file(tmp_path):
    array = reserve_array(tmp_path / "a.npy", (3, 2), np.float32)
    array[1] = 5.0
    array.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[0, 0], [5, 5], [0, 0]])
    assert pathlib.Path(tmp_path / "a.npy").stat().st_blocks * 512 >= 24


def test_a_file_system_that_reserves_nothing_is_no_error(tmp_path, monkeypatch):
    def refused(*args):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refused)
    reserve_space(tmp_path, 100)
    reserve_array(tmp_path / "a.npy", (3,), np.float32)[:] = 1.0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [1, 1, 1])


def test_a_damaged_part_is_written_anew(world, tmp_path):
    from pie_jax.pack import load_pack

    folder = world.copy(tmp_path / "work")
    assert faults.run(CONVERT, folder)[0] == 0
    due = contents(folder, ("pack",))
    part = next((folder / "pack").glob("rignet_pose-*"))
    largest = max((p for p in part.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-200])
    assert faults.run(CONVERT, folder)[0] == 0
    load_pack(folder / "pack")
    assert contents(folder, ("pack",)) == due
