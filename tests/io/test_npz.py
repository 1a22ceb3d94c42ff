"""Arrays come back as they were written; what is no file of ours is refused before it unfolds."""

import zipfile

import numpy as np
import pytest

from pie_jax.errors import InputError, ResourceError
from pie_jax.io import read_npz, write_npz

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "trace/energy": np.float32([1, np.nan]), "facts": np.array("text")}


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_come_back(tmp_path, compress):
    write_npz(tmp_path / "a.npz", ARRAYS, compress=compress)
    found = read_npz(tmp_path / "a.npz")
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "a.npz", {"a": np.array([object()])})
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "b.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="b.npz: damaged or not an .npz"):
        read_npz(tmp_path / "b.npz")


def test_what_unfolds_too_far_is_refused_but_a_large_file_is_not(tmp_path):
    write_npz(tmp_path / "zeros.npz", {"a": np.zeros(2**18)}, compress=True)
    with pytest.raises(InputError, match="unfolds to 2 MiB, the limit is 1 MiB"):
        read_npz(tmp_path / "zeros.npz", max_bytes=2**20)
    write_npz(tmp_path / "plain.npz", {"a": np.zeros(2**18)})
    assert read_npz(tmp_path / "plain.npz", max_bytes=2**20)["a"].size == 2**18


@pytest.mark.parametrize("data", [b"", b"PK nonsense", b"<html>"])
def test_damage_is_one_line(tmp_path, data):
    (tmp_path / "a\nb.npz").write_bytes(data)
    with pytest.raises(InputError) as refused:
        read_npz(tmp_path / "a\nb.npz")
    assert "\n" not in str(refused.value) and "make it again" in str(refused.value)
    with pytest.raises(InputError, match="No such file"):
        read_npz(tmp_path / "absent.npz")
    with pytest.raises(ResourceError, match="nowhere"):
        write_npz(tmp_path / "nowhere" / "a.npz", ARRAYS)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\1\0" + b"\xff" * 20)
    with pytest.raises(InputError, match="damaged"):
        read_npz(tmp_path / "a.npz")
