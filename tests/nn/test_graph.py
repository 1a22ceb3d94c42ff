"""Networks told as lines: each operation against plain arithmetic, and lines that are no operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.config import GraphConfig
from pie_jax.nn.graph import Graph, Operation, depthwise_conv
from pie_jax.nn.layers import apply, initialise

X = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))


def run(*lines, weights=None, x=X):
    config = GraphConfig(resolution=x.shape[1], operations=lines, outputs=(len(lines),))
    return np.asarray(apply(Graph(config), weights or {}, x)[0])


@pytest.mark.parametrize("line,expected", [
    ("1 relu 0", jnp.maximum(X, 0)), ("1 relu6 0", jnp.clip(X, 0, 6)), ("1 sigmoid 0", jax.nn.sigmoid(X)),
    ("1 hard_swish 0", X * jnp.clip(X + 3, 0, 6) / 6), ("1 add 0,0", 2 * X), ("1 multiply 0,0", X * X),
    ("1 scale 0 by=0.25", X / 4), ("1 reshape 0 shape=64x4", X.reshape(2, 64, 4)),
    ("1 concatenate 0,0 axis=3", jnp.concatenate([X, X], 3)),
    ("1 pad 0 pads=0,0,0,1,2,0,0,3", jnp.pad(X, ((0, 0), (0, 1), (2, 0), (0, 3)))),
    ("1 mean_pool 0 kernel=8x8 stride=8x8 padding=valid", X.mean((1, 2), keepdims=True)),
    ("1 max_pool 0 kernel=2x2 stride=2x2 padding=valid", X.reshape(2, 4, 2, 4, 2, 4).max((2, 4))),
    ("1 resize 0 size=16x16", jax.image.resize(X, (2, 16, 16, 4), "linear"))])
def test_operations_without_weights(line, expected):
    np.testing.assert_allclose(run(line), expected, rtol=1e-5, atol=1e-6)


def test_a_convolution_has_the_weights_it_says():
    line = "1 conv 0 kernel=3x3 stride=2x2 features=5 padding=same"
    config = GraphConfig(resolution=8, operations=(line,), outputs=(1,))
    weights = initialise(Graph(config), jax.random.key(1), X)
    assert {name: value.shape for name, value in weights.items()} == {"001_kernel": (3, 3, 4, 5), "001_bias": (5,)}
    kernel, bias = jax.random.normal(jax.random.key(2), (3, 3, 4, 5)), jnp.arange(5.0)
    expected = jax.lax.conv_general_dilated(X, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    found = run(line, weights={"001_kernel": kernel, "001_bias": bias})
    np.testing.assert_allclose(found, expected + bias[None, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_depthwise_is_the_grouped_convolution(strides, padding):
    kernel = jax.random.normal(jax.random.key(3), (3, 3, 4))
    expected = jax.lax.conv_general_dilated(X, kernel[:, :, None], strides, padding, feature_group_count=4,
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(depthwise_conv(X, kernel, strides=strides, padding=padding), expected, rtol=1e-4,
                               atol=1e-5)


def test_blocks_prelu_and_a_transposed_convolution():
    alpha = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(run("1 prelu 0", weights={"001_alpha": alpha}),
                               jnp.where(X >= 0, X, X * alpha[None, None, None]), rtol=1e-6)
    kernel = jax.random.normal(jax.random.key(4), (2, 2, 4, 3))
    found = run("1 conv_transpose 0 kernel=2x2 features=3", weights={"001_kernel": kernel, "001_bias": jnp.zeros(3)})
    assert found.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(found[1, 6, 9], X[1, 3, 4] @ kernel[0, 1], rtol=1e-4, atol=1e-5)


def test_a_crop_turns_and_grows_with_its_points_and_points_come_back():
    image = jnp.broadcast_to(jnp.arange(32.0)[None, None, :, None], (1, 32, 32, 1))  # its value is x
    points = jnp.asarray([[[8.0, 16.0, 1.0], [24.0, 16.0, 2.0], [16.0, 12.0, 0.0], [16.0, 20.0, 0.0]]])
    lines = ("1 reshape 0 shape=32x32x1", "2 crop_matrix 3 left=0 right=1 angle=0.0 scale=1.0 size=4x4 points=0,1,2,3")
    matrix = Operation.parse(lines[1])
    from pie_jax.nn.graph import _PLAIN

    found = _PLAIN["crop_matrix"](matrix, points)
    crop = _PLAIN["crop"](Operation.parse("3 crop 1,2 size=4x4"), image, found)
    np.testing.assert_allclose(crop[0, :, :, 0], np.tile([9.5, 13.5, 17.5, 21.5], (4, 1)), atol=1e-4)
    moved = _PLAIN["move_points"](None, jnp.asarray([[[2.0, 2.0, 7.0]]]), found)
    np.testing.assert_allclose(moved, [[[16.0, 16.0, 7.0]]], atol=1e-4)


def test_lines_come_back_as_they_were():
    line = "12 conv 11 kernel=3x3 stride=2x2 features=24 padding=same"
    assert str(Operation.parse(line)) == line
    with pytest.raises(ValueError):
        Operation.parse("conv")
