"""What the checkpoint reader refuses: hostile and damaged files, each by one clear line, and nothing in them run."""

import contextlib
import os
import pathlib
import pickle
import struct
import sys
import tracemalloc
import zipfile

import checkpoint_files as files
import numpy as np
import pytest
from checkpoint_files import Call, Global, pickled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import stylegan
from converters.readers import read
from pie_jax.errors import PackError

A = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
B = np.arange(5)


def reduce_of(name, *arguments):
    return pickled(Call(name, arguments))


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def hostile(command):
    """(name of the trick, bytes, what the refusal must name)."""
    arguments = b"(S'" + command.encode() + b"'\n"
    yield "global and reduce", b"cos\nsystem\n" + arguments + b"tR.", "os.system"
    by_stack = b"\x80\x04" + short("os") + short("system") + b"\x93"
    yield "stack global", by_stack + short(command) + b"\x85R.", "os.system"
    yield "inst", arguments + b"ios\nsystem\n.", "os.system"
    yield "obj", b"(cos\nsystem\nS'" + command.encode() + b"'\no.", "os.system"
    yield "newobj", b"\x80\x02cposix\nsystem\n" + arguments + b"t\x81.", "posix.system"
    yield "pip", reduce_of("pip.main", ["install", "x"]), "pip.main"
    yield "pydoc", reduce_of("pydoc.locate", "os.system"), "pydoc.locate"
    yield "pkgutil", reduce_of("pkgutil.resolve_name", "os:system"), "pkgutil.resolve_name"
    yield "getattr", reduce_of("builtins.getattr", Global("os.system"), "x"), "builtins.getattr"
    yield "eval", reduce_of("__builtin__.eval", "1"), "builtins.eval"
    yield "timeit", reduce_of("timeit.timeit", "1"), "timeit.timeit"
    yield "torch load", reduce_of("torch.load", "x"), "torch.load"
    dotted = b"\x80\x04" + short("collections") + short("OrderedDict.__init__") + b"\x93."
    yield "dotted attribute", dotted, "OrderedDict.__init__"
    yield "import by name only", b"cantigravity\nfly\n.", "antigravity.fly"
    yield "build on a class", b"ccollections\nOrderedDict\n}S'__setstate__'\nS'x'\nsb.", "state for a Name"
    yield "build slots of an array type", b"cnumpy\ndtype\nN}S'__call__'\nS'x'\ns\x86b.", "state for a Name"
    yield "build setstate then call", b"ccollections\nOrderedDict\n)R}S'__setstate__'\ncos\nsystem\nsb.", "os.system"
    yield "call of a type", b"cnumpy\nndarray\n)R.", "numpy.ndarray"
    yield "call of data", b"\x80\x02S'os.system'\n)R.", "a call of a str"
    yield "extension registry", b"\x80\x02\x82\x01.", "opcode"
    yield "persistent id", b"\x80\x02S'os.system'\nQ.", "persistent id"
    yield "persistent id as text", b"(Pos.system\nt.", "persistent id"
    yield "out of band buffer", b"\x80\x05\x97.", "opcode"
    inner = "torch.storage._load_from_bytes"
    yield "inner storage", reduce_of(inner, b"cos\nsystem\n" + arguments + b"tR."), "os.system"
    heads = b"".join(pickled(v) for v in (files.LEGACY_MAGIC, 1001, {}))
    yield "inner storage, later", reduce_of(inner, heads + b"cos\nsystem\n)R."), "os.system"
    yield "zip inside", reduce_of(inner, b"PK\3\4" + b"\0" * 40), "zip archive inside"
    yield "objects in an array", b"\x80\x02cnumpy\ndtype\n(S'O8'\nK\0K\1tR.", "O8"
    yield "legacy torch", heads + b"cos\nsystem\n" + arguments + b"tR.", "torch's stream"
    system = b"".join(pickled(v) for v in (files.LEGACY_MAGIC, 1001, {"little_endian": True}))
    yield "legacy torch object", system + b"cos\nsystem\n" + arguments + b"tR.", "os.system"
    yield "legacy torch module", system + b"(S'module'\nS'Net'\nS'f'\nS'src'\ntQ.", "persistent id 'module'"


def test_hostile_pickles_are_refused_by_name_and_nothing_runs(tmp_path, capsys, monkeypatch):
    canary = tmp_path / "canary"
    called = []
    monkeypatch.setattr(os, "system", called.append)
    before = set(sys.modules)
    for trick, data, named in hostile(f"touch {canary}"):
        for archived in (False, True):
            path = tmp_path / "net.pkl"
            path.write_bytes(data)
            if archived:
                if data.startswith(files.pickled(files.LEGACY_MAGIC)) or "storage" in trick or "zip" in trick \
                        or "persistent" in trick:
                    continue
                with zipfile.ZipFile(path, "w") as archive:
                    archive.writestr("net/data.pkl", data)
            code = stylegan.main([str(path), "--dry-run"])
            err = capsys.readouterr().err
            assert code == 4, (trick, err)
            assert named in err and "net.pkl" in err and err.count("\n") == 1, (trick, err)
            assert "Traceback" not in err
    assert not canary.exists() and not called
    assert not {"antigravity", "pip", "timeit", "pydoc"} & (set(sys.modules) - before)


def test_a_persistent_id_that_is_no_tensor(tmp_path):
    for body in (b"S'x'\nQ.", b"(S'storage'\nS'x'\nS'0'\nS'cpu'\nK\1tQ.",
                 b"(S'storage'\nctorch\nFloatStorage\nS'../../x'\nS'cpu'\nK\1tQ."):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + body)
        with pytest.raises(PackError, match="persistent id|damaged storage"):
            read(tmp_path / "a.pt")


@contextlib.contextmanager
def bounded(*, calls: int, megabytes: int):
    """Fails where the block makes more calls of functions, or holds more memory at once, than is given."""
    made = 0

    def count(frame, event, argument):
        nonlocal made
        made += event in ("call", "c_call")
        if made > calls:
            raise AssertionError(f"more than {calls} calls")

    before = sys.getprofile()
    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert made <= calls and peak <= megabytes * 2**20, (made, peak)


def test_bombs_are_refused_before_they_are_inflated(tmp_path):
    big = 10 * 2**30
    cases = {"declared": files.lying_zip(tmp_path / "a.npz", declared=2**32 - 1, stored=1000),
             "inflates": files.lying_zip(tmp_path / "b.npz", declared=1000, stored=2**20),
             "nested lists": tmp_path / "c.pkl", "laughs": tmp_path / "d.pkl", "numel": tmp_path / "e.pt",
             "npy": tmp_path / "f.npy", "expand": tmp_path / "g.pt", "itself": tmp_path / "h.pkl"}
    with zipfile.ZipFile(tmp_path / "z.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * (32 * 2**20))
    cases["ratio"] = tmp_path / "z.npz"
    cases["nested lists"].write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    # 40 levels of [previous, previous]: linear to build, 2^40 leaves for whoever walks it
    laughs = b"\x80\x02]q\0" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])
                                        for i in range(40)) + b"."
    cases["laughs"].write_bytes(laughs)
    cases["itself"].write_bytes(b"\x80\x02]q\0h\0a.")
    for name, numel, size in (("numel", big, 3), ("expand", 3, 2**40)):
        with zipfile.ZipFile(cases[name], "w") as archive:
            identity = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nL" + str(numel).encode() + b"L\ntQ"
            archive.writestr("a/data.pkl", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + identity + b"K\0(L"
                             + str(size).encode() + b"L\nt(K\0tI00\nNtR.")
            archive.writestr("a/data/0", b"\0" * 12)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({big},)}}\n".encode()
    cases["npy"].write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + b"\0" * 16)
    for name, path in cases.items():
        with bounded(calls=20_000_000, megabytes=256), pytest.raises(PackError, match=path.name):
            read(path).state_dict()
        assert name


def test_hostile_archives(tmp_path):
    def archive(names, *, patch=lambda data: data):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, b"x" * 64)
        path.write_bytes(patch(path.read_bytes()))
        return path

    def overlap(data):  # the second member of the directory points at the first's header
        second = data.rindex(b"PK\1\2")
        return data[:second + 42] + struct.pack("<I", 0) + data[second + 46:]

    cases = [(archive(["../../evil.npy"]), "points out of the archive")]
    assert _refused(*cases[0])
    assert _refused(archive(["/abs.npy"]), "points out of the archive")
    assert _refused(archive(["c:\\evil.npy"]), "points out of the archive")
    assert _refused(archive(["a.npy", "b.npy"], patch=overlap), "two names|overlaps")
    assert _refused(archive(["a.npy", "b.npy"], patch=lambda d: d[:len(d) // 2]), "truncated")
    assert _refused(archive(["a.npy"], patch=lambda d: d.replace(b"xxx", b"xyx", 1)), "checksum")
    assert _refused(archive(["a.txt", "b.npy"]), "neither torch's nor numpy's")
    assert not (tmp_path.parent / "evil.npy").exists()


def _refused(path, message):
    with pytest.raises(PackError, match=message) as info:
        read(path)
    return info.value.exit_code == 4 and "\n" not in str(info.value)


def test_hostile_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}
    for header, message in (({"a": entry, "b": entry}, "overlap"),
                            ({"a": entry | {"data_offsets": [4, 52]}}, "overlap or leave gaps"),
                            ({"a": entry | {"shape": [3, 5]}}, "has shape"),
                            ({"a": entry | {"dtype": "OBJ"}}, "type 'OBJ'"),
                            ({"a": entry | {"shape": [-3, -4]}}, "damaged shape"),
                            ({"a": entry | {"data_offsets": [0, 2**60]}}, "damaged shape"),
                            ({"a": 1}, "damaged"), ([1], "not a kind|no object")):
        assert _refused(files.safetensors(path, {"a": A}, header=header), message)
    assert _refused(files.safetensors(path, {"a": A}, tail=b"PK\3\4"), "behind the last array")
    honest = files.safetensors(path, {"a": A}).read_bytes()
    path.write_bytes(struct.pack("<Q", 200_000_000) + honest[8:])
    assert _refused(path, "header of 200000000 bytes")
    path.write_bytes(honest[:-8])
    assert _refused(path, "truncated")
    text = b'{"a":1,"a":2}'
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert _refused(path, "two entries")


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / "vgg16.pth"
    for data, message in ((b"", "empty"), (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
                          (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs"),
                          (b"hello world, this is text", "not a kind"), (b"PK\3\4 but no zip", "zip archive"),
                          (b"MATLAB 7.3 MAT-file" + b" " * 600, "-v7"), (b"\x80\x02}q\0.junk", "behind the pickle")):
        path.write_bytes(data)
        assert _refused(path, message)
    path.unlink()
    assert _refused(path, "cannot be read")
    os.mkfifo(path)
    assert _refused(path, "neither a file nor a folder")
    (tmp_path / "folder").mkdir()
    assert _refused(tmp_path / "folder", "not a face model")


def test_not_finite_is_refused_by_the_tensor_s_name(tmp_path):
    for value in (np.nan, np.inf, -np.inf):
        bad = A.copy()
        bad[1, 2] = value
        checkpoint = read(files.torch_zip(tmp_path / "a.pt", {"g": {"fine": A, "conv.weight": bad}, "other": A}))
        with pytest.raises(PackError, match=r"a\.pt: conv\.weight holds 1 values that are NaN or infinite"):
            checkpoint.state_dict(prefix="g")
    large = np.array([3e38, 3e38, -3e38], np.float32)  # finite, although their sum in float32 is not
    found = read(files.torch_zip(tmp_path / "a.pt", {"large": large})).state_dict()
    np.testing.assert_array_equal(found["large"], large)


def test_every_truncation_and_random_damage_is_one_error(tmp_path):
    tree = {"g_ema": {"a": A, "b": B}}
    layer = files.module("Layer", parameters={"weight": A})
    originals = [files.torch_zip(tmp_path / "0", tree), files.torch_legacy(tmp_path / "1", tree),
                 files.persistence(tmp_path / "2", {"G_ema": layer}),
                 files.tf_pickle(tmp_path / "3", files.tf_network({"a": A})),
                 files.safetensors(tmp_path / "4", {"a": A}), files.t7(tmp_path / "5", {"a": A, "b": [1, "x"]}),
                 files.torch_zip(tmp_path / "6", tree, compression=zipfile.ZIP_DEFLATED)]
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    outcomes = {"read": 0, "refused": 0}
    for original in originals:
        honest = original.read_bytes()
        for trial in range(60):
            data = bytearray(honest)
            if trial < 20:
                data = data[:len(data) * trial // 20]
            else:
                for at in rng.integers(0, len(data), size=1 + trial % 3):
                    data[at] = rng.integers(0, 256)
            path.write_bytes(bytes(data))
            try:
                read(path).state_dict()
                outcomes["read"] += 1
                assert trial >= 20, f"{original}: {trial}/20 of the file was read as a whole"
            except PackError as error:
                outcomes["refused"] += 1
                assert "\n" not in str(error) and error.exit_code == 4
    assert outcomes["refused"] > 200 and sum(outcomes.values()) == 60 * len(originals)


def test_the_reader_imports_nothing_it_must_not():
    folder = pathlib.Path(stylegan.__file__).parents[1] / "readers"
    for file in folder.glob("*.py"):
        text = file.read_text()
        assert "import pickle" not in text and "import torch" not in text and "exec(" not in text, file
    assert pickle.loads(pickled({"a": 1})) == {"a": 1}  # the writer of these tests writes real pickles


@settings(max_examples=400, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\3\4", b"\x93NUMPY\1\0", b"T7"]))
def test_any_bytes_are_read_or_refused(tmp_path, data, head):
    path = tmp_path / "any.pkl"
    path.write_bytes(head + data)
    with contextlib.suppress(PackError):
        read(path)


@settings(max_examples=600, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 3))
def test_any_change_of_a_good_file_is_read_or_refused(tmp_path, changes, kind):
    path = tmp_path / "net.pt"
    tree = {"a.weight": A, "b": {"bias": B}}
    if kind == 0:
        path.write_bytes(pickled(tree))
    elif kind == 1:
        files.torch_zip(path, tree)
    elif kind == 2:
        files.torch_legacy(path, tree)
    else:
        files.safetensors(path, {"a.weight": A, "b.bias": B})
    data = bytearray(path.read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path.write_bytes(data)
    before = set(sys.modules)
    with contextlib.suppress(PackError):
        read(path)
    assert not {"antigravity", "pip", "timeit", "pydoc"} & (set(sys.modules) - before)
