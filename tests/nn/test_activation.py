"""The activation that keeps one map: the value, the gradient and the second gradient of the plain one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.config import GeneratorConfig
from pie_jax.nn import stylegan2
from pie_jax.nn.layers import style
from pie_jax.nn.layers.activation import lean_activation


def plain(x, demodulation, noise, strength, bias, gain, clamp):
    z = x * demodulation[:, None, None, :] + noise * strength + bias.reshape(1, 1, 1, -1)
    return style.leaky_relu(z, gain=gain, clamp=clamp)


@pytest.mark.parametrize("clamp", [None, 1.5])
@pytest.mark.parametrize("noises", [1, 2])
def test_it_is_the_plain_one_with_all_its_gradients(noises, clamp):
    keys = jax.random.split(jax.random.key(0), 4)
    arguments = (jax.random.normal(keys[0], (2, 5, 5, 3)), 0.5 + jax.random.uniform(keys[1], (2, 3)),
                 jax.random.normal(keys[2], (noises, 5, 5, 1)), jnp.float32(0.3), jax.random.normal(keys[3], (3,)))
    every = tuple(range(len(arguments)))

    def loss(function):
        return lambda *a: jnp.sum(jnp.sin(function(*a, 1.4, clamp)))

    def curved(function):  # as a regulariser of the generator's slopes has it
        return lambda *a: sum(jnp.sum(jnp.square(g)) for g in jax.grad(loss(function), argnums=(0, 1))(*a))

    for make, tolerance in ((loss, 1e-5), (curved, 1e-4)):
        found, wanted = (jax.jit(jax.value_and_grad(make(function), argnums=every))(*arguments)
                         for function in (lean_activation, plain))
        jax.tree.map(lambda a, b, near=tolerance: np.testing.assert_allclose(a, b, rtol=near, atol=near), found, wanted)


@pytest.mark.parametrize("synthesis", ["skip", "resnet"])
def test_a_block_of_large_maps_takes_less_memory_and_gives_the_same(monkeypatch, synthesis):
    config = GeneratorConfig(resolution=64, w_dim=4, channel_base=512, synthesis=synthesis)
    block = stylegan2.SynthesisBlock(config, 64)
    keys = jax.random.split(jax.random.key(1), 3)
    x, image, w = jax.random.normal(keys[0], (1, 32, 32, 16)), jnp.zeros((1, 32, 32, 3)), jax.random.normal(
        keys[1], (1, 3, 4))
    image = image if synthesis == "skip" else None
    weights, found = jax.jit(block.init)(keys[2], x, image, w), []

    def loss(w, x):
        y, painted = block.apply(weights, x, image, w)
        return jnp.sum(jnp.square(painted)) + jnp.sum(jnp.sin(y))

    for large in (64, 128):
        monkeypatch.setattr(style, "_LARGE", large)
        step = jax.jit(jax.value_and_grad(lambda *a: loss(*a), argnums=(0, 1)))
        found.append((step(w, x), step.lower(w, x).compile().memory_analysis().temp_size_in_bytes))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found[0][0], found[1][0])
    assert found[0][1] < 0.85 * found[1][1]


def test_bfloat16_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(style, "lean_activation", None)
    monkeypatch.setattr(style, "_LARGE", 8)
    layer = style.ModulatedConv(4, resolution=8, dtype=jnp.bfloat16)
    x, w = jnp.ones((1, 8, 8, 4)), jnp.ones((1, 4))
    assert layer.apply(layer.init(jax.random.key(0), x, w), x, w).dtype == jnp.bfloat16
    with pytest.raises(TypeError):
        dataclasses.replace(layer, dtype=jnp.float32).init(jax.random.key(0), x, w)
