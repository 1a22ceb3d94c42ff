"""The checkpoint reader: every container read right, every hostile or damaged file refused, nothing in it run."""

import os
import pathlib
import pickle
import struct
import sys
import time
import warnings
import zipfile

import checkpoint_files as files
import numpy as np
import pytest
from checkpoint_files import Call, Global, pickled

from converters import stylegan
from converters.pickles import FORMATS, Node, read
from pie_jax.errors import PackError

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4)).astype(np.float32)
B = np.arange(5)


def same(got, due):
    assert set(got) == set(due)
    for name, array in due.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].shape == np.shape(array)


# ------------------------------------------------------------------------------------ what is read
def test_torch_zip_and_legacy(tmp_path):
    tree = {"g_ema": {"a": A, "turned": A.T, "b": B, "s": np.array(2.0, np.float32)}, "epoch": 3,
            "args": Call("argparse.Namespace", (), {"size": 8}), "none": None}
    for write, name in ((files.torch_zip, "torch-zip"), (files.torch_legacy, "torch-legacy")):
        checkpoint = read(write(tmp_path / name, tree))
        assert checkpoint.format == name and checkpoint.format in FORMATS
        same(checkpoint.state_dict("g_ema"), tree["g_ema"])
        assert checkpoint.tree["epoch"] == 3 and checkpoint.tree["args"] == Node("argparse.Namespace", {"size": 8})
        with pytest.raises(PackError, match="no 'g' in it .there: args, epoch"):
            checkpoint.at("g")
    assert len(checkpoint.sha256()) == 64


def test_arrays_are_views_of_the_file(tmp_path):
    big = np.zeros((512, 512), np.float32)
    array = read(files.torch_zip(tmp_path / "big.pt", {"big": big})).tree["big"]
    assert not array.flags.owndata and not array.flags.writeable


def test_torch_zip_without_checksums(tmp_path):
    data = bytearray(files.torch_zip(tmp_path / "a.pt", {"a": A}).read_bytes())
    for signature, place in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        at = data.find(signature)
        while at >= 0:
            data[at + place:at + place + 4] = bytes(4)
            at = data.find(signature, at + 1)
    (tmp_path / "b.pt").write_bytes(bytes(data))
    same(read(tmp_path / "b.pt").state_dict(), {"a": A})


def test_torchscript(tmp_path):
    inner = Call("__torch__.torch.nn.Conv2d", (), {"weight": A, "training": False})
    path = files.torchscript(tmp_path / "net.pt", Call("__torch__.Net", (), {"conv1": inner, "bias": B}))
    checkpoint = read(path)
    assert checkpoint.format == "torchscript" and checkpoint.tree.class_name == "Net"
    same(checkpoint.state_dict(), {"conv1.weight": A, "bias": B})


def test_persistence_is_the_state_dict_and_runs_no_source(tmp_path):
    canary = tmp_path / "canary"
    harm = f"open({str(canary)!r}, 'w').close()"
    layer = files.module("Layer", parameters={"weight": A.T}, buffers={"noise": B, "cache": B}, volatile=["cache"],
                         source=harm, gain=np.float64(1.5), conv_clamp=256)
    for protocol in (2, 3, 4):
        path = files.persistence(tmp_path / "g.pkl", {"G_ema": files.module("Net", modules={"fc": layer}, source=harm)},
                                 protocol=protocol)
        checkpoint = read(path)
        assert checkpoint.format == "persistence"
        same(checkpoint.state_dict("G_ema"), {"fc.weight": A.T, "fc.noise": B})
        assert checkpoint.at("G_ema.fc").state["conv_clamp"] == 256
        assert checkpoint.at("G_ema.fc").state["gain"] == 1.5
    assert not canary.exists()


def test_tensorflow_networks(tmp_path):
    synthesis = files.tf_network({"4x4/Const/const": A})
    network = files.tf_network({"lod": np.float32(0.0), "dlatent_avg": B.astype(np.float32)},
                               components={"synthesis": synthesis})
    for protocol in (2, 4):
        checkpoint = read(files.tf_pickle(tmp_path / "g.pkl", network, protocol=protocol))
        assert checkpoint.format == "tf-network"
        same(checkpoint.state_dict("2"), {"lod": np.float32(0.0), "dlatent_avg": B, "synthesis/4x4/Const/const": A})


def test_python_2_and_chumpy_pickles(tmp_path):
    text = A.tobytes().decode("latin-1")  # Python 2 wrote an array's bytes as text
    dtype = Call("numpy.dtype", ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    array = Call("numpy.core.multiarray._reconstruct", (Global("numpy.ndarray"), (0,), "b"),
                 (1, A.shape, dtype, False, text))
    sparse = Call("scipy.sparse.csc.csc_matrix", (), {
        "_shape": (2, 3), "data": np.array([5.0, 7.0]), "indices": np.array([1, 0]), "indptr": np.array([0, 1, 1, 2])})
    tree = {"v": array, "ch": Call("copy_reg._reconstructor", (Global("chumpy.ch.Ch"), Global("__builtin__.object"),
                                                               None), {"x": array}),
            "select": Call("chumpy.reordering.Select", (), {"a": array, "idxs": np.array([0, 5]),
                                                            "preferred_shape": (2, 1)}), "J": sparse}
    (tmp_path / "flame.pkl").write_bytes(pickled(tree))
    got = read(tmp_path / "flame.pkl").state_dict()
    same(got, {"v": A, "ch": A, "select": A.ravel()[[0, 5]][:, None], "J": [[0, 0, 7], [5, 0, 0]]})


def test_numpy_files_and_safetensors(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=A, b=np.asfortranarray(A), c=B)
    same(read(tmp_path / "a.npz").state_dict(), {"a": A, "b": A, "c": B})
    np.save(tmp_path / "a.npy", A)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").tree, A)
    half = (A.view(np.uint32) >> 16).astype(np.uint16)
    checkpoint = read(files.safetensors(tmp_path / "a.safetensors", {"a": A, "half": half, "b": B}))
    same(checkpoint.state_dict(), {"a": A, "half": (half.astype(np.uint32) << 16).view(np.float32), "b": B})


def test_torch7(tmp_path):
    net = ("nn.Sequential", {"modules": [("nn.SpatialConvolution", {"weight": A, "train": False}), ("nn.ReLU", {})]})
    checkpoint = read(files.t7(tmp_path / "vgg.t7", net))
    assert checkpoint.format == "t7" and checkpoint.tree.state["modules"][1] == Node("nn.ReLU", {})
    same(checkpoint.state_dict(), {"modules.0.weight": A})


def test_mat(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = {"name": "conv1_1", "weights": A}, {"name": "relu", "weights": A[:1]}
    scipy_io.savemat(tmp_path / "v.mat", {"layers": cell, "shapeMU": A}, do_compression=True)
    tree = read(tmp_path / "v.mat").tree
    np.testing.assert_array_equal(tree["shapeMU"], A)
    assert tree["layers"][0]["name"] == "conv1_1"
    np.testing.assert_array_equal(tree["layers"][0]["weights"], A)
    scipy_io.savemat(tmp_path / "bomb.mat", {"z": np.zeros(6_000_000)}, do_compression=True)
    with pytest.raises(PackError, match="inflates to more than"):
        read(tmp_path / "bomb.mat")


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["shape/model/mean"] = A
        file["shape/text"] = "a string"
        file.create_dataset("shape/packed", data=B, compression="gzip", shuffle=True)
    tree = read(tmp_path / "m.h5").tree
    assert tree["shape"]["text"] == "a string"
    np.testing.assert_array_equal(tree["shape"]["model"]["mean"], A)
    np.testing.assert_array_equal(tree["shape"]["packed"], B)
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["away"] = h5py.ExternalLink(str(tmp_path / "m.h5"), "/shape")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("z", shape=(2**40,), chunks=(1024,), dtype="f4")
    for name, message in (("out.h5", "is a link"), ("bomb.h5", "declares")):
        with pytest.raises(PackError, match=message):
            read(tmp_path / name)


def test_obj_folder(tmp_path):
    (tmp_path / "FaceXModel").mkdir()
    for name, z in (("generic_neutral_mesh", 0.0), ("identity000", 1.0)):
        lines = [f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1)] + ["vt 0 0", "f 1/1 2/1 4/1 3/1", "f 1/1 2/1 3/1"]
        (tmp_path / "FaceXModel" / f"{name}.obj").write_text("\n".join(lines) + "\n")
    (tmp_path / "FaceXModel" / "vertex_indices.json").write_text('{"expressions": ["smile"]}')
    checkpoint = read(tmp_path)
    mesh = checkpoint.tree["meshes"]["identity000"]
    assert checkpoint.format == "obj-folder" and checkpoint.tree["vertex_indices"] == {"expressions": ["smile"]}
    assert mesh["vertices"].tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert mesh["quads"].tolist() == [[0, 1, 3, 2]] and mesh["triangles"].tolist() == [[0, 1, 2]]


def test_real_torch_files_are_bit_equal(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = net.state_dict() | {"half": torch.randn(5).half(), "brain": torch.randn(5).bfloat16(),
                                "strided": torch.randn(4, 6)[1:, ::2], "last": torch.randn(2, 3, 4).movedim(1, -1)}
    torch.save({"net": state}, tmp_path / "zip.pt")
    torch.save({"net": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "old.pth"):
        same(read(tmp_path / name).state_dict("net"), {k: v.float().numpy() for k, v in state.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript, which users still have
        torch.jit.script(net.eval()).save(tmp_path / "script.pt")
    checkpoint = read(tmp_path / "script.pt")
    assert checkpoint.format == "torchscript"
    same(checkpoint.state_dict(), {k: v.numpy() for k, v in net.state_dict().items()})
    torch.save(net, tmp_path / "module.pt")
    with pytest.raises(PackError, match="torch.nn.modules.container.Sequential"):
        read(tmp_path / "module.pt")


# ------------------------------------------------------------------------------------ what is refused
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


def test_bombs_are_refused_before_they_are_inflated(tmp_path):
    start = time.process_time()
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
        with pytest.raises(PackError, match=path.name):
            read(path).state_dict()
        assert name and time.process_time() - start < 20


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
            checkpoint.state_dict("g")
    large = np.array([3e38, 3e38, -3e38], np.float32)  # finite, although their sum in float32 is not
    same(read(files.torch_zip(tmp_path / "a.pt", {"large": large})).state_dict(), {"large": large})


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
    folder = pathlib.Path(stylegan.__file__).parents[1] / "pickles"
    for file in folder.glob("*.py"):
        text = file.read_text()
        assert "import pickle" not in text and "import torch" not in text and "exec(" not in text, file
    assert pickle.loads(pickled({"a": 1})) == {"a": 1}  # the writer of these tests writes real pickles
