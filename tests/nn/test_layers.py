"""Resampling, convolution and normalisation against slow loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError
from slow_layers import FIR, correlate, each_channel, insert_zeros, pad, slow_up_conv

from pie_jax.nn import layers


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 6, 8, 3)).astype(np.float32), rng.normal(size=(3, 3, 3, 5)).astype(np.float32)


def test_resampling_is_the_filter_of_stylegan2(arrays):
    x, weight = arrays
    fir, upsample, downsample, down_conv, conv = jax.jit(lambda x, weight: (
        layers.fir(x, padding=(2, 1)), layers.upsample(x), layers.downsample(x), layers.down_conv(x, weight),
        layers.conv(x, weight)))(x, weight)
    np.testing.assert_allclose(fir, each_channel(pad(x, 2, 1), FIR), atol=1e-6)
    dilated = np.pad(insert_zeros(x)[:, :-1, :-1], ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(upsample, each_channel(dilated, 4 * FIR), atol=1e-6)
    np.testing.assert_allclose(downsample, each_channel(pad(x, 1, 1), FIR)[:, ::2, ::2], atol=1e-6)
    slow = correlate(each_channel(pad(x, 2, 2), FIR), weight, stride=2)
    np.testing.assert_allclose(down_conv, slow, atol=1e-5)
    np.testing.assert_allclose(conv, correlate(pad(x, 1, 1), weight), atol=1e-5)


def test_up_conv_is_a_transposed_convolution_and_not_upsample_then_convolve(arrays):
    x, weight = arrays
    got, other = jax.jit(lambda x, weight: (
        layers.up_conv(x, weight), layers.conv(layers.upsample(x), weight[::-1, ::-1])))(x, weight)
    np.testing.assert_allclose(got, slow_up_conv(x, weight), atol=1e-5)
    difference = np.abs(np.asarray(got - other))
    assert difference[:, 2:-2, 2:-2].max() < 1e-5 and difference.max() > 0.1


def literal_up_conv(x, weight):
    y = jax.lax.conv_general_dilated(x, weight[::-1, ::-1], (1, 1), [(2, 2), (2, 2)], lhs_dilation=(2, 2),
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return layers.fir(y, padding=(1, 1), gain=4.0)


def test_up_conv_gradients_first_and_second_order(arrays):
    x, weight = (jnp.asarray(a) for a in arrays)

    def energy(up, x, weight):
        return jnp.mean(jnp.square(up(x, weight) - 1.0))

    def penalty(up, x, weight):
        return sum(jnp.sum(jnp.square(g)) for g in jax.grad(energy, argnums=(1, 2))(up, x, weight))

    for function, tolerance in ((energy, 1e-5), (penalty, 1e-4)):
        got, expected = (jax.jit(jax.grad(functools.partial(function, up), argnums=(0, 1)))(x, weight)
                         for up in (layers.up_conv, literal_up_conv))
        for a, b in zip(got, expected):
            np.testing.assert_allclose(a, b, atol=tolerance * float(jnp.abs(b).max()))


def test_up_conv_same_under_jit_and_vmap_without_second_trace(arrays):
    x, weight = arrays
    eager = layers.up_conv(x, weight)
    jitted = jax.jit(layers.up_conv)
    np.testing.assert_allclose(jitted(x, weight), eager, atol=1e-5)
    one_by_one = jax.jit(jax.vmap(lambda one: layers.up_conv(one[None], weight)[0]))(x)
    np.testing.assert_allclose(one_by_one, eager, atol=1e-5)
    jitted(x + 1.0, weight)
    assert jitted._cache_size() == 1


def test_stylegan1_resampling(arrays):
    x, weight = arrays
    slow = correlate(pad(x.repeat(2, axis=1).repeat(2, axis=2), 1, 1), weight)
    np.testing.assert_allclose(jax.jit(layers.nearest_up_conv)(x, weight), slow, atol=1e-5)
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16.0
    np.testing.assert_allclose(jax.jit(layers.binomial_blur)(x), each_channel(pad(x, 1, 1), binomial), atol=1e-6)


def test_instance_norm_and_pixel_norm(arrays):
    x, _ = arrays
    mean, var = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(layers.instance_norm(x, epsilon=1e-2), (x - mean) / np.sqrt(var + 1e-2), atol=1e-5)
    normal = np.asarray(layers.normalize_second_moment(x))
    np.testing.assert_allclose(np.mean(normal**2, axis=-1), 1.0, atol=1e-5)


def test_leaky_relu_values_and_clamp():
    x = jnp.asarray([-10.0, 0.0, 10.0])
    np.testing.assert_allclose(layers.leaky_relu(x), np.sqrt(2) * np.asarray([-2.0, 0.0, 10.0]), rtol=1e-6)
    np.testing.assert_allclose(layers.leaky_relu(x, gain=1.0, clamp=1.5), [-1.5, 0.0, 1.5], rtol=1e-6)


def test_truncate_and_broadcast():
    w = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    w_plus = layers.to_w_plus(w, 3)
    assert w_plus.shape == (2, 3, 2)
    mean = jnp.asarray([1.0, 1.0])
    result = layers.truncate(w_plus, mean, psi=0.5, cutoff=2)
    np.testing.assert_allclose(result[:, :2], 1.0 + 0.5 * (np.asarray(w)[:, None].repeat(2, 1) - 1.0))
    np.testing.assert_allclose(result[:, 2], w)
    np.testing.assert_allclose(layers.truncate(w_plus, mean, psi=0.0), jnp.ones((2, 3, 2)))


def test_equalised_dense_scales_at_run_time():
    module = layers.EqualizedDense(2, gain=3.0, lr_multiplier=0.01, bias_init=1.0)
    x = jnp.asarray([[1.0, 2.0, 3.0, 4.0]])
    weights = module.init(jax.random.key(0), x)["params"]
    assert float(weights["bias"][0]) == pytest.approx(100.0)
    got = module.apply({"params": weights}, x)
    np.testing.assert_allclose(got, np.asarray(x) @ np.asarray(weights["weight"]) * 0.01 * 3 / 2 + 1.0, rtol=1e-5)


def test_conv_1x1_with_stride_is_a_convolution(arrays):
    x, _ = arrays
    for size, stride in ((1, 1), (1, 2), (3, 2)):
        module = layers.Conv(4, size, stride, padding=size // 2, use_bias=True)
        weights = module.init(jax.random.key(0), x)["params"]
        weights = weights | {"bias": jnp.arange(4.0)}
        slow = correlate(pad(x, size // 2, size // 2), np.asarray(weights["kernel"]), stride=stride) + np.arange(4.0)
        np.testing.assert_allclose(module.apply({"params": weights}, x), slow, atol=1e-5)


def test_batch_norm_trains_and_keeps_its_statistics_among_the_weights(arrays):
    x, _ = arrays
    module = layers.BatchNorm()
    weights = module.init(jax.random.key(0), x)["params"]
    assert set(weights) == {"scale", "bias", "mean", "var"}
    np.testing.assert_allclose(module.apply({"params": weights}, x), x / np.sqrt(1 + 1e-5), rtol=1e-5)
    y, sown = module.apply({"params": weights}, x, train=True, mutable=["batch_stats"])
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-5)
    moved = layers.update_batch_stats(weights, sown["batch_stats"], momentum=0.75)
    np.testing.assert_allclose(moved["mean"], 0.25 * flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(moved["var"], 0.75 + 0.25 * flat.var(0, ddof=1), atol=1e-5)
    assert jax.tree.structure(moved) == jax.tree.structure(weights)
    gradient = jax.grad(lambda w: jnp.sum(module.apply({"params": w}, x) ** 2))(weights)
    assert not np.any(gradient["mean"]) and not np.any(gradient["var"]) and np.any(gradient["scale"])


def test_modulated_conv_equals_modulating_the_weights_of_every_sample(arrays):
    x, _ = arrays
    w = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    for up in (False, True):
        x_in = x[:, :6, :6]
        module = layers.ModulatedConv(5, 12 if up else 6, up=up)
        weights = jax.jit(module.init)(jax.random.key(0), x_in, w)["params"]
        rng = np.random.default_rng(2)
        weights = weights | {"bias": rng.normal(size=5).astype(np.float32), "noise_strength": jnp.asarray(0.3)}
        style = w @ np.asarray(weights["affine"]["weight"]) / 2.0 + np.asarray(weights["affine"]["bias"])
        samples = []
        for b in range(2):
            kernel = np.asarray(weights["weight"]) * style[b][None, None, :, None]
            kernel = kernel / np.sqrt(np.sum(kernel**2, axis=(0, 1, 2), keepdims=True) + 1e-8)
            samples.append(slow_up_conv(x_in[b:b + 1], kernel) if up else correlate(pad(x_in[b:b + 1], 1, 1), kernel))
        y = np.concatenate(samples) + 0.3 * np.asarray(weights["noise_const"])[None, :, :, None] + weights["bias"]
        got = jax.jit(module.apply)({"params": weights}, x_in, w)
        np.testing.assert_allclose(got, np.sqrt(2) * np.where(y > 0, y, 0.2 * y), atol=2e-5)


def test_gradients_against_differences():
    """Central differences in float64 through modulation, demodulation, up-sampling and normalisation."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 4)
        x, w = jax.random.normal(keys[0], (1, 3, 3, 2), jnp.float64), jax.random.normal(keys[1], (1, 4), jnp.float64)
        module = layers.ModulatedConv(3, 6, up=True, dtype=jnp.float64)
        weights = jax.tree.map(lambda a: a.astype(jnp.float64), jax.jit(module.init)(keys[2], x, w)["params"])

        @jax.jit
        def energy(w):
            y = layers.instance_norm(module.apply({"params": weights}, x, w).astype(jnp.float64), epsilon=1e-2)
            return jnp.sum(jnp.sin(y))

        @jax.jit
        def smooth(w):
            return jnp.sum(jnp.sin(module.apply({"params": weights}, x, w)))

        direction = jax.random.normal(keys[3], w.shape, jnp.float64)
        for function, tolerance in ((smooth, 1e-6), (energy, 1e-2)):  # instance_norm works in float32
            step = 1e-6 if function is smooth else 1e-3
            numeric = (function(w + step * direction) - function(w - step * direction)) / (2 * step)
            exact = jnp.sum(jax.jit(jax.grad(function))(w) * direction)
            assert float(numeric) == pytest.approx(float(exact), rel=tolerance)


def test_layers_are_hashable_by_value():
    @functools.partial(jax.jit, static_argnames="module")
    def run(weights, x, *, module):
        return module.apply({"params": weights}, x)

    x = jnp.ones((1, 4))
    weights = layers.EqualizedDense(2).init(jax.random.key(0), x)["params"]
    for _ in range(2):
        run(weights, x, module=layers.EqualizedDense(2))
    assert run._cache_size() == 1


def test_a_weight_that_is_missing_or_of_another_shape_is_named(arrays):
    x, weight = arrays
    conv = layers.Conv(5, padding=1, use_bias=True, name="conv1")
    weights = {"kernel": weight, "bias": jnp.zeros(4)}
    with pytest.raises(ScopeParamShapeError, match="bias"):
        conv.apply({"params": weights}, x)
    with pytest.raises(ScopeParamNotFoundError, match="bias"):
        conv.apply({"params": {"kernel": weight}}, x)
