"""Layers of the StyleGAN family: equalised dense and convolution, modulation, normalisation, truncation.

Sources: StyleGAN2 (arXiv 1912.04958); semantics of NVlabs/stylegan2-ada-pytorch, `training/networks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.nn.layers.activation import lean_activation
from pie_jax.nn.layers.convolution import conv
from pie_jax.nn.layers.precompute import precomputed, precomputed_conv, precomputed_up_conv
from pie_jax.nn.layers.resampling import down_conv, downsample
from pie_jax.nn.layers.weight import weight_of

SQRT2 = math.sqrt(2.0)
_LARGE = 512  # px of a map from which fewer maps are kept; below it a search's results stay what they were, bit for bit


def normalize_second_moment(x: Array, *, epsilon: float = 1e-8) -> jax.Array:
    """x [..., D] divided by its root mean square over D ("pixel norm", arXiv 1710.10196, section 4.2)."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)


def leaky_relu(x: Array, *, gain: float = SQRT2, clamp: float | None = None) -> jax.Array:
    """gain * max(x, 0.2 x), then clamped to +-clamp when that is set."""
    y = jnp.where(x >= 0, gain * x, (0.2 * gain) * x)
    return y if clamp is None else jnp.clip(y, -clamp, clamp)


def instance_norm(x: Array, *, epsilon: float) -> jax.Array:
    """x [B, H, W, C] with mean 0 and deviation 1 over its pixels, each channel by itself; statistics in float32."""
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, axis=(1, 2), keepdims=True)
    return (y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=(1, 2), keepdims=True) + epsilon)).astype(x.dtype)


def to_w_plus(w: Array, num_layers: int) -> jax.Array:
    """w [..., D] repeated for every style layer: [..., L, D]."""
    return jnp.broadcast_to(w[..., None, :], (*w.shape[:-1], num_layers, w.shape[-1]))


def truncate(w_plus: Array, w_mean: Array, *, psi: float, cutoff: int | None = None) -> jax.Array:
    """w_mean + psi (w_plus - w_mean) on the layers below `cutoff` (all when None); arXiv 1812.04948, appendix B."""
    mean = jnp.reshape(w_mean, (1,) * (w_plus.ndim - 1) + (-1,))
    below = jnp.arange(w_plus.shape[-2]) < (w_plus.shape[-2] if cutoff is None else cutoff)
    return mean + jnp.reshape(jnp.where(below, psi, 1.0), (1,) * (w_plus.ndim - 2) + (-1, 1)) * (w_plus - mean)


def scaled_normal(scale: float) -> Callable[..., Array]:
    """Initialiser N(0, scale^2)."""
    return nn.initializers.normal(scale)


class EqualizedDense(nn.Module):
    """x [..., I] -> [..., O]; weight [I, O], bias [O] (starts at `bias_init`), both scaled at run time."""

    features: int
    gain: float = 1.0
    lr_multiplier: float = 1.0
    bias_init: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        fan_in = x.shape[-1]
        weight = weight_of(self, "weight", scaled_normal(1.0 / self.lr_multiplier), (fan_in, self.features))
        bias = weight_of(self, "bias", nn.initializers.constant(self.bias_init / self.lr_multiplier), (self.features,))
        # The scale goes on the output, which is smaller than the weights.
        y = jnp.matmul(x, weight) * (self.gain * self.lr_multiplier / math.sqrt(fan_in))
        return y + (bias * self.lr_multiplier).reshape((1,) * (y.ndim - 1) + (-1,))


class EqualizedConv(nn.Module):
    """kxk convolution with run-time scale 1/sqrt(fan_in), optional bias, activation and FIR down-sampling by 2."""

    features: int
    kernel_size: int = 3
    down: bool = False
    use_bias: bool = True
    activate: bool = True
    gain: float = 1.0
    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        k, channels = self.kernel_size, x.shape[-1]
        weight = weight_of(self, "weight", scaled_normal(1.0), (k, k, channels, self.features))
        weight = (weight * (1.0 / math.sqrt(k * k * channels))).astype(self.dtype)
        x = x.astype(self.dtype)
        if k == 1:
            x = jnp.matmul(downsample(x) if self.down else x, weight[0, 0])
        else:
            x = down_conv(x, weight) if self.down else conv(x, weight)
        if self.use_bias:
            bias = weight_of(self, "bias", nn.initializers.zeros, (self.features,))
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        clamp = None if self.clamp is None else self.clamp * self.gain
        if self.activate:
            return leaky_relu(x, gain=SQRT2 * self.gain, clamp=clamp)
        return x if self.gain == 1.0 else x * self.gain


class ModulatedConv(nn.Module):
    """Style-modulated 3x3 convolution with demodulation, noise, bias and leaky ReLU (arXiv 1912.04958, figure 2).

    Weights: weight [3, 3, I, O], bias [O], noise_strength [], noise_const [R, R] (a buffer: its gradient is
    zero), affine/weight [D, I], affine/bias [I] (starts at 1). `up` doubles the resolution; `gain` scales the output
    and its clamp (residual blocks).
    """

    features: int
    resolution: int  # of the output
    up: bool = False
    gain: float = 1.0
    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array, noise: Array | None = None) -> jax.Array:
        """x [B, H, W, I], w [B, D], noise [B or 1, R, R, 1] instead of the stored one -> [B, R, R, O]."""
        channels = x.shape[-1]
        weight = weight_of(self, "weight", scaled_normal(1.0), (3, 3, channels, self.features))
        bias = weight_of(self, "bias", nn.initializers.zeros, (self.features,))
        strength = weight_of(self, "noise_strength", nn.initializers.zeros, ())
        const = weight_of(self, "noise_const", scaled_normal(1.0), (self.resolution, self.resolution))
        style = EqualizedDense(channels, bias_init=1.0, name="affine")(w)

        def power():
            return jnp.sum(jnp.square(weight), axis=(0, 1))

        # The run-time scale 1/sqrt(9 I) of the weight sits on the styles. It cancels in the demodulation.
        style = style * (1.0 / math.sqrt(9 * channels))
        known = precomputed(self, "power", power)
        demodulation = jax.lax.rsqrt(
            jnp.matmul(jnp.square(style), power() if known is None else known) + 1e-8 / (9 * channels))
        # The convolution alone is in `dtype`; what is done to each of its pixels has the styles' type.
        x = (x * style[:, None, None, :]).astype(self.dtype)
        convolve = precomputed_up_conv if self.up else precomputed_conv
        x = convolve(self, x, weight.astype(self.dtype), weight)
        added: Array = jax.lax.stop_gradient(const)[None, :, :, None] if noise is None else noise
        gain, clamp = SQRT2 * self.gain, None if self.clamp is None else self.clamp * self.gain
        if self.resolution >= _LARGE and self.dtype == jnp.float32:
            return lean_activation(x, demodulation, added, strength, bias, gain, clamp)
        x = x * demodulation[:, None, None, :]
        x = x + added * strength.reshape(1, 1, 1, 1) + bias.reshape(1, 1, 1, -1)
        return leaky_relu(x, gain=gain, clamp=clamp).astype(self.dtype)


class ToRGB(nn.Module):
    """Style-modulated 1x1 convolution to RGB, no demodulation; weight [1, 1, C, 3], bias [3], affine as above."""

    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array) -> jax.Array:
        """x [B, H, W, C], w [B, D] -> [B, H, W, 3] float32."""
        batch, height, width, channels = x.shape
        weight = weight_of(self, "weight", scaled_normal(1.0), (1, 1, channels, 3))
        bias = weight_of(self, "bias", nn.initializers.zeros, (3,))
        style = EqualizedDense(channels, bias_init=1.0, name="affine")(w) * (1.0 / math.sqrt(channels))
        # Modulating the tiny [C, 3] matrix saves a pass over the activations.
        kernel = (style[:, :, None] * weight[0]).astype(self.dtype)
        rgb = jnp.einsum("bnc,bcd->bnd", x.reshape(batch, height * width, channels), kernel,
                         preferred_element_type=jnp.float32)
        rgb = rgb.reshape(batch, height, width, 3) + bias.reshape(1, 1, 1, 3)
        return rgb if self.clamp is None else jnp.clip(rgb, -self.clamp, self.clamp)
