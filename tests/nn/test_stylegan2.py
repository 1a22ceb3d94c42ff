"""StyleGAN2 against a slow numpy generator that modulates the weights of every sample, and its published sizes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import count, run
from slow_layers import FIR, correlate, each_channel, insert_zeros, pad, slow_up_conv

from pie_jax.config import GeneratorConfig
from pie_jax.nn.stylegan2 import Discriminator, Mapping, Synthesis, to_w_plus, trainable_mask

CONFIG = GeneratorConfig(resolution=16, z_dim=6, w_dim=6, mapping_layers=2, channel_base=64, channel_max=8)
PUBLISHED = GeneratorConfig()  # config-f, 1024 px


@functools.cache
def toy(config=CONFIG):
    """(weights, w_plus) with every array random, so that none can be left out or swapped unseen."""
    module = Synthesis(config)
    w_plus = np.random.default_rng(0).normal(size=(2, config.num_layers, config.w_dim)).astype(np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), w_plus)["params"]
    rng = np.random.default_rng(1)
    weights = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)
    return weights, w_plus


def slow_layer(layer, x, w, *, up=False, demodulate=True, clamp=None):
    """A modulated layer up to the noise, one sample at a time, with weights scaled as the paper writes it."""
    style = w @ layer["affine"]["weight"] / math.sqrt(w.shape[1]) + layer["affine"]["bias"]
    outputs = []
    for b in range(len(x)):
        kernel = layer["weight"] * style[b][None, None, :, None]
        if demodulate:
            kernel = kernel / np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)) + 1e-8)
        else:
            kernel = kernel / math.sqrt(x.shape[3])
        margin = kernel.shape[0] // 2
        one = x[b:b + 1]
        outputs.append(slow_up_conv(one, kernel) if up else correlate(pad(one, margin, margin), kernel))
    y = np.concatenate(outputs)
    if demodulate:
        y = y + layer["noise_strength"] * layer["noise_const"][None, :, :, None] + layer["bias"]
        y = math.sqrt(2) * np.where(y > 0, y, 0.2 * y)
    else:
        y = y + layer["bias"]
    return y if clamp is None else np.clip(y, -clamp, clamp)


def slow_synthesis(weights, w_plus, *, resolution, clamp=None):
    x = np.repeat(weights["b4"]["const"][None], len(w_plus), axis=0)
    image, size, index = None, 4, 0
    while size <= resolution:
        block = weights[f"b{size}"]
        if size > 4:
            x = slow_layer(block["conv0"], x, w_plus[:, index], up=True, clamp=clamp)
            index += 1
        x = slow_layer(block["conv1"], x, w_plus[:, index], clamp=clamp)
        index += 1
        rgb = slow_layer(block["torgb"], x, w_plus[:, index], demodulate=False, clamp=clamp)
        if image is not None:
            dilated = np.pad(insert_zeros(image)[:, :-1, :-1], ((0, 0), (2, 2), (2, 2), (0, 0)))
            rgb = rgb + each_channel(dilated, 4 * FIR)
        image, size = rgb, 2 * size
    return image


@pytest.mark.parametrize("resolution", [16, 8])
def test_synthesis_and_its_partial_sums(resolution):
    weights, w_plus = toy()
    slow = slow_synthesis(weights, w_plus, resolution=resolution)
    got = run(weights, w_plus, module=Synthesis(CONFIG), resolution=resolution)
    assert got.shape == (2, resolution, resolution, 3)
    np.testing.assert_allclose(got, slow, atol=2e-5 * np.abs(slow).max())


@pytest.mark.parametrize("synthesis", ["skip", "resnet"])
def test_some_of_a_batch_stop_early(synthesis):
    weights, w_plus = toy(dataclasses.replace(CONFIG, synthesis=synthesis))
    module = Synthesis(dataclasses.replace(CONFIG, synthesis=synthesis))
    full, stopped = run(weights, w_plus, module=module, resolution=8, stopping=1)
    np.testing.assert_allclose(full, run(weights, w_plus[:1], module=module), atol=1e-5)
    np.testing.assert_allclose(stopped, run(weights, w_plus[1:], module=module, resolution=8), atol=1e-5)
    with pytest.raises(ValueError, match="stopping"):
        module.apply({"params": weights}, w_plus, resolution=8, stopping=2)


def test_clamp_is_honoured():
    config = GeneratorConfig(resolution=8, z_dim=6, w_dim=6, channel_base=64, channel_max=8, clamp=0.5)
    weights, w_plus = toy(config)
    slow = slow_synthesis(weights, w_plus, resolution=8, clamp=0.5)
    got = run(weights, w_plus, module=Synthesis(config))
    np.testing.assert_allclose(got, slow, atol=2e-5)
    assert np.abs(got - slow_synthesis(weights, w_plus, resolution=8)).max() > 0.1


def test_mapping():
    z = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    for linear in (False, True):
        config = GeneratorConfig(z_dim=6, w_dim=5, mapping_layers=2, mapping_linear_output=linear)
        weights = Mapping(config).init(jax.random.key(0), z)["params"]
        weights["fc0"]["bias"] = np.full(5, 20.0, np.float32)  # a stored bias of 20 is 0.2
        x = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True) + 1e-8)
        for i in range(2):
            layer = weights[f"fc{i}"]
            x = x @ np.asarray(layer["weight"]) * 0.01 / math.sqrt(x.shape[1]) + 0.01 * np.asarray(layer["bias"])
            x = x if linear and i == 1 else math.sqrt(2) * np.where(x > 0, x, 0.2 * x)
        np.testing.assert_allclose(Mapping(config).apply({"params": weights}, z), x, atol=1e-5)


def test_batch_jit_and_vmap_agree_without_second_trace():
    weights, w_plus = toy()
    before = run._cache_size()
    both = run(weights, w_plus, module=Synthesis(CONFIG))
    run(weights, w_plus + 1.0, module=Synthesis(GeneratorConfig(**vars(CONFIG))))
    assert run._cache_size() <= before + 1
    np.testing.assert_allclose(Synthesis(CONFIG).apply({"params": weights}, w_plus), both, atol=1e-4)
    one_by_one = jax.jit(jax.vmap(lambda w: Synthesis(CONFIG).apply({"params": weights}, w[None])[0]))(w_plus)
    np.testing.assert_allclose(one_by_one, both, atol=1e-4)


def test_gradients_to_the_latent_and_to_the_weights():
    weights, w_plus = toy()
    target = np.random.default_rng(3).normal(size=(2, 16, 16, 3)).astype(np.float32)

    @jax.jit
    def energy(weights, w_plus):
        image = Synthesis(CONFIG).apply({"params": weights}, w_plus)
        return jnp.mean(jnp.square(image - target))

    g_weights, g_latent = jax.jit(jax.grad(energy, argnums=(0, 1)))(weights, w_plus)
    rng = np.random.default_rng(4)
    for argument, gradient in ((1, g_latent), (0, g_weights)):
        # along the gradient, where a float32 difference means something; noise buffers stay
        moved = jax.tree.map(lambda g: np.asarray(g) * (0.5 + rng.uniform(size=g.shape)).astype(np.float32), gradient)
        size = math.sqrt(sum(float(np.sum(m**2)) for m in jax.tree.leaves(moved)))
        values = []
        for sign in (1, -1):
            at = [weights, w_plus]
            at[argument] = jax.tree.map(lambda a, m, s=sign * 1e-2 / size: a + s * m, at[argument], moved)
            values.append(float(energy(*at)))
        exact = sum(float(np.sum(np.asarray(g) * m)) for g, m in zip(*map(jax.tree.leaves, (gradient, moved)))) / size
        assert (values[0] - values[1]) / 2e-2 == pytest.approx(exact, rel=2e-2)
    for block in g_weights.values():
        for name in ("conv0", "conv1"):
            assert name not in block or not np.any(block[name]["noise_const"])
    mask = trainable_mask(weights)
    assert mask["b8"]["conv0"]["noise_const"] is False and mask["b8"]["conv0"]["noise_strength"] is True


def test_fresh_noise_and_bfloat16():
    weights, w_plus = toy()
    module = Synthesis(CONFIG)
    apply = jax.jit(lambda w_plus, key: module.apply({"params": weights}, w_plus, noise_key=key))
    a, b = apply(w_plus, jax.random.key(0)), apply(w_plus, jax.random.key(1))
    assert np.abs(a - b).max() > 1e-2
    exact = run(weights, w_plus, module=module)
    rough = run(weights, w_plus, module=Synthesis(CONFIG, jnp.bfloat16))
    assert rough.dtype == jnp.float32
    assert np.sqrt(np.mean((rough - exact) ** 2)) < 0.03 * np.std(exact)


def test_discriminator_groups_and_r1():
    module = Discriminator(CONFIG)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    weights = jax.jit(module.init)(jax.random.key(1), images)["params"]
    logits = run(weights, images, module=module)
    assert logits.shape == (4,)
    same = run(weights, jnp.broadcast_to(images[:1], images.shape), module=module)
    np.testing.assert_allclose(same, same[0], rtol=1e-4)
    assert abs(float(same[0] - logits[0])) > 1e-4  # the deviation of the batch is seen

    def penalty(weights):
        slope = jax.grad(lambda x: jnp.sum(module.apply({"params": weights}, x)))(images)
        return jnp.mean(jnp.sum(jnp.square(slope), axis=(1, 2, 3)))

    gradient = jax.jit(jax.grad(penalty))(weights)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert np.any(gradient["b16_conv0"]["weight"])


def test_published_sizes():
    """config-f at 1024 px: 30 370 060 in the generator, 29 012 513 in the discriminator (NVlabs/stylegan2)."""
    def shapes(module, *shape):
        return jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))["params"]

    synthesis = shapes(Synthesis(PUBLISHED), 1, 18, 512)
    mapping = count(shapes(Mapping(PUBLISHED), 1, 512))
    assert mapping + count(synthesis, without=("noise_const",)) == 30_370_060
    assert count(shapes(Discriminator(PUBLISHED), 4, 1024, 1024, 3)) == 29_012_513
    assert synthesis["b1024"]["conv0"]["weight"].shape == (3, 3, 64, 32)


def test_wrong_shapes_are_told():
    weights, w_plus = toy()
    with pytest.raises(ValueError, match="w_plus"):
        Synthesis(CONFIG).apply({"params": weights}, w_plus[:, 1:])
    with pytest.raises(ValueError, match="resolution"):
        Synthesis(CONFIG).apply({"params": weights}, w_plus, resolution=32)
    assert to_w_plus(jnp.zeros((2, 6)), 4).shape == (2, 4, 6)
