"""The forms of a convolution and what frozen weights keep: the same function and gradient as the plain one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_layers import correlate, pad

from pie_jax.bounds import committed_bounds
from pie_jax.nn import layers
from pie_jax.nn.layers import convolution, fused_upsample, winograd
from pie_jax.runtime import Backend, made_for

ONE_THREAD = Backend(platform="cpu", bounds=committed_bounds(1, shares_products=True))


def close(a, b, tolerance=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance), a, b)


def value_and_gradient(function, *arguments):
    """Of a loss that is not linear in the output."""
    return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(function(*a))), argnums=tuple(range(len(arguments)))))(
        *arguments)


@pytest.mark.parametrize("side, stride", [(1, 1), (2, 1), (4, 2), (3, 1), (5, 2)])
def test_tiny_maps_are_convolved_by_a_dot(side, stride):
    keys = jax.random.split(jax.random.key(0), 2)
    x, weight = jax.random.normal(keys[0], (2, side, side, 3)), jax.random.normal(keys[1], (3, 3, 3, 4))
    np.testing.assert_allclose(layers.conv(x, weight, stride=stride),
                               correlate(pad(np.asarray(x), 1, 1), np.asarray(weight), stride=stride), atol=1e-5)

    def plain(x, weight):
        return jax.lax.conv_general_dilated(x, weight, (stride, stride), [(1, 1)] * 2, dimension_numbers=(
            "NHWC", "HWIO", "NHWC"))

    close(value_and_gradient(lambda *a: layers.conv(*a, stride=stride), x, weight),
          value_and_gradient(plain, x, weight))


@pytest.mark.parametrize("size, padding", [(3, 1), (3, (2, 0)), (1, 0), (5, (1, 3))])
def test_the_stored_kernel_gives_the_gradient(size, padding):
    keys = jax.random.split(jax.random.key(1), 2)
    x, weight = jax.random.normal(keys[0], (2, 6, 6, 3)), jax.random.normal(keys[1], (size, size, 3, 4))
    adjoint = layers.adjoint_kernel(weight)
    close(value_and_gradient(lambda *a: layers.conv(*a, padding=padding, adjoint=adjoint), x, weight),
          value_and_gradient(lambda *a: layers.conv(*a, padding=padding), x, weight))


@pytest.mark.parametrize("size", [3, 7])
def test_a_strided_convolution_on_blocks(size):
    keys = jax.random.split(jax.random.key(2), 2)
    x, weight = jax.random.normal(keys[0], (1, 8, 12, 3)), jax.random.normal(keys[1], (size, size, 3, 4))
    y = layers.conv(convolution.space_to_depth(x), convolution.space_to_depth_kernel(weight),
                    padding=convolution.space_to_depth_padding(size))
    np.testing.assert_allclose(
        y, correlate(pad(np.asarray(x), size // 2, size // 2), np.asarray(weight), stride=2), atol=2e-5)


def test_strips_keep_no_memory_from_the_forward_pass_to_the_backward_pass():
    """XLA would share the zeros that all such loops begin with, and keep them as long as any of them is to come."""
    x, weight = jnp.ones((1, 256, 256, 32)), jnp.ones((3, 3, 32, 32))
    assert x.size > 2 * winograd._STRIP
    kernels = winograd.winograd_kernels(weight)

    def loss(x):
        return jnp.sum(jnp.sin(winograd.winograd_conv(jnp.sin(winograd.winograd_conv(x, weight, kernels)), weight,
                                                      kernels)))

    temporary = jax.jit(jax.grad(loss)).lower(x).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 3.6 * x.nbytes


class Net(nn.Module):
    """One layer of each kind that keeps something."""

    @nn.compact
    def __call__(self, x, w):
        x = layers.Conv(4, 7, 2, padding=3, name="strided")(x)
        x = layers.Conv(4, padding=1, name="plain")(x)
        x = layers.ModulatedConv(5, 14, name="same")(x, w)
        return layers.ModulatedConv(3, 28, up=True, name="up")(x, w)


def test_a_frozen_network_is_the_same_function():
    keys = jax.random.split(jax.random.key(3), 3)
    x, w = jax.random.normal(keys[0], (2, 28, 28, 3)), jax.random.normal(keys[1], (2, 6))
    weights = jax.jit(Net().init)(keys[2], x, w)
    assert set(weights) == {"params"}  # nothing is kept of weights that may still move
    with made_for(ONE_THREAD):
        values = jax.jit(lambda p: layers.precompute(Net(), p, x, w))(weights["params"])
    assert set(values) == {"strided", "plain", "same", "up"} and set(values["same"]) == {"power", "adjoint"}
    assert set(values["up"]) == {"power", "fused_upsample"}
    with made_for(ONE_THREAD):
        found = value_and_gradient(lambda x, w: Net().apply({**weights, "precomputed": values}, x, w), x, w)
    close(found, value_and_gradient(lambda x, w: Net().apply(weights, x, w), x, w))
    dense = {"weight": jnp.ones((4, 2)), "bias": jnp.ones(2)}
    assert layers.precompute(layers.EqualizedDense(2), dense, jnp.ones((1, 4))) == {}


@pytest.mark.parametrize("height, width, strip", [(8, 8, 2**19), (9, 13, 2**19), (21, 13, 500)])
def test_winograd_is_the_same_convolution(height, width, strip, monkeypatch):
    monkeypatch.setattr(winograd, "_STRIP", strip)
    keys = jax.random.split(jax.random.key(4), 2)
    x = jax.random.normal(keys[0], (2, height, width, 5))
    weight = jax.random.normal(keys[1], (3, 3, 5, 6)) / 7
    kernels = winograd.winograd_kernels(weight)
    np.testing.assert_allclose(jax.jit(winograd.winograd_conv)(x, weight, kernels),
                               correlate(pad(np.asarray(x), 1, 1), np.asarray(weight)), atol=2e-5)
    close(value_and_gradient(lambda *a: winograd.winograd_conv(*a, kernels), x, weight),
          value_and_gradient(layers.conv, x, weight), 1e-4)


def test_an_up_convolution_with_its_filter_in_the_kernel():
    keys = jax.random.split(jax.random.key(6), 2)
    x, weight = jax.random.normal(keys[0], (2, 5, 7, 4)), jax.random.normal(keys[1], (3, 3, 4, 3)) / 6
    kernels = fused_upsample.fused_upsample_kernels(weight)
    close(value_and_gradient(lambda *a: fused_upsample.fused_up_conv(*a, kernels), x, weight),
          value_and_gradient(layers.up_conv, x, weight), 1e-4)


def test_the_filter_is_in_the_kernel_where_it_pays():
    few, map_ = np.zeros((3, 3, 64, 16)), (2, 32, 32, 64)
    for shares, threads, pays in ((True, 1, True), (True, 64, True), (False, 2, True), (False, 3, False)):
        bounds = committed_bounds(threads, shares_products=shares)
        assert fused_upsample.should_fuse_upsample(map_, few, bounds) is pays
        assert not fused_upsample.should_fuse_upsample(map_, np.zeros((3, 3, 64, 32)), bounds)
        assert not fused_upsample.should_fuse_upsample((2, 8, 8, 64), few, bounds)
    wide = layers.ModulatedConv(32, 32, up=True)
    styles = jnp.ones((2, 6))
    x = jnp.ones((2, 16, 16, 4))
    weights = jax.jit(wide.init)(jax.random.key(7), x, styles)["params"]
    assert set(layers.precompute(wide, weights, x, styles)) == {"power", "kernels"}


def test_winograd_is_used_where_it_pays():
    def weight(inputs, outputs):
        return np.zeros((3, 3, inputs, outputs))

    for shares, threads, wide, narrow, large in ((True, 1, True, True, True), (False, 1, True, True, True),
                                                 (True, 2, True, True, False), (False, 2, True, True, False),
                                                 (True, 64, True, True, False), (False, 64, False, False, False)):
        bounds = committed_bounds(threads, shares_products=shares)
        for shape, kernel, expected in (((1, 14, 14, 512), weight(512, 512), wide),
                                        ((2, 112, 112, 128), weight(128, 128), wide),
                                        ((1, 64, 64, 64), weight(64, 32), narrow),
                                        ((1, 224, 224, 64), weight(64, 64), narrow),
                                        ((1, 1024, 1024, 32), weight(32, 32), large),
                                        ((1, 8, 8, 512), weight(512, 512), False),  # too few tiles
                                        ((1, 64, 64, 16), weight(16, 16), False),
                                        ((1, 64, 64, 128), np.zeros((1, 1, 128, 128)), False)):
            assert winograd.should_use_winograd(shape, kernel, bounds) is expected
    x, weight = jnp.ones((1, 14, 14, 128)), jax.random.normal(jax.random.key(5), (3, 3, 128, 128)) / 30
    net = layers.Conv(128, padding=1)
    with made_for(ONE_THREAD):
        values = jax.jit(lambda: layers.precompute(net, {"kernel": weight}, x))()
        found = net.apply({"params": {"kernel": weight}, "precomputed": values}, x)
    assert set(values) == {"winograd"}
    close(found, layers.conv(x, weight), 2e-4)


@pytest.mark.parametrize("channels, features, run", [(16, 16, 2), (3, 16, 4), (16, 3, 4), (24, 16, 1), (3, 64, 1)])
def test_few_channels_are_convolved_in_runs_of_pixels(channels, features, run):
    pads = ((1, 1), (1, 1))
    assert convolution.run_length((1, 8, 32, channels), (3, 3, channels, features), pads) == run
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 8, 32, channels))
    weight = jax.random.normal(keys[1], (3, 3, channels, features))
    plain = jax.jit(lambda *a: jax.lax.conv_general_dilated(*a, (1, 1), pads, dimension_numbers=(
        "NHWC", "HWIO", "NHWC")))
    close(convolution.conv_runs(x, weight, pads, run=run), plain(x, weight), 5e-5)
    close(value_and_gradient(lambda x: layers.conv(x, weight, adjoint=layers.adjoint_kernel(weight)), x),
          value_and_gradient(lambda x: plain(x, weight), x), 5e-4)
