"""What files may ask for, whatever container they are; harmless company of weights; and what people really download."""

import collections
import contextlib
import gzip
import io
import json
import pickle
import struct
import sys
import time
import zipfile

import checkpoint_files as files
import numpy as np
import pytest
from checkpoint_files import Call, Global, pickled

from converters import stylegan
from converters.readers import read
from converters.readers.limits import MAX_NODES, SMALL, Limits
from converters.readers.unsafe_file import UnsafeFileError, brief
from pie_jax.errors import PackError, ResourceError

A = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
B = np.arange(5)


@contextlib.contextmanager
def refused(match):
    """One line of exit code 4, in a second, that speaks of no --batch."""
    start = time.thread_time()  # the test's own thread: others may still be at work
    with pytest.raises(PackError, match=match) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text and "--batch" not in text and caught.value.exit_code == 4
    assert time.thread_time() - start < 2.0


# ------------------------------------------------------------------------ A11: one limit for all containers
def t7_tensor(sizes, *, storage):
    """A torch.FloatTensor in an nn.X, its sizes stated, its storage as bytes."""
    def text(word):
        return struct.pack("<i", len(word)) + word

    head = struct.pack("<ii", 4, 1) + text(b"nn.X") + struct.pack("<iii", 3, 2, 1)
    head += struct.pack("<i", 2) + text(b"w") + struct.pack("<ii", 4, 3) + text(b"torch.FloatTensor")
    return head + struct.pack(f"<i{2 * len(sizes)}qq", len(sizes), *sizes, *[0] * len(sizes), 1) + storage


def test_a_t7_of_68_bytes_does_not_ask_for_a_room(tmp_path):
    (tmp_path / "a.t7").write_bytes(t7_tensor([2**45], storage=struct.pack("<i", 0)))
    with refused("a tensor without numbers"):
        read(tmp_path / "a.t7")


def test_many_members_are_counted_together(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(12):
            header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (8000000,), }\n"
            archive.writestr(f"{i}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(8_000_000))
    with refused("may ask for"):  # each alone is below every limit
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("header", [
    b"-" * 9000, b"(" * 9000, b"{'descr': " * 900, b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1" * 9000,
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", b"{'descr': '|O', 'fortran_order': False, 'shape': ()}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"{'descr': [('a', '<f4')], 'fortran_order': False}",
    b"{'descr': '<f4', 'descr': '<f4', 'shape': (3,)}", b"{'shape': __import__('os').system('x')}", b"", b"{}"])
def test_a_header_of_npy_is_not_evaluated(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(12))
    with refused("header"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("write", [files.torch_zip, files.torch_legacy])
def test_views_of_one_storage_are_counted_together(tmp_path, write):
    big = np.zeros(1000, np.float32)
    identity = Call("torch._utils._rebuild_tensor_v2", (files.Storage(big), 0, (1000, 1000), (0, 1), False, None))
    write(tmp_path / "a.pt", {"g": [Call(identity.name, identity.arguments) for _ in range(20)]})
    with refused("may ask for"):
        read(tmp_path / "a.pt")


def laughs(levels=40):
    """[[[...], [...]], ...]: a few bytes that unfold to 2^levels."""
    steps = b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(levels))
    return b"]q\0" + steps


@pytest.mark.parametrize("body", [
    laughs() + b".", b"}S'img_channels'\n" + laughs() + b"s.", laughs() + b"Q.", laughs() + b"\x85" * 300 + b".",
    b"cnumpy\ndtype\n" + laughs() + b"\x85R.", b"ccollections\nOrderedDict\n" + laughs() + b"\x85R.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(" + laughs() + b"K\0)))tR."])
def test_what_repeats_is_neither_unfolded_nor_printed(tmp_path, body):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + body)
    with refused("a.pkl"):
        read(tmp_path / "a.pkl").state_dict()
    assert len(brief([[[list(range(10**5))] * 10**4] * 10**4] * 9)) <= 100


def test_copies_that_calls_make_are_counted(tmp_path):
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20
    body = text + b"q\0" + b"(" + b"c_codecs\nencode\nh\0U\6latin1\x86R" * 200 + b"l."
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + body)
    with refused("a call of _codecs.encode declares"):
        read(tmp_path / "a.pkl")
    (tmp_path / "b.pkl").write_bytes(b"\x80\x02" + b"N0" * 1_100_000 + b"N.")
    with refused("operations"):
        read(tmp_path / "b.pkl")


def test_a_sparse_matrix_is_no_larger_than_its_file_allows(tmp_path):
    def sparse(shape, starts, rows=(0,)):
        state = {"_shape": shape, "data": np.ones(len(rows)), "indices": np.array(rows), "indptr": np.array(starts)}
        (tmp_path / "a.pkl").write_bytes(pickled({"J": Call("scipy.sparse.csc.csc_matrix", (), state)}))
        return tmp_path / "a.pkl"

    with refused("may ask for"):
        read(sparse((100_000, 1), [0, 1]))
        read(sparse((10**7, 1), [0, 1]))
    for shape, starts, rows in (((2, 1), [0, 2**40], [0]), ((2, 1), [0, 1], [-1]), ((2, 2), [0, 5, 1], [0]),
                                ((-2, 1), [0, 1], [0])):
        with refused("do not agree"):
            read(sparse(shape, starts, rows))


def test_the_limit_grows_with_the_file_and_with_what_belongs_to_it():
    limits = Limits(stored=1000)
    limits.take("a", SMALL)
    with pytest.raises(UnsafeFileError, match="b declares 1 bytes beside"):
        limits.take("b", 1)
    limits.add(2**20)
    limits.take("b", 2**20)
    limits.enter(0, count=MAX_NODES)
    for wrong in (lambda: limits.enter(0), lambda: Limits(stored=1).enter(201), lambda: limits.take("c", -1)):
        with pytest.raises(UnsafeFileError):
            wrong()


def test_memory_that_the_machine_lacks_is_said_without_a_batch(tmp_path, monkeypatch, capsys):
    import converters.readers.open as opened

    def full(*args):
        raise MemoryError

    monkeypatch.setattr(opened, "_read", full)
    np.save(tmp_path / "a.npy", A)
    with pytest.raises(ResourceError, match="not enough memory to read it"):
        read(tmp_path / "a.npy")
    assert stylegan.main([str(tmp_path / "a.npy"), "--dry-run"]) == 7
    assert "--batch" not in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules["converters.stylegan.convert"], "layout_of", full)  # while it converts
    assert stylegan.main([str(tmp_path / "a.npy"), "--dry-run"]) == 7
    err = capsys.readouterr().err
    assert "not enough memory to convert it" in err and "--batch" not in err


def test_an_npz_whose_directory_lacks_an_array_it_holds(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=A, b=B, c=A)
    honest = path.read_bytes()
    accepted = {"a", "b", "c"}
    start, changes = honest.index(b"PK\1\2"), 0
    for at in range(start, len(honest)):
        for bit in range(8):
            changed = bytearray(honest)
            changed[at] ^= 1 << bit
            path.write_bytes(bytes(changed))
            try:
                found = read(path).state_dict()
            except PackError:
                changes += 1
                continue
            assert set(found) == accepted
            np.testing.assert_array_equal(found["b"], B)
    assert changes > 800
    second = honest.index(b"PK\1\2", start + 1)
    third = honest.index(b"PK\1\2", second + 1)
    end = honest.index(b"PK\5\6")
    lacking = honest[:second] + honest[third:end] + honest[end:end + 8] + struct.pack("<HH", 2, 2) + \
        struct.pack("<I", end - start - (third - second)) + honest[end + 16:]
    path.write_bytes(lacking)
    assert set(np.load(path)) == {"a", "c"}  # numpy does not notice
    with refused("not in the archive's directory"):
        read(path)


def test_the_sizes_that_torch_repeats_behind_a_member(tmp_path):
    """torch's writer sets bit 3 and repeats the sizes behind every member but an empty one."""
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    source = files.torch_zip(tmp_path / "a.pt", {"a": A, "b": B})
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(pipe, "w") as archive:  # it cannot seek
        for name in whole.namelist():
            with archive.open(zipfile.ZipInfo(name), "w") as member:
                member.write(whole.read(name))
    (tmp_path / "b.pt").write_bytes(pipe.data)
    assert pipe.data.count(b"PK\7\x08") == len(zipfile.ZipFile(source).namelist())
    np.testing.assert_array_equal(read(tmp_path / "b.pt").tree["a"], A)
    at = pipe.data.index(b"PK\7\x08") + 12
    (tmp_path / "b.pt").write_bytes(pipe.data[:at] + b"\xff" + pipe.data[at + 1:])
    with refused("other sizes behind it"):
        read(tmp_path / "b.pt")


# --------------------------------------------------------------------------- HDF5 in a process of its own
def test_hdf5_is_read_within_limits_of_time_and_memory(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    from converters.readers import hdf5_file

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b"], file["text"], file["one"] = A, "a string", np.float32(2.5)
        file["big"] = B.astype(">i8")
    tree = read(tmp_path / "a.h5").tree
    np.testing.assert_array_equal(tree["a"]["b"], A)
    np.testing.assert_array_equal(tree["big"], B)
    assert tree["text"] == "a string" and tree["one"] == 2.5
    monkeypatch.setattr(hdf5_file, "_BYTES_PER_SECOND", 10**9)
    for message, said in (({"array": ["<f4", [2**40]]}, "led astray"), ({"array": ["|O", [1]]}, "led astray"),
                          ({"refused": "a link"}, "a link")):
        text = json.dumps(message).encode()
        with pytest.raises(UnsafeFileError, match=said):
            hdf5_file._received(memoryview(struct.pack("<Q", len(text)) + text), Limits(stored=9))


def test_a_child_that_is_stopped_is_a_refusal(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = A
    (tmp_path / "h5py.py").write_text("while True: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("converters.readers.hdf5_file._SECONDS", 0.1)
    with pytest.raises(PackError, match="a damaged HDF5 file .not read after 2"):
        read(tmp_path / "a.h5")


# ------------------------------------------------------------- B19: a generator saved whole, as PTI writes it
@pytest.mark.parametrize("write", [files.torch_zip, files.torch_legacy])
def test_torch_save_of_a_persistent_generator(tmp_path, write):
    canary = tmp_path / "canary"
    harm = f"open({str(canary)!r}, 'w').close()"
    layer = files.module("Layer", parameters={"weight": A}, buffers={"noise": B, "cache": B}, volatile=["cache"],
                         source=harm, gain=np.float64(1.5), conv_clamp=256, _forward_hooks=collections.OrderedDict())
    network = files.module("Generator", modules={"fc": layer}, source=harm,
                           _init_kwargs=files.easy_dict({"z_dim": 512}))
    for tree, prefix in ((network, ""), ({"G_ema": network}, "G_ema")):
        checkpoint = read(write(tmp_path / "model_PTI.pt", tree))
        found = checkpoint.state_dict(prefix=prefix)
        assert set(found) == {"fc.weight", "fc.noise"}
        np.testing.assert_array_equal(found["fc.weight"], A)
        assert checkpoint.at(prefix).state["_init_kwargs"] == {"z_dim": 512}
    assert not canary.exists()


# ---------------------------------------------------------------------------- B20: harmless values beside weights
def company():
    """What people keep beside the weights, as pickles write it."""
    yield "argparse.Namespace", Call("argparse.Namespace", (), {"p": Call("pathlib.PosixPath", ("a", "b")), "n": 3})
    yield "pathlib", Call("pathlib._local.WindowsPath", ("C:", "x"))
    yield "datetime", Call("datetime.datetime", (b"\x07\xe8\x01\x02\x03\x04\x05\0\0\0",))
    yield "timedelta", Call("datetime.timedelta", (1, 2, 3))
    yield "Counter", Call("collections.Counter", ({"a": 3},))
    yield "deque", Call("collections.deque", ([1, 2], 5))
    yield "defaultdict", Call("collections.defaultdict", (Global("builtins.list"),), None, {"a": [1]})
    yield "easydict", Call("easydict.EasyDict", (), {"a": 1}, {"a": 1})
    yield "yacs", Call("yacs.config.CfgNode", (), {"__immutable__": True}, {"a": 1})
    yield "lightning", Call("pytorch_lightning.utilities.parsing.AttributeDict", (), None, {"lr": 0.1})
    yield "omegaconf", Call("omegaconf.dictconfig.DictConfig", (), {"_content": {"a": Call(
        "omegaconf.nodes.AnyNode", (), {"_val": 1})}, "_metadata": Global("typing.Any")})
    yield "torch", [Call("torch.device", ("cuda", 0)), Call("torch.torch_version.TorchVersion", ("2.1",)),
                    Global("torch.float32")]
    yield "SimpleNamespace", Call("types.SimpleNamespace", (), {"a": 1})
    yield "numbers", [Call("builtins.complex", (1.0, 2.0)), Call("decimal.Decimal", ("1.5",)), Global("numpy.float32")]


@pytest.mark.parametrize("name,value", list(company()), ids=[name for name, _ in company()])
@pytest.mark.parametrize("write", [files.torch_zip, files.torch_legacy])
def test_harmless_values_stay_inert_beside_the_weights(tmp_path, write, name, value):
    checkpoint = read(write(tmp_path / "a.pt", {"g_ema": {"a": A}, "args": value, "epoch": 3}))
    np.testing.assert_array_equal(checkpoint.state_dict(prefix="g_ema")["a"], A)
    stack = [checkpoint.tree]
    while stack:  # nothing but plain containers, Nodes, numbers and text came of it
        each = stack.pop()
        assert type(each).__name__ in ("dict", "list", "tuple", "set", "Node", "ndarray", "str", "int", "float", "bool",
                                       "bytes", "NoneType", "OrderedDict", "float32", "float64"), each
        stack.extend(each.values() if isinstance(each, dict) else each if isinstance(each, list | tuple) else
                     [each.state] if hasattr(each, "state") else [])


def test_python_s_own_pickles_of_such_values(tmp_path):
    import argparse
    import datetime
    import pathlib

    value = argparse.Namespace(path=pathlib.PurePosixPath("a/b"), day=datetime.date(2024, 1, 2),
                               count=collections.Counter("aab"), at=datetime.UTC, turns=collections.deque([1]),
                               box=collections.OrderedDict(a=1), pair=frozenset([1]), part=slice(1, 2), z=1 + 2j)
    for protocol in range(6):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": A, "args": value}, protocol=protocol))
        checkpoint = read(tmp_path / "a.pkl")
        np.testing.assert_array_equal(checkpoint.state_dict()["w"], A)
        assert checkpoint.tree["args"].state["count"] == {"a": 2, "b": 1}
        assert checkpoint.tree["args"].class_name == "argparse.Namespace"


def test_a_class_as_a_key_is_its_name(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}S'callbacks'\n}ctorch\nfloat32\nK\1ss.")
    assert read(tmp_path / "a.pkl").tree == {"callbacks": {"torch.float32": 1}}


def test_what_must_be_refused_is_told_to_save_the_state_dict_alone(tmp_path):
    files.torch_zip(tmp_path / "a.pt", {"net": Call("my.model.Net", (), {"w": A})})
    with refused(r"names my\.model\.Net.*save the state dict alone: torch\.save\(network\.state_dict\(\), FILE\)"):
        read(tmp_path / "a.pt")


# ------------------------------------------------------------------------------------- B21: shards and their index
def test_shards_are_one_checkpoint(tmp_path):
    shards = {"m-1-of-2.safetensors": {"a": A}, "m-2-of-2.safetensors": {"b": B, "c": A}}
    for name, arrays in shards.items():
        files.safetensors(tmp_path / name, arrays)
    index = files.safetensors_index(tmp_path / "m.safetensors.index.json", shards)
    checkpoint = read(index)
    assert checkpoint.format == "safetensors-index" and list(checkpoint.tree) == ["a", "b", "c"]
    np.testing.assert_array_equal(checkpoint.tree["b"], B)
    files.safetensors(tmp_path / "m-2-of-2.safetensors", {"b": B})
    with refused("holds other arrays than the index says"):
        read(index)
    (tmp_path / "m-2-of-2.safetensors").unlink()
    with refused("m-2-of-2.safetensors' cannot be read.*put all shards beside their index"):
        read(index)
    for name in ("../x", "/etc/passwd", "..", 3):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with refused("not beside it|without its weight_map"):
            read(index)


# -------------------------------------------------------------------------- B23: the right word for a wrong file
def test_two_archives_in_one_file(tmp_path):
    one, two = (files.torch_zip(tmp_path / name, {"a": A}).read_bytes() for name in ("a.pt", "b.pt"))
    (tmp_path / "both.pt").write_bytes(one + two)
    with refused("two zip archives, one behind the other"):
        read(tmp_path / "both.pt")
    (tmp_path / "both.pt").write_bytes(one + b"more")
    with refused("zip archive"):
        read(tmp_path / "both.pt")


def test_packed_files_are_told_how_to_unpack(tmp_path):
    for data, said in ((gzip.compress(b"x"), "a gzip file; unpack it .gunzip."), (b"BZh9", "bunzip2"),
                       (b"\xfd7zXZ\0", "unxz"), (b"\x28\xb5\x2f\xfd", "unzstd"), (b"Rar!\x1a", "unrar")):
        (tmp_path / "net.pt").write_bytes(data)
        with refused(said):
            read(tmp_path / "net.pt")


def test_a_truncated_safetensors_file_is_called_truncated(tmp_path):
    whole = files.safetensors(tmp_path / "a.safetensors", {"a": A, "b": B}).read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:-8])
    with refused("it ends inside 'b', at byte 80 of its arrays: the file is truncated; download it again"):
        read(tmp_path / "a.safetensors")
