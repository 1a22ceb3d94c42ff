"""The public FAN: the same heat maps as an independent forward pass, 66 of its 68, its own square of the portrait."""

import argparse
import dataclasses

import jax
import numpy as np
import pytest
from torch_or_numpy import batch_norm, conv, enlarge, float32, kernel, mean_pool, norm_tensors, relative, relu, save

from converters import landmarks
from converters.readers import read
from pie_jax.config import CameraConfig, LandmarkConfig
from pie_jax.errors import PackError
from pie_jax.nn.landmarks import LandmarkNet
from pie_jax.pack import load_pack
from pie_jax.pack.inference import grown_crop

WIDTH, STACKS, DEPTH = 8, 2, 2


def tensors_of(seed=0):
    """The state dict of a FAN at a few channels."""
    rng, found = np.random.default_rng(seed), {}

    def layer(name, outputs, inputs, size, bias=True):
        found[f"{name}.weight"] = kernel(rng, outputs, inputs, size, size)
        if bias:
            found[f"{name}.bias"] = 0.1 * rng.normal(size=outputs)

    def block(name, inputs, outputs):
        sizes = (inputs, outputs // 2, outputs // 4, outputs // 4)
        for i in range(3):
            found.update(norm_tensors(rng, f"{name}.bn{i + 1}", sizes[i]))
            layer(f"{name}.conv{i + 1}", sizes[i + 1], sizes[i], 3, bias=False)
        if inputs != outputs:
            found.update(norm_tensors(rng, f"{name}.downsample.0", inputs))
            layer(f"{name}.downsample.2", outputs, inputs, 1, bias=False)

    layer("conv1", WIDTH // 4, 3, 7)
    found |= norm_tensors(rng, "bn1", WIDTH // 4)
    block("conv2", WIDTH // 4, WIDTH // 2)
    block("conv3", WIDTH // 2, WIDTH // 2)
    block("conv4", WIDTH // 2, WIDTH)
    for i in range(STACKS):
        for level in range(DEPTH, 0, -1):
            for name in ("b1", "b2", "b3"):
                block(f"m{i}.{name}_{level}", WIDTH, WIDTH)
        block(f"m{i}.b2_plus_1", WIDTH, WIDTH)
        block(f"top_m_{i}", WIDTH, WIDTH)
        layer(f"conv_last{i}", WIDTH, WIDTH, 1)
        found |= norm_tensors(rng, f"bn_end{i}", WIDTH)
        layer(f"l{i}", 68, WIDTH, 1)
        if i < STACKS - 1:
            layer(f"bl{i}", WIDTH, WIDTH, 1)
            layer(f"al{i}", WIDTH, 68, 1)
    return float32(found)


def reference(t, crops_01):
    """The last heat maps [B, 68, h, w] as face_alignment/models.py computes them."""
    def layer(x, name, **how):
        return conv(x, t[f"{name}.weight"], t.get(f"{name}.bias"), **how)

    def block(x, name):
        parts, y = [], x
        for i in (1, 2, 3):
            y = layer(relu(batch_norm(y, t, f"{name}.bn{i}")), f"{name}.conv{i}", padding=1)
            parts.append(y)
        if f"{name}.downsample.2.weight" in t:
            x = layer(relu(batch_norm(x, t, f"{name}.downsample.0")), f"{name}.downsample.2")
        return np.concatenate(parts, axis=1) + x

    def hourglass(x, name, level):
        side = block(x, f"{name}.b1_{level}")
        low = block(mean_pool(x), f"{name}.b2_{level}")
        low = hourglass(low, name, level - 1) if level > 1 else block(low, f"{name}.b2_plus_1")
        return side + enlarge(block(low, f"{name}.b3_{level}"))

    x = relu(batch_norm(layer(crops_01.transpose(0, 3, 1, 2), "conv1", stride=2, padding=3), t, "bn1"))
    x = block(block(mean_pool(block(x, "conv2")), "conv3"), "conv4")
    for i in range(STACKS):
        y = block(hourglass(x, f"m{i}", DEPTH), f"top_m_{i}")
        y = relu(batch_norm(layer(y, f"conv_last{i}"), t, f"bn_end{i}"))
        maps = layer(y, f"l{i}")
        if i < STACKS - 1:
            x = x + layer(y, f"bl{i}") + layer(maps, f"al{i}")
    return maps


@pytest.mark.parametrize("form", ["plain", "old"])
def test_same_function(tmp_path, form):
    tensors = tensors_of()
    counted = tensors | {"bn1.num_batches_tracked": np.array(3)}
    if form == "old":
        counted = {"state_dict": {f"module.{name}": array for name, array in counted.items()}}
    converted = landmarks.convert(read(save(tmp_path / "fan.pth.tar", counted, legacy=form == "plain")),
                                  argparse.Namespace())
    assert converted.config == LandmarkConfig(stacks=STACKS, width=WIDTH, depth=DEPTH, num_points=68,
                                              crop_scale=landmarks.CROP_SCALE)
    assert converted.table.complete
    crops = np.random.default_rng(1).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    got = jax.jit(LandmarkNet(converted.config).apply)({"params": converted.weights}, crops)
    due = np.delete(reference(tensors, crops), [60, 64], axis=1)
    assert relative(np.moveaxis(got[-1], -1, 1), due) < 1e-4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit, which wrote the public archives
def test_torchscript_names(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = tensors_of()

    class Bag(torch.nn.Module):
        def forward(self, x):
            return x

    root = Bag()
    for name, array in tensors.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, Bag())
            module = getattr(module, part)
        value = torch.from_numpy(array)
        if leaf.startswith("running"):
            module.register_buffer(leaf, value)
        else:
            module.register_parameter(leaf, torch.nn.Parameter(value))
    torch.jit.trace(root, torch.zeros(1)).save(str(tmp_path / "2DFAN4.zip"))
    checkpoint = read(tmp_path / "2DFAN4.zip")
    assert checkpoint.format == "torchscript"
    converted = landmarks.convert(checkpoint, argparse.Namespace())
    np.testing.assert_array_equal(converted.weights["l1"]["bias"], tensors["l1.bias"])
    np.testing.assert_array_equal(converted.weights["m0"]["b2_plus_1"]["bn3"]["var"],
                                  tensors["m0.b2_plus_1.bn3.running_var"])


def test_command_and_refusals(tmp_path, capsys):
    tensors = tensors_of()
    assert landmarks.main([str(save(tmp_path / "fan.pth", tensors)), "--pack", str(tmp_path / "pack")]) == 0
    assert load_pack(tmp_path / "pack").configs.landmarks.num_points == 68
    capsys.readouterr()
    broken = dict(tensors)
    broken["m1.b3_2.conv2.weight"] = broken["m1.b3_2.conv2.weight"].transpose(0, 1, 3, 2)[:, :, :2]
    assert landmarks.main([str(save(tmp_path / "a.pth", broken)), "--dry-run"]) == 4
    assert "m1.b3_2.conv2.weight" in capsys.readouterr().err
    fewer = {name: array[:60] if name in ("l0.weight", "l0.bias") else array for name, array in tensors.items()}
    with pytest.raises(PackError, match="60 heat maps"):
        landmarks.convert(read(save(tmp_path / "b.pth", fewer)), argparse.Namespace())
    with pytest.raises(PackError, match="no FAN"):
        landmarks.convert(read(save(tmp_path / "c.pth", {"conv1.weight": tensors["conv1.weight"]})),
                          argparse.Namespace())


def test_the_larger_square_has_the_same_middle():
    camera = CameraConfig(crop_x=0.1, crop_y=0.2, crop_size=0.6)
    grown = grown_crop(camera, scale=1.5)
    assert grown.crop_size == pytest.approx(0.9)
    assert grown.crop_x + grown.crop_size / 2 == pytest.approx(0.4)
    assert grown.crop_y + grown.crop_size / 2 == pytest.approx(0.5)
    assert dataclasses.replace(grown_crop(camera, scale=1.0)) == camera
