"""One or two small files of every container, of 200 bytes to a few kilobytes each: what the fuzz mutates."""

import base64
import collections
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import checkpoint_files as files
import numpy as np
from checkpoint_files import Call, Global

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4)).astype(np.float32)
B = np.arange(5)
TREE = {"g_ema": collections.OrderedDict(a=A, turned=A.T, b=B, s=np.array(2.0, np.float32)), "epoch": 3, "lr": 1e-3,
        "args": Call("argparse.Namespace", (), {"size": 8, "path": Call("pathlib.PosixPath", ("a", "b"))})}


def torch_zip(folder: Path) -> list[Path]:
    """As torch.save writes it, stored and deflated."""
    return [files.torch_zip(folder / "a.pt", TREE),
            files.torch_zip(folder / "b.pt", TREE, compression=zipfile.ZIP_DEFLATED)]


def torchscript(folder: Path) -> list[Path]:
    """As torch.jit.save writes it."""
    inner = Call("__torch__.torch.nn.Conv2d", (), {"weight": A, "training": False})
    return [files.torchscript(folder / "a.pt", Call("__torch__.Net", (), {"conv1": inner, "bias": B}))]


def torch_legacy(folder: Path) -> list[Path]:
    """As torch.save wrote it before 1.6."""
    return [files.torch_legacy(folder / "a.pth", TREE)]


def persistence(folder: Path) -> list[Path]:
    """A network of NVIDIA's PyTorch repositories, by three protocols of pickle."""
    layer = files.module("Layer", parameters={"weight": A.T}, buffers={"noise": B}, volatile=["noise"],
                         source="import os", gain=np.float64(1.5), conv_clamp=256)
    network = files.module("Net", modules={"fc": layer}, source="import os")
    return [files.persistence(folder / f"{protocol}.pkl", {"G_ema": network}, protocol=protocol)
            for protocol in (2, 3, 4)]


def tf_network(folder: Path) -> list[Path]:
    """(G, D, Gs) of NVIDIA's TensorFlow repositories."""
    network = files.tf_network({"lod": np.float32(0)}, components={"mapping": files.tf_network({"Dense0/weight": A})},
                               static_kwargs={"resolution": 8})
    return [files.tf_pickle(folder / "a.pkl", network)]


def pickle(folder: Path) -> list[Path]:
    """Like FLAME's: chumpy, a sparse matrix, plain arrays."""
    sparse = Call("scipy.sparse.csc.csc_matrix", (), {
        "_shape": (2, 3), "data": np.array([5.0, 7.0]), "indices": np.array([1, 0]), "indptr": np.array([0, 1, 1, 2])})
    tree = {"v_template": A, "J_regressor": sparse, "f": B.astype(np.uint32),
            "shapedirs": Call("copy_reg._reconstructor", (Global("chumpy.ch.Ch"), Global("__builtin__.object"), None),
                              {"x": A}),
            "select": Call("chumpy.reordering.Select", (), {"a": A, "idxs": np.array([0, 5]),
                                                            "preferred_shape": (2, 1)})}
    found = []
    for protocol in (2, 4):
        found.append(folder / f"{protocol}.pkl")
        found[-1].write_bytes(files.pickled(tree, protocol=protocol))
    return found


def t7(folder: Path) -> list[Path]:
    """A network of Torch 7."""
    net = ("nn.Sequential", {"modules": [("nn.SpatialConvolution", {"weight": A, "train": False}), ("nn.ReLU", {})]})
    return [files.t7(folder / "a.t7", net), files.t7(folder / "b.t7", ("nn.X", {"a": A, "b": [1, "x", None, True]}))]


def mat(folder: Path) -> list[Path]:
    """MATLAB 5 files, plain and packed: numbers of many types, structs, cells, text."""
    import scipy.io

    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = {"name": "conv1_1", "weights": A}, {"name": "relu", "weights": A[:1]}
    variables = {"layers": cell, "shapeMU": A, "tri": B.astype(np.uint16), "flag": np.array([[True, False]]),
                 "names": np.array(["one", "three"]), "empty": np.zeros((0, 3))}
    found = []
    for packed in (False, True):
        found.append(folder / f"{packed}.mat")
        scipy.io.savemat(found[-1], variables, do_compression=packed)
    return found


def hdf5(folder: Path) -> list[Path]:
    """Groups, text, a packed dataset."""
    import h5py

    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file["shape/model/mean"] = A
        file["shape/text"] = "a string"
        file.create_dataset("shape/packed", data=B, compression="gzip", shuffle=True)
        file["color/model/mean"] = A.T
    return [path]


def npz(folder: Path) -> list[Path]:
    """Stored and deflated."""
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(folder / name, a=A, b=np.asfortranarray(A), c=B)
    return [folder / "a.npz", folder / "b.npz"]


def npy(folder: Path) -> list[Path]:
    """In both orders of bytes and of axes."""
    for i, array in enumerate((A, np.asfortranarray(A), A.astype(">f8"), np.array(["a", "bcd"]))):
        np.save(folder / f"{i}.npy", array)
    return sorted(folder.glob("*.npy"))


def safetensors(folder: Path) -> list[Path]:
    """Three types."""
    half = (A.view(np.uint32) >> 16).astype(np.uint16)
    return [files.safetensors(folder / "a.safetensors", {"a": A, "half": half, "b": B})]


def safetensors_index(folder: Path) -> list[Path]:
    """Two shards and their index."""
    shards = {"m-00001-of-00002.safetensors": {"a": A}, "m-00002-of-00002.safetensors": {"b": B}}
    for name, arrays in shards.items():
        files.safetensors(folder / name, arrays)
    return [files.safetensors_index(folder / "m.safetensors.index.json", shards)]


def tflite(folder: Path) -> list[Path]:
    """One convolution and a custom operator with settings."""
    path = folder / "a.tflite"
    path.write_bytes(files.tflite(weights=A.reshape(2, 1, 2, 3), settings={"scale_x": 1.5, "subset_idxs": [1, 2, 3]}))
    return [path]


def tfjs(folder: Path) -> list[Path]:
    """A graph of two nodes, its weights in two types."""
    (folder / "w.bin").write_bytes(A.tobytes() + A.astype(np.float16).tobytes())
    nodes = [{"name": "k", "op": "Const", "input": []},
             {"name": "c", "op": "Conv2D", "input": ["x", "k"], "attr": {
                 "padding": {"s": base64.b64encode(b"SAME").decode()},
                 "strides": {"list": {"i": ["1", "2", "2", "1"]}}}}]
    weights = [{"name": "k", "shape": [3, 4], "dtype": "float32"},
               {"name": "h", "shape": [3, 4], "dtype": "float32", "quantization": {"dtype": "float16"}}]
    model = {"format": "graph-model", "signature": {"outputs": {"c:0": {}}}, "modelTopology": {"node": nodes},
             "weightsManifest": [{"paths": ["w.bin"], "weights": weights}]}
    (folder / "net.json").write_text(json.dumps(model))
    return [folder / "net.json"]


def obj_folder(folder: Path) -> list[Path]:
    """Two meshes of one topology."""
    for name, z in (("generic_neutral_mesh", 0.0), ("identity000", 1.0)):
        lines = [f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1)] + ["vt 0 0", "f 1/1 2/1 4/1 3/1", "f 1/1 2/1 3/1"]
        (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
    (folder / "vertex_indices.json").write_text('{"expressions": ["smile"], "idx_to_landmark_verts": [0, 1, 2]}')
    return [folder]


CONTAINERS: dict[str, Callable[[Path], list[Path]]] = {
    "torch-zip": torch_zip, "torchscript": torchscript, "torch-legacy": torch_legacy, "tf-network": tf_network,
    "persistence": persistence, "pickle": pickle, "t7": t7, "mat": mat, "hdf5": hdf5, "npz": npz, "npy": npy,
    "safetensors": safetensors, "safetensors-index": safetensors_index, "tflite": tflite, "tfjs": tfjs,
    "obj-folder": obj_folder}
