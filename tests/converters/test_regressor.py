"""Deep3DFaceRecon's regressor: the same function as an independent forward pass, and its crop in an FFHQ portrait."""

import argparse

import jax
import numpy as np
import pytest
from torch_or_numpy import batch_norm, conv, float32, kernel, max_pool, norm_tensors, relative, relu, save

from converters import regressor
from converters.readers import read
from pie_jax.config import RegressorConfig
from pie_jax.errors import PackError
from pie_jax.nn.regressor import Regressor
from pie_jax.pack import load_pack

WIDTH = 4
BLOCKS = {"resnet50": ((2, 1, 1, 1), True), "resnet18": ((1, 2, 1, 1), False)}


def tensors_of(kind, seed=0):
    """The state dict of net_recon at a few channels."""
    stages, bottleneck = BLOCKS[kind]
    rng = np.random.default_rng(seed)
    found = {"backbone.conv1.weight": kernel(rng, WIDTH, 3, 7, 7)} | norm_tensors(rng, "backbone.bn1", WIDTH)
    found["backbone.bn1.num_batches_tracked"] = np.int64(7)
    inputs = WIDTH
    for stage, blocks in enumerate(stages):
        n = WIDTH * 2**stage
        outputs = 4 * n if bottleneck else n
        for i in range(blocks):
            at = f"backbone.layer{stage + 1}.{i}"
            sizes = [(n, inputs, 1), (n, n, 3), (outputs, n, 1)] if bottleneck else [(n, inputs, 3), (n, n, 3)]
            for k, (to, come, size) in enumerate(sizes, 1):
                found[f"{at}.conv{k}.weight"] = kernel(rng, to, come, size, size)
                found |= norm_tensors(rng, f"{at}.bn{k}", to)
            if (stage > 0 and i == 0) or inputs != outputs:
                found[f"{at}.downsample.0.weight"] = kernel(rng, outputs, inputs, 1, 1)
                found |= norm_tensors(rng, f"{at}.downsample.1", outputs)
            inputs = outputs
    for i, n in enumerate((80, 64, 80, 3, 27, 2, 1)):
        found[f"final_layers.{i}.weight"] = kernel(rng, n, inputs, 1, 1)
        found[f"final_layers.{i}.bias"] = 0.3 * rng.normal(size=n)
    counter = found.pop("backbone.bn1.num_batches_tracked")
    return float32(found) | {"backbone.bn1.num_batches_tracked": np.array(counter)}


def reference(t, crops_01, kind):
    """theta [B, 257], torchvision's ResNet v1.5 and Deep3D's seven outputs."""
    stages, bottleneck = BLOCKS[kind]
    x = crops_01.transpose(0, 3, 1, 2)
    x = relu(batch_norm(conv(x, t["backbone.conv1.weight"], stride=2, padding=3), t, "backbone.bn1"))
    x = max_pool(x, size=3, padding=1)
    for stage, blocks in enumerate(stages):
        for i in range(blocks):
            at, stride = f"backbone.layer{stage + 1}.{i}", 2 if stage > 0 and i == 0 else 1
            y = x
            for k in range(1, 4 if bottleneck else 3):
                weight = t[f"{at}.conv{k}.weight"]
                steps = stride if k == (2 if bottleneck else 1) else 1
                y = batch_norm(conv(y, weight, stride=steps, padding=weight.shape[2] // 2), t, f"{at}.bn{k}")
                y = relu(y) if k < (3 if bottleneck else 2) else y
            if f"{at}.downsample.0.weight" in t:
                x = batch_norm(conv(x, t[f"{at}.downsample.0.weight"], stride=stride), t, f"{at}.downsample.1")
            x = relu(x + y)
    x = x.mean(axis=(2, 3), keepdims=True)
    outputs = [conv(x, t[f"final_layers.{i}.weight"], t[f"final_layers.{i}.bias"])[:, :, 0, 0] for i in range(7)]
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize("kind, whole", [("resnet50", True), ("resnet18", False)])
def test_same_function(tmp_path, kind, whole):
    tensors = tensors_of(kind)
    file = save(tmp_path / "epoch_20.pth", {"net_recon": tensors, "opt_00": {"state": {}}} if whole else tensors)
    converted = regressor.convert(read(file), argparse.Namespace())
    stages, bottleneck = BLOCKS[kind]
    assert converted.config == RegressorConfig(stage_sizes=stages, bottleneck=bottleneck, width=WIDTH)
    assert converted.table.complete and converted.table.count("left out") == 1
    crops = np.random.default_rng(1).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    got = jax.jit(Regressor(converted.config).apply)({"params": converted.weights}, crops)
    assert relative(got, reference(tensors, crops, kind)) < 1e-4


def test_command_sets_the_camera_and_refuses_others(tmp_path, capsys):
    tensors = tensors_of("resnet18")
    file = save(tmp_path / "epoch_20.pth", {"net_recon": tensors})
    assert regressor.main([str(file), "--pack", str(tmp_path / "pack"), "--name", "ours"]) == 0
    assert "camera" in capsys.readouterr().out
    pack = load_pack(tmp_path / "pack")
    assert pack.name == "ours" and pack.configs.camera == regressor.ffhq_camera()
    broken = dict(tensors)
    broken["final_layers.0.weight"] = broken["final_layers.0.weight"][:79]
    assert regressor.main([str(save(tmp_path / "a.pth", broken)), "--dry-run"]) == 4
    assert "final_layers" in capsys.readouterr().err
    other = save(tmp_path / "b.pth", tensors | {"backbone.fc.weight": np.ones((257, 8), np.float32)})
    with pytest.raises(PackError, match="use_last_fc"):
        regressor.convert(read(other), argparse.Namespace())
    broken = tensors | {"backbone.layer2.0.bn1.running_var": np.full(2 * WIDTH, np.inf, np.float32)}
    assert regressor.main([str(save(tmp_path / "c.pth", broken)), "--dry-run"]) == 4
    assert "layer2.0.bn1.running_var" in capsys.readouterr().err


def test_crop_lies_where_deep3d_would_cut_an_aligned_portrait():
    """Deep3D's five points, placed by FFHQ's rule in a portrait, come out at 102 px a unit around the crop's middle."""
    points = np.array([[-.3115, .2904], [.3098, .2897], [.0033, -.0462], [-.2522, -.3813], [.2485, -.3813]])
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    side = 2 * max(2.0 * np.linalg.norm(points[1] - points[0]), 1.8 * np.linalg.norm(mouth - eyes))
    centre = eyes + 0.1 * (mouth - eyes)
    portrait = np.stack([0.5 + (points[:, 0] - centre[0]) / side, 0.5 - (points[:, 1] - centre[1]) / side], axis=1)
    camera = regressor.ffhq_camera()
    crop = (portrait - [camera.crop_x, camera.crop_y]) / camera.crop_size * 224
    due = np.stack([112 + 102 * points[:, 0], 112 - 102 * points[:, 1]], axis=1)
    assert np.abs(crop - due).max() < 0.3
