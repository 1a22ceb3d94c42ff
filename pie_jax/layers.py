"""Layers of the StyleGAN family (equalised dense and convolution, FIR resampling, modulation) and of plain networks.

Conventions, told once:

- Activations are NHWC, convolution weights HWIO, dense weights [in, out].
- `weight` is stored WITHOUT its run-time scale (equalised learning rate, arXiv 1710.10196): the layer
  multiplies by `gain * lr_multiplier / sqrt(fan_in)`, as the official StyleGAN networks do, so a checkpoint
  converts by transposition alone.
- Modulation scales the *activations*, and demodulation the outputs: the same function as modulating the
  weights of every sample (arXiv 1912.04958, equations 1-3), 4 to 13 times faster than a grouped convolution.
- FIR resampling is separable sums of shifted slices; nothing here is a depthwise convolution.
- `Conv` and `BatchNorm` at the end are the ordinary kind; their arrays are `kernel`, `bias`, `scale`, `mean`, `var`.
- `dtype` is the type of activations and of the multiplied weights; styles, demodulation and noise are float32.

Sources: StyleGAN2 (arXiv 1912.04958); semantics of NVlabs/stylegan2-ada-pytorch, `training/networks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights

SQRT2 = math.sqrt(2.0)
FIR = (1.0, 3.0, 3.0, 1.0)  # the resampling filter of StyleGAN2, unnormalised

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def normalize_second_moment(x: Array, *, epsilon: float = 1e-8) -> jax.Array:
    """x [..., D] divided by its root mean square over D ("pixel norm", arXiv 1710.10196, section 4.2)."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)


def leaky_relu(x: Array, *, gain: float = SQRT2, clamp: float | None = None) -> jax.Array:
    """gain * max(x, 0.2 x), then clamped to +-clamp when that is set."""
    y = jnp.where(x >= 0, gain * x, (0.2 * gain) * x)
    return y if clamp is None else jnp.clip(y, -clamp, clamp)


def conv(x: Array, weight: Array, *, padding: int | tuple[int, int] = 1, stride: int = 1) -> jax.Array:
    """Cross-correlation of x [B, H, W, I] with weight [kh, kw, I, O], zero padded by `padding` pixels on each side."""
    pad = (padding, padding) if isinstance(padding, int) else padding
    return jax.lax.conv_general_dilated(x, weight, (stride, stride), [pad, pad], dimension_numbers=_DIMENSIONS)


def _pad2d(x: Array, low: int, high: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))


def _fir_axis(x: Array, axis: int, gain: float) -> jax.Array:
    """[1, 3, 3, 1] / 8 * gain along one axis, without padding: the result is 3 shorter."""
    n = x.shape[axis] - 3
    a, b, c, d = (jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(4))
    return (a + d) * (gain / 8.0) + (b + c) * (3.0 * gain / 8.0)


def fir(x: Array, *, padding: tuple[int, int] = (1, 1), gain: float = 1.0) -> jax.Array:
    """x [B, H, W, C] filtered by outer([1, 3, 3, 1]) / 64 * gain, zero padded; H' = H + sum(padding) - 3."""
    x = _pad2d(x, *padding)
    return _fir_axis(_fir_axis(x, 1, math.sqrt(gain)), 2, math.sqrt(gain))


def _interleave(even: Array, odd: Array, axis: int) -> jax.Array:
    """e0 o0 e1 o1 ... along `axis`."""
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape)


def upsample(x: Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C] by zero insertion and the FIR filter with gain 4 (the RGB skip of StyleGAN2)."""
    for axis in (1, 2):
        n = x.shape[axis]
        pads = [(0, 0)] * x.ndim
        pads[axis] = (1, 1)
        padded = jnp.pad(x, pads)
        before, here, after = (jax.lax.slice_in_dim(padded, k, k + n, axis=axis) for k in range(3))
        x = _interleave(0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after, axis)
    return x


def downsample(x: Array) -> jax.Array:
    """[B, H, W, C] -> [B, H/2, W/2, C]: the FIR filter, zero padded by 1, then every second pixel."""
    for axis in (1, 2):
        n = x.shape[axis] // 2
        pads = [(0, 0)] * x.ndim
        pads[axis] = (1, 1)
        padded = jnp.pad(x, pads)
        a, b, c, d = (jax.lax.slice_in_dim(padded, k, k + 2 * n - 1, stride=2, axis=axis) for k in range(4))
        x = 0.125 * (a + d) + 0.375 * (b + c)
    return x


@jax.custom_vjp
def _transposed_phases(x: Array, weight: Array) -> tuple[jax.Array, ...]:
    """Transposed 3x3 convolution with stride 2: x [B, H, W, I] -> 4 x [B, H+1, W+1, O], phase 2a+b for y[a::2, b::2].

    y[2i + k] += x[i] weight[k] in each direction, so a phase is a convolution with 2x2, 2x1, 1x2 or 1x1 taps and no
    multiplication meets an inserted zero. The odd phases are one shorter; their last row / column is zero.
    """
    even, odd = weight[::-2], weight[1:2]  # rows: taps on (x[i-1], x[i]), and on x[i]
    return tuple(
        jax.lax.conv_general_dilated(
            x, (odd if a else even)[:, 1:2] if b else (odd if a else even)[:, ::-2], (1, 1),
            [(0, 1) if a else (1, 1), (0, 1) if b else (1, 1)], dimension_numbers=_DIMENSIONS)
        for a in (0, 1) for b in (0, 1))


def _transposed_phases_forward(x, weight):
    return _transposed_phases(x, weight), (x, weight)


def _transposed_phases_backward(saved, g):
    x, weight = saved
    height, width, channels = x.shape[1:]
    # One dot over the nine taps in both directions: XLA's own gradient to a dilated or 2x2 kernel is 5 to 20 times
    # slower on CPUs. What nobody asks for is removed under jit.
    taps = []
    for row in range(3):
        for column in range(3):
            phase = g[2 * (row % 2) + column % 2]
            taps.append(phase[:, row // 2:row // 2 + height, column // 2:column // 2 + width])
    stacked = jnp.concatenate(taps, axis=-1)
    flat = stacked.reshape(-1, stacked.shape[-1])
    d_weight = jnp.matmul(x.reshape(-1, channels).T, flat).reshape(channels, 3, 3, -1).transpose(1, 2, 0, 3)
    transposed = weight.swapaxes(2, 3)
    even, odd = transposed[::2], transposed[1:2]
    d_x = None
    for a in (0, 1):
        for b in (0, 1):
            kernel = (odd if a else even)[:, 1:2] if b else (odd if a else even)[:, ::2]
            part = g[2 * a + b][:, :height + 1 - a, :width + 1 - b]
            part = jax.lax.conv_general_dilated(part, kernel, (1, 1), "VALID", dimension_numbers=_DIMENSIONS)
            d_x = part if d_x is None else d_x + part
    return d_x, d_weight


_transposed_phases.defvjp(_transposed_phases_forward, _transposed_phases_backward)


def _fir_phases(even: Array, odd: Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The even and odd outputs of [1, 3, 3, 1] / 4 along `axis`, from the phases (n + 1 long) of its input."""
    n = even.shape[axis] - 1
    pads = [(0, 0)] * even.ndim
    pads[axis] = (1, 0)
    odd_before = jax.lax.slice_in_dim(jnp.pad(odd, pads), 0, n, axis=axis)
    even_here, even_next = (jax.lax.slice_in_dim(even, k, k + n, axis=axis) for k in (0, 1))
    odd_here, odd_next = (jax.lax.slice_in_dim(odd, k, k + n, axis=axis) for k in (0, 1))
    first = 0.25 * (odd_before + even_next) + 0.75 * (even_here + odd_here)
    second = 0.25 * (even_here + odd_next) + 0.75 * (odd_here + even_next)
    return first, second


def up_conv(x: Array, weight: Array) -> jax.Array:
    """[B, H, W, I] -> [B, 2H, 2W, O]: transposed 3x3 convolution with stride 2, then the FIR filter with gain 4.

    Equal to `fir(conv(x dilated by 2, weight[::-1, ::-1], padding 2), padding=(1, 1), gain=4)`; it is not
    upsample-then-convolve, which differs at the border. Computed in four phases (see `_transposed_phases`), filtered
    as phases and interleaved once.
    """
    t = _transposed_phases(x, weight)
    left, right = (_fir_phases(t[b], t[2 + b], 1) for b in (0, 1))  # column phases, each (even rows, odd rows)
    rows = [_interleave(*_fir_phases(left[a], right[a], 2), axis=2) for a in (0, 1)]
    return _interleave(*rows, axis=1)


def down_conv(x: Array, weight: Array) -> jax.Array:
    """[B, H, W, I] -> [B, H/2, W/2, O]: FIR filter, then a 3x3 convolution with stride 2."""
    return conv(fir(x, padding=(2, 2)), weight, padding=0, stride=2)


def to_w_plus(w: Array, num_layers: int) -> jax.Array:
    """w [..., D] repeated for every style layer: [..., L, D]."""
    return jnp.broadcast_to(w[..., None, :], (*w.shape[:-1], num_layers, w.shape[-1]))


def truncate(w_plus: Array, w_mean: Array, *, psi: float, cutoff: int | None = None) -> jax.Array:
    """w_mean + psi (w_plus - w_mean) on the layers below `cutoff` (all when None); arXiv 1812.04948, appendix B."""
    mean = jnp.reshape(w_mean, (1,) * (w_plus.ndim - 1) + (-1,))
    psi = jnp.where(jnp.arange(w_plus.shape[-2]) < (w_plus.shape[-2] if cutoff is None else cutoff), psi, 1.0)
    return mean + jnp.reshape(psi, (1,) * (w_plus.ndim - 2) + (-1, 1)) * (w_plus - mean)


def scaled_normal(scale: float):
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
        weight = self.param("weight", scaled_normal(1.0 / self.lr_multiplier), (fan_in, self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init / self.lr_multiplier), (self.features,))
        y = jnp.matmul(x, weight * (self.gain * self.lr_multiplier / math.sqrt(fan_in)))
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
        weight = self.param("weight", scaled_normal(1.0), (k, k, channels, self.features))
        weight = (weight * (1.0 / math.sqrt(k * k * channels))).astype(self.dtype)
        x = x.astype(self.dtype)
        if k == 1:
            x = jnp.matmul(downsample(x) if self.down else x, weight[0, 0])
        else:
            x = down_conv(x, weight) if self.down else conv(x, weight)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            x = x + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        clamp = None if self.clamp is None else self.clamp * self.gain
        if self.activate:
            return leaky_relu(x, gain=SQRT2 * self.gain, clamp=clamp)
        return x if self.gain == 1.0 else x * self.gain


class ModulatedConv(nn.Module):
    """Style-modulated 3x3 convolution with demodulation, noise, bias and leaky ReLU (arXiv 1912.04958, figure 2).

    Weights: weight [3, 3, I, O], bias [O], noise_strength [], noise_const [R, R] (a buffer: its gradient is
    zero), affine/weight [D, I], affine/bias [I] (starts at 1). `up` doubles the resolution.
    """

    features: int
    resolution: int  # of the output
    up: bool = False
    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array, noise: Array | None = None) -> jax.Array:
        """x [B, H, W, I], w [B, D], noise [B or 1, R, R, 1] instead of the stored one -> [B, R, R, O]."""
        channels = x.shape[-1]
        weight = self.param("weight", scaled_normal(1.0), (3, 3, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        const = self.param("noise_const", scaled_normal(1.0), (self.resolution, self.resolution))
        style = EqualizedDense(channels, bias_init=1.0, name="affine")(w)

        # The common factor 1/sqrt(9 I) cancels in the demodulation; it keeps bfloat16 products small.
        weight = weight * (1.0 / math.sqrt(9 * channels))
        demodulation = jax.lax.rsqrt(
            jnp.matmul(jnp.square(style), jnp.sum(jnp.square(weight), axis=(0, 1))) + 1e-8 / (9 * channels))
        x = x.astype(self.dtype) * style.astype(self.dtype)[:, None, None, :]
        x = (up_conv if self.up else conv)(x, weight.astype(self.dtype))
        x = x * demodulation.astype(self.dtype)[:, None, None, :]
        if noise is None:
            noise = jax.lax.stop_gradient(const)[None, :, :, None]
        x = x + (noise * strength.reshape(1, 1, 1, 1)).astype(self.dtype) + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return leaky_relu(x, clamp=self.clamp)


class ToRGB(nn.Module):
    """Style-modulated 1x1 convolution to RGB, no demodulation; weight [1, 1, C, 3], bias [3], affine as above."""

    clamp: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array) -> jax.Array:
        """x [B, H, W, C], w [B, D] -> [B, H, W, 3] float32."""
        batch, height, width, channels = x.shape
        weight = self.param("weight", scaled_normal(1.0), (1, 1, channels, 3))
        bias = self.param("bias", nn.initializers.zeros, (3,))
        style = EqualizedDense(channels, bias_init=1.0, name="affine")(w) * (1.0 / math.sqrt(channels))
        # Modulating the tiny [C, 3] matrix saves a pass over the activations.
        kernel = (style[:, :, None] * weight[0]).astype(self.dtype)
        rgb = jnp.einsum("bnc,bcd->bnd", x.reshape(batch, height * width, channels), kernel,
                         preferred_element_type=jnp.float32)
        rgb = rgb.reshape(batch, height, width, 3) + bias.reshape(1, 1, 1, 3)
        return rgb if self.clamp is None else jnp.clip(rgb, -self.clamp, self.clamp)


class Conv(nn.Module):
    """kxk convolution, zero padded by `padding` on each side; kernel [k, k, I, O], bias [O]; 1x1 is a dot."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 0
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        k, stride = self.kernel_size, self.stride
        kernel = self.param("kernel", nn.initializers.he_normal(), (k, k, x.shape[-1], self.features))
        if k == 1:
            y = jnp.matmul(x[:, ::stride, ::stride], kernel[0, 0])
        else:
            y = conv(x, kernel, padding=self.padding, stride=stride)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).reshape(1, 1, 1, -1)
        return y


class BatchNorm(nn.Module):
    """Batch normalisation (arXiv 1502.03167) whose running statistics are weights: scale, bias, mean, var, each [C].

    So a frozen network is one tree, and `apply({"params": weights}, x)` is inference. With `train` the batch's own
    statistics normalise and are sown into the collection "batch_stats"; `update_batch_stats` moves the weights:

        y, sown = net.apply({"params": weights}, x, train=True, mutable=["batch_stats"])
        weights = update_batch_stats(weights, sown["batch_stats"])          # after the optimiser's update
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        # Buffers, not parameters: the optimiser sees a gradient of zero.
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        var = jax.lax.stop_gradient(self.param("var", nn.initializers.ones, shape))
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axis=axes)
            var = jnp.mean(jnp.square(x - mean.reshape((1,) * len(axes) + (-1,))), axis=axes)
            count = math.prod(x.shape[:-1])
            unbiased = var * (count / max(count - 1, 1))
            for name, value in (("mean", mean), ("var", unbiased)):
                self.sow("batch_stats", name, jax.lax.stop_gradient(value), init_fn=lambda: None,
                         reduce_fn=lambda _, new: new)
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        lead = (1,) * (x.ndim - 1)
        return x * factor.reshape(*lead, -1) + offset.reshape(*lead, -1)


def update_batch_stats(weights: Weights, batch_stats: Weights, *, momentum: float = 0.9) -> Weights:
    """`weights` with every BatchNorm mean and var moved to `momentum * old + (1 - momentum) * batch's`."""
    result = dict(weights)
    for name, value in batch_stats.items():
        if isinstance(value, Mapping):
            result[name] = update_batch_stats(weights[name], value, momentum=momentum)
        else:
            result[name] = momentum * weights[name] + (1.0 - momentum) * value
    return result
