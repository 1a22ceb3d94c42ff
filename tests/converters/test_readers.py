"""The checkpoint reader: every container read right (what it refuses: test_converters_hostile)."""

import warnings

import checkpoint_files as files
import numpy as np
import pytest
import scipy.io
from checkpoint_files import Call, Global, pickled

from converters.readers import FORMATS, Node, read
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
        same(checkpoint.state_dict(prefix="g_ema"), tree["g_ema"])
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
        same(checkpoint.state_dict(prefix="G_ema"), {"fc.weight": A.T, "fc.noise": B})
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
        same(checkpoint.state_dict(prefix="2"),
             {"lod": np.float32(0.0), "dlatent_avg": B, "synthesis/4x4/Const/const": A})


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
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = {"name": "conv1_1", "weights": A}, {"name": "relu", "weights": A[:1]}
    scipy.io.savemat(tmp_path / "v.mat", {"layers": cell, "shapeMU": A}, do_compression=True)
    tree = read(tmp_path / "v.mat").tree
    np.testing.assert_array_equal(tree["shapeMU"], A)
    assert tree["layers"][0]["name"] == "conv1_1"
    np.testing.assert_array_equal(tree["layers"][0]["weights"], A)
    scipy.io.savemat(tmp_path / "bomb.mat", {"z": np.zeros(6_000_000)}, do_compression=True)
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
        same(read(tmp_path / name).state_dict(prefix="net"), {k: v.float().numpy() for k, v in state.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript, which users still have
        torch.jit.script(net.eval()).save(tmp_path / "script.pt")
    checkpoint = read(tmp_path / "script.pt")
    assert checkpoint.format == "torchscript"
    same(checkpoint.state_dict(), {k: v.numpy() for k, v in net.state_dict().items()})
    torch.save(net, tmp_path / "module.pt")
    with pytest.raises(PackError, match="torch.nn.modules.container.Sequential"):
        read(tmp_path / "module.pt")
