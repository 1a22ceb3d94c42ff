"""VGG features: values by loops, what is computed, and the published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import count, run
from slow_layers import correlate, pad

from pie_jax.config import VGGConfig
from pie_jax.nn.vgg import CONVOLUTIONS, VGG, layers_needed, resize

TOY = VGGConfig(width=2, resolution=32, layers=("conv1_2", "conv3_1"), fc_width=5, num_classes=3)


def toy(config):
    shape = (1, config.resolution, config.resolution, 3)
    shapes = jax.eval_shape(VGG(config).init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: (0.3 * rng.normal(size=a.shape)).astype(np.float32), shapes)


def test_features_by_loops():
    weights = toy(TOY)
    images = np.random.default_rng(1).uniform(size=(1, 64, 64, 3)).astype(np.float32)
    got = run(weights, images, module=VGG(TOY))
    assert set(got) == {"conv1_2", "conv3_1", "fc6", "fc7", "fc7_pre", "fc8"}
    x = images.reshape(1, 32, 2, 32, 2, 3).mean(axis=(2, 4)) * 255.0
    x = (x - np.asarray(TOY.mean_rgb)) / np.asarray(TOY.std_rgb)
    for name in CONVOLUTIONS:
        if name.endswith("_1") and name != "conv1_1":
            x = x.reshape(1, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max(axis=(2, 4))
        x = np.maximum(correlate(pad(x, 1, 1), weights[name]["kernel"]) + weights[name]["bias"], 0.0)
        if name in TOY.layers:
            np.testing.assert_allclose(got[name], x, atol=1e-4 * x.max())
    x = x.max(axis=(1, 2))
    x = np.maximum(x @ weights["fc6"]["kernel"][0, 0] + weights["fc6"]["bias"], 0.0)
    before = x @ weights["fc7"]["kernel"] + weights["fc7"]["bias"]
    np.testing.assert_allclose(got["fc7_pre"], before, atol=1e-4 * np.abs(before).max())
    np.testing.assert_allclose(got["fc7"], np.maximum(before, 0.0), atol=1e-4 * np.abs(before).max())
    logits = np.maximum(before, 0.0) @ weights["fc8"]["kernel"] + weights["fc8"]["bias"]
    np.testing.assert_allclose(got["fc8"], logits, atol=1e-4 * np.abs(logits).max())


def test_only_what_is_asked_for_exists():
    config = VGGConfig(width=2, resolution=16, layers=("conv1_1", "conv2_1"))
    weights = toy(config)
    assert tuple(weights) == layers_needed(config) == ("conv1_1", "conv1_2", "conv2_1")
    assert set(run(weights, jnp.zeros((1, 16, 16, 3)), module=VGG(config))) == {"conv1_1", "conv2_1"}
    with pytest.raises(ValueError, match="conv9_1"):
        layers_needed(VGGConfig(layers=("conv9_1",)))


def test_resize_is_the_mean_for_whole_ratios_and_smooth_otherwise():
    images = np.random.default_rng(2).uniform(size=(2, 12, 12, 3)).astype(np.float32)
    means = images.reshape(2, 4, 3, 4, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(resize(images, resolution=4), means, atol=1e-6)
    assert resize(images, resolution=12) is images
    np.testing.assert_allclose(resize(np.full((1, 12, 12, 3), 0.25, np.float32), resolution=8), 0.25, atol=1e-6)


def test_gradient_batch_and_vmap():
    weights = toy(TOY)
    images = np.random.default_rng(3).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    both = run(weights, images, module=VGG(TOY))["fc7"]
    one_by_one = jax.jit(jax.vmap(lambda x: VGG(TOY).apply({"params": weights}, x[None])["fc7"][0]))(images)
    np.testing.assert_allclose(one_by_one, both, atol=1e-4 * np.abs(both).max())
    energy = jax.jit(lambda x: jnp.mean(jnp.square(VGG(TOY).apply({"params": weights}, x)["conv3_1"])))
    gradient = np.asarray(jax.grad(energy)(images))
    step = 1e-3 * gradient / np.abs(gradient).max()
    difference = float(energy(images + step) - energy(images - step)) / 2
    assert difference == pytest.approx(float(np.sum(gradient * step)), rel=2e-2)


def test_published_sizes():
    """138 357 544 in torchvision's vgg16, 145 002 878 in VGG-Face."""
    for classes, expected in ((1000, 138_357_544), (2622, 145_002_878)):
        config = VGGConfig(resolution=224, layers=(), fc_width=4096, num_classes=classes)
        images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        weights = jax.eval_shape(VGG(config).init, jax.random.key(0), images)["params"]
        assert count(weights) == expected
        assert weights["fc6"]["kernel"].shape == (7, 7, 512, 4096)
