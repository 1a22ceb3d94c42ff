"""MATLAB files by the package's own reader: the values of scipy.io.loadmat, and damage that never crashes."""

import pathlib
import struct
import warnings
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters import readers
from converters.readers import read
from pie_jax.errors import PackError

RNG = np.random.default_rng(0)


def plain(value):
    """What the reader promises, of what scipy gives."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        items = [{name: plain(item[name]) for name in value.dtype.names} for item in value.ravel()]
        return items[0] if len(items) == 1 else items
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [plain(item) for item in value.ravel(order="F")]
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        texts = [str(text) for text in value.ravel()]
        return texts[0] if len(texts) == 1 else texts
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else None


def same(found, due):
    assert type(found) is type(due), (found, due)
    if isinstance(due, dict):
        assert list(found) == list(due)
        for name in due:
            same(found[name], due[name])
    elif isinstance(due, list):
        assert len(found) == len(due)
        for one, other in zip(found, due):
            same(one, other)
    elif isinstance(due, np.ndarray):
        assert found.shape == due.shape and found.dtype == due.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, due)
    else:
        assert found == due


def agree(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of scipy 1.18, of what sparse matrices will be
        due = scipy.io.loadmat(path)
    same(read(path).tree, {name: plain(value) for name, value in due.items() if not name.startswith("__")})


def cell(*values, shape=None):
    made = np.empty(len(values), object)
    made[:] = values
    return made.reshape(shape or (1, -1))


@pytest.mark.parametrize("packed", [False, True])
def test_the_values_are_scipy_s(tmp_path, packed):
    variables = {f"a_{kind}": RNG.integers(0, 100, (2, 3)).astype(kind) for kind in (
        "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")}
    variables |= {
        "big": RNG.normal(size=(40, 30)), "turned": RNG.normal(size=(3, 5, 2)), "vector": np.arange(7.0), "one": 3.5,
        "logical": np.array([[True, False]]), "none": np.zeros((0, 3)), "whole": np.arange(12.0).reshape(3, 4),
        "word": "hello", "rows": np.array(["ab", "wxyz"]), "empty": "", "complex": np.array([[1 + 2j]]),
        "sparse": scipy.sparse.csc_matrix(np.eye(3)), "cell": cell(np.eye(2), "x", cell(1.0, "y")),
        "grid": cell(1.0, 2.0, 3.0, 4.0, shape=(2, 2)), "struct": {"name": "n", "deep": {"weights": np.eye(2)}},
        "structs": np.array([[(1.0, "a"), (2.0, "b")], [(3.0, "c"), (4.0, "d")]], [("x", object), ("y", object)])}
    scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=packed, long_field_names=True)
    agree(tmp_path / "a.mat")
    read(tmp_path / "a.mat").state_dict()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(
    arrays.arrays(st.sampled_from(["u1", "i4", "f4", "f8"]), arrays.array_shapes(max_dims=4, max_side=4, min_side=0),
                  elements={"min_value": 0, "max_value": 100}) | st.text("abc XYZ19", min_size=1, max_size=9),
    lambda inner: st.dictionaries(st.text("abcd", min_size=1, max_size=6), inner, min_size=1, max_size=3)
    | st.lists(inner, min_size=1, max_size=3).map(lambda values: cell(*values)), max_leaves=8), st.booleans())
def test_whatever_scipy_writes_is_read_as_scipy_reads_it(tmp_path, value, packed):
    scipy.io.savemat(tmp_path / "a.mat", {"v": value}, do_compression=packed)
    agree(tmp_path / "a.mat")


def test_files_of_other_machines(tmp_path):
    """The same file with all its numbers turned, as a big-endian machine writes it."""
    numbers = np.arange(6, dtype=">f8").reshape(2, 3)
    def element(kind, body):
        return struct.pack(">II", kind, len(body)) + body + bytes(-len(body) % 8)

    body = (element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 2, 3)) + element(1, b"shapeMU")
            + element(9, numbers.tobytes(order="F")))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x100) + b"MI"
    (tmp_path / "a.mat").write_bytes(head + element(14, body))
    agree(tmp_path / "a.mat")
    packed = zlib.compress(element(14, body))
    (tmp_path / "a.mat").write_bytes(head + struct.pack(">II", 15, len(packed)) + packed)
    np.testing.assert_array_equal(read(tmp_path / "a.mat").tree["shapeMU"], np.arange(6.0).reshape(2, 3))


def test_scipy_does_not_read_what_nobody_vouches_for(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.eye(2)})

    def never(*args, **kwargs):
        raise AssertionError("scipy was called")

    monkeypatch.setattr(scipy.io, "loadmat", never)
    assert read(tmp_path / "a.mat").tree["a"].shape == (2, 2)
    assert not any("import scipy" in file.read_text() for file in pathlib.Path(readers.__file__).parent.glob("*.py"))


def test_every_truncation_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.eye(3), "s": {"b": cell("x", 1.0)}})
    data = (tmp_path / "a.mat").read_bytes()
    whole = read(tmp_path / "a.mat").tree
    for size in range(1, len(data)):
        (tmp_path / "b.mat").write_bytes(data[:size])
        try:
            found = read(tmp_path / "b.mat").tree
        except PackError as error:
            assert "\n" not in str(error)
        else:  # it ended between two variables, or lacks what only fills up
            assert set(found) < set(whole) or size > len(data) - 8
