"""StyleGAN 1 against a slow numpy generator, and its published size."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import count, run
from slow_layers import correlate, each_channel, pad

from pie_jax.config import GeneratorConfig
from pie_jax.nn.stylegan1 import Mapping, Synthesis

SIZES = {"architecture": "stylegan1", "resolution": 8, "z_dim": 6, "w_dim": 6, "channel_base": 32, "channel_max": 6}
BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16.0


def toy(config):
    w_plus = np.random.default_rng(0).normal(size=(2, config.num_layers, config.w_dim)).astype(np.float32)
    shapes = jax.eval_shape(Synthesis(config).init, jax.random.key(0), w_plus)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes), w_plus


def slow_layer(layer, x, w, config, *, up=False):
    up = up and "weight" in layer  # the constant is neither convolved nor blurred
    if "weight" in layer:
        if up:
            x = x.repeat(2, axis=1).repeat(2, axis=2)
        x = correlate(pad(x, 1, 1), layer["weight"] * math.sqrt(2 / (9 * x.shape[3])))
        x = x + layer["bias"] if up and config.bias_before_blur else x
        x = each_channel(pad(x, 1, 1), BINOMIAL) if up else x
    x = x + layer["noise_const"][None, :, :, None] * layer["noise_strength"]
    x = x if up and config.bias_before_blur else x + layer["bias"]
    x = np.where(x > 0, x, 0.2 * x)
    x = (x - x.mean(axis=(1, 2), keepdims=True)) / np.sqrt(x.var(axis=(1, 2), keepdims=True) + config.instance_norm_eps)
    style = w @ layer["style"]["weight"] / math.sqrt(w.shape[1]) + layer["style"]["bias"]
    channels = x.shape[3]
    return x * (style[:, None, None, :channels] + 1) + style[:, None, None, channels:]


def slow_synthesis(weights, w_plus, config):
    x = np.repeat(weights["b4"]["const"][None], len(w_plus), axis=0)
    for i, size in enumerate(config.block_resolutions):
        x = slow_layer(weights[f"b{size}"]["conv0"], x, w_plus[:, 2 * i], config, up=True)
        x = slow_layer(weights[f"b{size}"]["conv1"], x, w_plus[:, 2 * i + 1], config)
    return x @ weights["torgb"]["weight"][0, 0] / math.sqrt(x.shape[3]) + weights["torgb"]["bias"]


@pytest.mark.parametrize("other", [{}, {"bias_before_blur": True, "instance_norm_eps": 1e-5}])
def test_synthesis_in_both_forms(other):
    config = GeneratorConfig(**SIZES, **other)
    weights, w_plus = toy(config)
    slow = slow_synthesis(weights, w_plus, config)
    got = run(weights, w_plus, module=Synthesis(config))
    np.testing.assert_allclose(got, slow, atol=5e-5 * np.abs(slow).max())


def test_lower_resolution_is_the_mean_and_gradient_is_right():
    config = GeneratorConfig(**SIZES)
    weights, w_plus = toy(config)
    full = run(weights, w_plus, module=Synthesis(config))
    low = run(weights, w_plus, module=Synthesis(config), resolution=4)
    np.testing.assert_allclose(low, np.asarray(full).reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4)), atol=1e-5)

    energy = jax.jit(lambda w: jnp.mean(jnp.square(Synthesis(config).apply({"params": weights}, w))))
    gradient = np.asarray(jax.grad(energy)(w_plus))
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    difference = float(energy(w_plus + step) - energy(w_plus - step)) / 2
    assert difference == pytest.approx(1e-2 * np.linalg.norm(gradient), rel=2e-2)


def test_mapping_has_its_gain_in_the_weights():
    config = GeneratorConfig(**SIZES | {"mapping_layers": 2})
    z = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    weights = Mapping(config).init(jax.random.key(0), z)["params"]
    x = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True) + 1e-8)
    for i in range(2):
        layer = weights[f"fc{i}"]
        x = x @ np.asarray(layer["weight"]) * 0.01 * math.sqrt(2 / 6) + 0.01 * np.asarray(layer["bias"])
        x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(Mapping(config).apply({"params": weights}, z), x, atol=1e-5)


def test_published_size():
    """FFHQ at 1024 px has 26 219 627 with a toRGB at each of nine resolutions (NVlabs/stylegan); one is kept here."""
    config = GeneratorConfig(architecture="stylegan1", channel_base=16384)
    sizes = [jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))["params"]
             for module, shape in ((Mapping(config), (1, 512)), (Synthesis(config), (1, 18, 512)))]
    other_rgb = sum(3 * config.channels(size) + 3 for size in config.block_resolutions[:-1])
    assert sum(count(tree, without=("noise_const",)) for tree in sizes) + other_rgb == 26_219_627


def test_wrong_shapes_are_told():
    config = GeneratorConfig(**SIZES)
    with pytest.raises(ValueError, match="w_plus"):
        Synthesis(config).init(jax.random.key(0), jnp.zeros((1, 5, 6)))
