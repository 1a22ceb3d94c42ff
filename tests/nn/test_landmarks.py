"""Heat maps: the building blocks, sub-pixel maxima with their gradients, and the size of the public network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from networks import count, run
from slow_layers import correlate, pad

from pie_jax.config import LandmarkConfig
from pie_jax.nn import landmarks
from pie_jax.nn.landmarks import FROM_68, ConvBlock, HourGlass, LandmarkNet, update_batch_stats
from pie_jax.nn.layers import initialise

soft_argmax = jax.jit(landmarks.soft_argmax)
TOY = LandmarkConfig(stacks=2, width=8, depth=2, resolution=32)


def bumps(points, *, size, sigma):
    """points [B, K, 2] in pixels -> Gaussian heat maps [B, size, size, K]; pixel centres at + 0.5."""
    centres = np.arange(size) + 0.5
    x = (centres[None, None, :, None] - points[:, None, None, :, 0]) / sigma
    y = (centres[None, :, None, None] - points[:, None, None, :, 1]) / sigma
    return np.exp(-0.5 * (x**2 + y**2)).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
def test_soft_argmax_finds_gaussians_between_pixels(sigma):
    rng = np.random.default_rng(0)
    points = rng.uniform(4, 12, size=(2, 66, 2))
    found = 16 * np.asarray(soft_argmax(bumps(points, size=16, sigma=sigma)))
    assert np.abs(found - points).max() < 0.05
    noisy = bumps(points, size=16, sigma=sigma) + 0.01 * rng.normal(size=(2, 16, 16, 66)).astype(np.float32)
    assert np.abs(16 * np.asarray(soft_argmax(noisy)) - points).mean() < 0.06


def test_soft_argmax_of_another_aspect_and_of_nothing():
    points = np.asarray([[[3.5, 6.25]]])
    maps = np.pad(bumps(points, size=10, sigma=1.0), ((0, 0), (0, 0), (0, 10), (0, 0)))
    np.testing.assert_allclose(soft_argmax(maps)[0, 0], [3.5 / 20, 6.25 / 10], atol=2e-3)
    empty = jnp.full((1, 8, 8, 2), -1.0).at[0, 5, 3, 0].set(-0.5)
    np.testing.assert_allclose(soft_argmax(empty)[0], [[3.5 / 8, 5.5 / 8], [0.5 / 8, 0.5 / 8]])
    gradient = jax.jit(jax.grad(lambda h: jnp.sum(soft_argmax(h))))(empty)
    assert not np.any(gradient)


def test_soft_argmax_follows_a_moving_bump():
    points = np.asarray([[[6.3, 7.8]]])

    def found(shift):
        centres = jnp.arange(16) + 0.5
        x, y = (centres - points[0, 0, 0] - shift)[None, :], (centres - points[0, 0, 1])[:, None]
        return 16 * soft_argmax(jnp.exp(-0.5 * (x**2 + y**2))[None, :, :, None])[0, 0]

    slope = jax.jit(jax.jacfwd(found))(jnp.asarray(0.0))
    np.testing.assert_allclose(slope, [1.0, 0.0], atol=0.02)


def normalised(layer, x):
    return np.maximum((x - layer["mean"]) / np.sqrt(layer["var"] + 1e-5) * layer["scale"] + layer["bias"], 0.0)


def slow_block(weights, x):
    y, outputs = x, []
    for i in (1, 2, 3):
        y = correlate(pad(normalised(weights[f"bn{i}"], y), 1, 1), weights[f"conv{i}"]["kernel"])
        outputs.append(y)
    if "downsample_conv" in weights:
        x = correlate(normalised(weights["downsample_bn"], x), weights["downsample_conv"]["kernel"])
    return np.concatenate(outputs, axis=3) + x


def random_weights(module, *inputs):
    shapes = jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x, False), *inputs)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.uniform(-0.5, 0.9, size=a.shape).astype(np.float32) ** 2 + 0.1, shapes)


def test_block_and_hourglass_by_loops():
    x = np.random.default_rng(1).normal(size=(1, 4, 4, 4)).astype(np.float32)
    weights = random_weights(ConvBlock(8), x)
    expected = slow_block(weights, x)
    got = ConvBlock(8).apply({"params": weights}, x, False)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())

    weights = random_weights(HourGlass(2, 4), x)

    def hourglass(level, x):
        side = slow_block(weights[f"b1_{level}"], x)
        n = x.shape[1] // 2
        x = slow_block(weights[f"b2_{level}"], x.reshape(1, n, 2, n, 2, -1).mean(axis=(2, 4)))
        x = hourglass(level - 1, x) if level > 1 else slow_block(weights["b2_plus_1"], x)
        return side + slow_block(weights[f"b3_{level}"], x).repeat(2, axis=1).repeat(2, axis=2)

    expected = hourglass(2, x)
    got = jax.jit(lambda w, x: HourGlass(2, 4).apply({"params": w}, x, False))(weights, x)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_network_trains_and_keeps_one_tree():
    crops = np.random.default_rng(2).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    network = LandmarkNet(dataclasses.replace(TOY, depth=1))
    shapes = jax.eval_shape(lambda key: initialise(network, key, crops), jax.random.key(0))
    weights = toy.random_weights(jax.random.key(0), shapes)
    maps = run(weights, crops, module=network)
    assert [m.shape for m in maps] == [(2, 8, 8, 66)] * 2

    def energy(weights):
        maps, sown = network.apply({"params": weights}, crops, train=True, mutable=["batch_stats"])
        return sum(jnp.mean(jnp.square(m - 1.0)) for m in maps), sown["batch_stats"]

    gradient, batch_stats = jax.jit(jax.grad(energy, has_aux=True))(weights)
    moved = update_batch_stats(weights, batch_stats)
    assert jax.tree.structure(moved) == jax.tree.structure(weights)
    assert np.any(gradient["m0"]["b2_plus_1"]["conv1"]["kernel"]) and not np.any(gradient["bn1"]["mean"])
    one_by_one = jax.jit(jax.vmap(lambda x: network.apply({"params": weights}, x[None])[-1][0]))(crops)
    np.testing.assert_allclose(one_by_one, maps[-1], atol=1e-4 * np.abs(maps[-1]).max())


def test_public_network():
    """2DFAN-4 has 23 820 176 weights and 68 points, of which the project's 66 come back."""
    network = LandmarkNet(LandmarkConfig(num_points=68))
    crops = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    weights = jax.eval_shape(network.init, jax.random.key(0), crops)["params"]
    assert count(weights, without=("mean", "var")) == 23_820_176
    assert weights["l3"]["kernel"].shape == (1, 1, 256, 68)
    maps = jax.eval_shape(lambda w, x: network.apply({"params": w}, x), weights, crops)
    assert [m.shape for m in maps] == [(1, 64, 64, 66)] * 4
    assert len(FROM_68) == 66 and 60 not in FROM_68 and 64 not in FROM_68


def test_wrong_size_is_told():
    with pytest.raises(ValueError, match="multiples of 16"):
        LandmarkNet(TOY).init(jax.random.key(0), jnp.zeros((1, 24, 24, 3)))
