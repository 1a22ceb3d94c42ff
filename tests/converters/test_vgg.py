"""VGG-16, LPIPS and VGG-Face files of every public layout: the same function as an independent forward pass."""

import argparse
import json
import struct

import jax
import numpy as np
import pytest
import scipy.io
from torch_or_numpy import conv, float32, kernel, linear, max_pool, relative, relu, save

from converters import vgg
from converters.readers import read
from converters.table import Mismatch
from pie_jax.config import VGGConfig
from pie_jax.errors import PackError
from pie_jax.nn.vgg import CONVOLUTIONS, VGG
from pie_jax.pack import load_pack

WIDTH, SIDE, FC = 4, 2, 6  # fc6 reads 2 x 2 of 32 channels: the crop has 64 px


def channels(name):
    return WIDTH * min(2 ** (int(name[4]) - 1), 8)


def layers(seed=0):
    """{layer: (kernel [O, I, 3, 3] or [O, I], bias)} of a small VGG-Face."""
    rng, found, inputs = np.random.default_rng(seed), {}, 3
    for name in CONVOLUTIONS:
        found[name] = kernel(rng, channels(name), inputs, 3, 3), 0.1 * rng.normal(size=channels(name))
        inputs = channels(name)
    sizes = (inputs * SIDE * SIDE, FC, FC, 5)
    for i, name in enumerate(("fc6", "fc7", "fc8")):
        found[name] = kernel(rng, sizes[i + 1], sizes[i]), 0.1 * rng.normal(size=sizes[i + 1])
    return {name: (np.float32(k), np.float32(b)) for name, (k, b) in found.items()}


def reference(found, images_01, mean, std):
    """Features by name, NCHW; RGB in."""
    x = ((255 * images_01 - np.asarray(mean)) / np.asarray(std)).transpose(0, 3, 1, 2).astype(np.float32)
    features = {}
    for name in CONVOLUTIONS:
        if name.endswith("_1") and name != "conv1_1":
            x = max_pool(x)
        x = features[name] = relu(conv(x, *found[name], padding=1))
    x = max_pool(x).reshape(len(x), -1)
    if "fc6" in found and found["fc6"][0].shape[1] == x.shape[1]:
        x = features["fc6"] = relu(linear(x, *found["fc6"]))
        x = features["fc7_pre"] = linear(x, *found["fc7"])
        features["fc7"] = relu(x)
    return features


def images(side, count=2):
    return np.random.default_rng(9).uniform(size=(count, side, side, 3)).astype(np.float32)


def arguments(**given):
    return argparse.Namespace(**{"heads": None, **given})


def run(converted, images_01):
    return jax.jit(VGG(converted.config).apply)({"params": converted.weights}, images_01)


def torchvision(found):
    tensors = {}
    for name, index in zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)):
        tensors |= {f"features.{index}.weight": found[name][0], f"features.{index}.bias": found[name][1]}
    for index, name in ((0, "fc6"), (3, "fc7"), (6, "fc8")):
        tensors |= {f"classifier.{index}.weight": found[name][0], f"classifier.{index}.bias": found[name][1]}
    return tensors


@pytest.mark.parametrize("legacy", [False, True])
def test_torchvision(tmp_path, legacy):
    found = layers()
    checkpoint = read(save(tmp_path / "vgg16.pth", torchvision(found), legacy=legacy))
    converted = vgg.convert(checkpoint, arguments())
    config = converted.config
    assert converted.part == "perceptual" and config.width == WIDTH and config.layers == VGGConfig().layers
    assert converted.table.complete and converted.table.count("left out") == 3 * 2 + 4 * 2  # fc, and from conv4_3 on
    photos = images(256, 1)
    got, due = run(converted, photos), reference(found, photos, config.mean_rgb, config.std_rgb)
    for name in config.layers:
        assert relative(np.moveaxis(got[name], -1, 1), due[name]) < 1e-4


def lpips_reference(found, heads, a, b):
    """Mean over pixels of the heads on squared differences of unit features; images in -1..1, LPIPS's own scaling."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    total = 0.0
    features = [reference(found, (2 * x - 1 - shift) / scale / 255, 0.0, 1.0) for x in (a, b)]
    for name, head in zip(vgg.LPIPS_LAYERS, heads):
        units = [f[name] / (np.sqrt(np.sum(f[name] ** 2, axis=1, keepdims=True)) + 1e-10) for f in features]
        total = total + np.mean(np.sum(np.square(units[0] - units[1]) * head.reshape(1, -1, 1, 1), axis=1), axis=(1, 2))
    return total


def test_lpips_heads_and_the_whole_state_dict(tmp_path):
    rng, found = np.random.default_rng(3), layers()
    heads = [np.float32(rng.uniform(0.01, 1, size=channels(name))) for name in vgg.LPIPS_LAYERS]
    lins = {f"lin{i}.model.1.weight": h.reshape(1, -1, 1, 1) for i, h in enumerate(heads)}
    own = save(tmp_path / "lin.pth", lins, legacy=True)
    trunk = save(tmp_path / "vgg16.pth", torchvision(found))
    split = vgg.convert(read(trunk), arguments(heads=str(own)))
    whole = {f"net.slice{name[4]}.{index}.{part}": found[name][k] for name, index in vgg.TORCHVISION.items()
             for k, part in enumerate(("weight", "bias"))}
    whole |= lins | {f"lins.{i}.model.1.weight": h.reshape(1, -1, 1, 1) for i, h in enumerate(heads)}
    whole |= {"scaling_layer.shift": np.float32([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1),
              "scaling_layer.scale": np.float32([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)}
    one = vgg.convert(read(save(tmp_path / "lpips.pth", whole)), arguments())
    a, b = images(256, 2)[:1], images(256, 2)[1:]
    due = lpips_reference(found, heads, a.astype(np.float64), b.astype(np.float64))
    for converted in (split, one):
        assert converted.config.heads and converted.config.layers == vgg.LPIPS_LAYERS
        apply = jax.jit(VGG(converted.config).apply)
        left, right = (apply({"params": converted.weights}, x) for x in (a, b))
        distance = sum(np.mean(np.square(left[name] - right[name]), axis=(1, 2, 3)) for name in left)
        assert relative(distance, due) < 1e-4
    with pytest.raises(PackError, match="--heads"):
        vgg.convert(read(own), arguments())
    whole["scaling_layer.shift"] = whole["scaling_layer.shift"] + 0.1
    with pytest.raises(Mismatch, match="scaling_layer.shift"):
        vgg.convert(read(save(tmp_path / "other.pth", whole)), arguments())


def face_file(tmp_path, layout, found):
    if layout in ("dag", "prlz77"):
        stem = "conv_{}" if layout == "prlz77" else "conv{}"
        names = {n: stem.format(n[4:]) if n.startswith("conv") else n for n in found}
        return save(tmp_path / "face.pth", {f"{names[n]}.{p}": found[n][k] for n in found
                                            for k, p in enumerate(("weight", "bias"))})
    if layout == "t7":
        (tmp_path / "VGG_FACE.t7").write_bytes(torch7(found))
        return tmp_path / "VGG_FACE.t7"
    cells = np.empty((1, 2 * len(found)), object)
    for i in range(len(found)):
        cells[0, 2 * i + 1] = {"name": f"relu{i}", "type": "relu", "weights": np.zeros((0, 0))}
    for i, (name, (weight, bias)) in enumerate(found.items()):
        side = SIDE if name == "fc6" else 1
        weight = weight.reshape(len(weight), -1, side, side) if weight.ndim == 2 else weight
        pair = np.empty((1, 2), object)
        pair[0, 0], pair[0, 1] = np.asfortranarray(weight.transpose(2, 3, 1, 0)), bias.reshape(1, -1)
        own = {"filters": pair[0, 0], "biases": pair[0, 1]} if layout == "oxford" else {"weights": pair}
        cells[0, 2 * i] = {"name": name, "type": "conv", "pad": 1, "stride": 1, **own}
    average = np.float32(vgg.FACE_MEAN_RGB).reshape(1, 1, 3)
    network = {"layers": cells, "meta": {"normalization": {"averageImage": average, "imageSize": [64.0, 64.0, 3.0]}}}
    scipy.io.savemat(tmp_path / "face.mat", {"net": network} if layout == "oxford" else network, do_compression=True)
    return tmp_path / "face.mat"


def torch7(found):
    """The bytes of an nn.Sequential as Torch7 writes it: relu and pooling between, convolutions as [O, I * 9]."""
    out, index = [], 0

    def text(value):
        out.append(struct.pack("<i", len(value)) + value.encode())

    def fresh():
        nonlocal index
        index += 1
        out.append(struct.pack("<i", index))

    def tensor(array):
        array = np.ascontiguousarray(array, np.float32)
        out.append(struct.pack("<i", 4))
        fresh()
        text("V 1")
        text("torch.FloatTensor")
        strides = [s // 4 for s in array.strides]
        out.append(struct.pack(f"<i{2 * array.ndim}qq", array.ndim, *array.shape, *strides, 1))
        out.append(struct.pack("<i", 4))
        fresh()
        text("V 1")
        text("torch.FloatStorage")
        out.append(struct.pack("<q", array.size) + array.tobytes())

    def entry(key, write):
        if isinstance(key, str):
            out.append(struct.pack("<i", 2))
            text(key)
        else:
            out.append(struct.pack("<id", 1, float(key)))
        write()

    def module(name, entries):
        out.append(struct.pack("<i", 4))
        fresh()
        text("V 1")
        text(name)
        table(entries)

    def table(entries):
        out.append(struct.pack("<i", 3))
        fresh()
        out.append(struct.pack("<i", len(entries)))
        for key, write in entries:
            entry(key, write)

    modules = []
    for name, (weight, bias) in found.items():
        flat = weight.reshape(len(weight), -1)
        kind = "nn.Linear" if name.startswith("fc") else "nn.SpatialConvolutionMM"
        parts = [("weight", lambda w=flat: tensor(w)), ("bias", lambda b=bias: tensor(b))]
        modules += [lambda k=kind, p=parts: module(k, p), lambda: module("nn.ReLU", [])]
    module("nn.Sequential", [("modules", lambda: table([(i, m) for i, m in enumerate(modules, 1)]))])
    return b"".join(out)


@pytest.mark.parametrize("layout", ["dag", "prlz77", "t7", "matconvnet", "oxford"])
def test_vgg_face(tmp_path, layout):
    found = layers(seed=1)
    checkpoint = read(face_file(tmp_path, layout, found))
    converted = vgg.convert(checkpoint, arguments())
    config = converted.config
    assert converted.part == "recognition" and converted.table.complete
    assert (config.width, config.resolution, config.fc_width, config.num_classes) == (WIDTH, 32 * SIDE, FC, 0)
    np.testing.assert_allclose(config.mean_rgb, vgg.FACE_MEAN_RGB, rtol=1e-6)
    photos = images(32 * SIDE)
    if layout in ("t7", "prlz77"):  # those networks read blue first
        found["conv1_1"] = found["conv1_1"][0][:, ::-1], found["conv1_1"][1]
    due = reference(found, photos, vgg.FACE_MEAN_RGB, 1.0)
    got = run(converted, photos)
    for name in ("fc6", "fc7_pre", "fc7"):
        assert relative(got[name], due[name]) < 1e-4


def test_command_writes_the_part_and_checks_a_reference(tmp_path, capsys):
    found = layers()
    file = face_file(tmp_path, "dag", found)
    photos = images(32 * SIDE)
    due = reference(found, photos, vgg.FACE_MEAN_RGB, 1.0)
    np.savez(tmp_path / "reference.npz", images_01=photos, fc7=due["fc7"])
    code = vgg.main([str(file), "--pack", str(tmp_path / "pack"), "--check", str(tmp_path / "reference.npz"), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == 0 and facts["check"]["fc7"] < 1e-4 and facts["part"] == "recognition"
    pack = load_pack(tmp_path / "pack")
    assert "CC BY-NC" in pack.manifest["training"]["recognition"]["licence"]
    got = jax.jit(VGG(pack.configs.recognition).apply)({"params": pack.weights["recognition"]}, photos)
    assert relative(got["fc7"], due["fc7"]) < 1e-4
    np.savez(tmp_path / "reference.npz", images_01=photos, fc7=due["fc7"][:, ::-1])
    assert vgg.main([str(file), "--dry-run", "--check", str(tmp_path / "reference.npz")]) == 4
    assert "fc7 differs" in capsys.readouterr().err


def test_what_does_not_fit_is_named(tmp_path, capsys):
    found = layers()
    tensors = torchvision(found)
    broken = dict(tensors)
    del broken["features.5.bias"]
    assert vgg.main([str(save(tmp_path / "a.pth", broken)), "--dry-run"]) == 4
    assert "features.5.bias" in capsys.readouterr().err
    broken = tensors | {"features.7.weight": tensors["features.7.weight"][:, :-1]}
    assert vgg.main([str(save(tmp_path / "b.pth", broken)), "--dry-run"]) == 4
    assert "features.7.weight" in capsys.readouterr().err
    broken = tensors | {"attention.weight": np.ones(3, np.float32)}
    assert vgg.main([str(save(tmp_path / "c.pth", broken)), "--dry-run"]) == 4
    assert "attention.weight" in capsys.readouterr().err
    broken = tensors | {"features.2.bias": np.full(WIDTH, np.nan, np.float32)}
    assert vgg.main([str(save(tmp_path / "d.pth", broken)), "--dry-run"]) == 4
    assert "features.2.bias" in capsys.readouterr().err
    assert vgg.main([str(save(tmp_path / "e.pth", float32({"fc.weight": np.ones((2, 2))}))), "--dry-run"]) == 4
    assert "no VGG-16" in capsys.readouterr().err
    assert not list(tmp_path.glob("*/manifest.json"))
