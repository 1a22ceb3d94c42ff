"""FIR resampling and the up-sampling convolutions of StyleGAN 1 and 2, as functions of arrays.

FIR resampling is separable sums of shifted slices; nothing here is a depthwise convolution. An up-sampling convolution
is four small ones, a phase each, and no multiplication meets an inserted zero.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.nn.layers.convolution import DIMENSIONS, conv


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


def _before_here_after(x, axis):
    """x shifted by one along `axis` each way, zero padded: what lies before, here, after each element."""
    n = x.shape[axis]
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 1)
    padded = jnp.pad(x, pads)
    return [jax.lax.slice_in_dim(padded, k, k + n, axis=axis) for k in range(3)]


def upsample(x: Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C] by zero insertion and the FIR filter with gain 4 (the RGB skip of StyleGAN2)."""
    for axis in (1, 2):
        before, here, after = _before_here_after(x, axis)
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


PhaseKernels = tuple[tuple[Array, ...], tuple[Array, ...]]


def phase_kernels(weight: Array) -> PhaseKernels:
    """weight [3, 3, I, O] of `up_conv` -> the kernels of its four phases, forward and back to x.

    They are slices, but a convolution wants them side by side in memory: with frozen weights they are made once.
    """
    forward, back = [], []
    even, odd = weight[::-2], weight[1:2]  # rows: taps on (x[i-1], x[i]), and on x[i]
    transposed = weight.swapaxes(2, 3)
    even_back, odd_back = transposed[::2], transposed[1:2]
    for a in (0, 1):
        for b in (0, 1):
            forward.append((odd if a else even)[:, 1:2] if b else (odd if a else even)[:, ::-2])
            back.append((odd_back if a else even_back)[:, 1:2] if b else (odd_back if a else even_back)[:, ::2])
    return tuple(forward), tuple(back)


@jax.custom_vjp
def _transposed_phases(x: Array, weight: Array, kernels: PhaseKernels | None) -> tuple[jax.Array, ...]:
    """Transposed 3x3 convolution with stride 2: x [B, H, W, I] -> 4 x [B, H+1, W+1, O], phase 2a+b for y[a::2, b::2].

    y[2i + k] += x[i] weight[k] in each direction, so a phase is a convolution with 2x2, 2x1, 1x2 or 1x1 taps and no
    multiplication meets an inserted zero. The odd phases are one shorter; their last row / column is zero.
    """
    kernels = phase_kernels(weight) if kernels is None else kernels
    pads = (1, 1), (0, 1)
    return tuple(jax.lax.conv_general_dilated(x, kernels[0][2 * a + b], (1, 1), [pads[a], pads[b]],
                                              dimension_numbers=DIMENSIONS) for a in (0, 1) for b in (0, 1))


def _transposed_phases_forward(x, weight, kernels):
    return _transposed_phases(x, weight, kernels), (x, weight, kernels)


def _transposed_phases_backward(saved, g):
    x, weight, kernels = saved
    height, width, channels = x.shape[1:]
    made = phase_kernels(weight) if kernels is None else kernels  # here too, so that the second derivative sees them
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
    d_x = None
    for a in (0, 1):
        for b in (0, 1):
            part = g[2 * a + b][:, :height + 1 - a, :width + 1 - b]
            part = jax.lax.conv_general_dilated(part, made[1][2 * a + b], (1, 1), "VALID",
                                                dimension_numbers=DIMENSIONS)
            d_x = part if d_x is None else d_x + part
    return d_x, d_weight, jax.tree.map(jnp.zeros_like, kernels)


_transposed_phases.defvjp(_transposed_phases_forward, _transposed_phases_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fir_phases(even: Array, odd: Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The even and odd outputs of [1, 3, 3, 1] / 4 along `axis`, from the phases (n + 1 long) of its input."""
    n = even.shape[axis] - 1
    odd_before, odd_here, odd_next = _neighbours(odd, axis, n)
    even_here, even_next = (jax.lax.slice_in_dim(even, k, k + n, axis=axis) for k in (0, 1))
    first = 0.25 * (odd_before + even_next) + 0.75 * (even_here + odd_here)
    second = 0.25 * (even_here + odd_next) + 0.75 * (odd_here + even_next)
    return first, second


def _neighbours(x, axis, n):
    """x at i - 1, i and i + 1 for i from 0 to n - 1, zero outside."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, n + 1 - x.shape[axis])
    x = jnp.pad(x, pads)
    return [jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(3)]


def _fir_phases_forward(even, odd, axis):
    return _fir_phases(even, odd, axis), None


def _fir_phases_backward(axis, _, g):
    # Each output reads its neighbours, as forward: XLA's own form, a sum of padded slices, takes up to twice as long.
    n = g[0].shape[axis] + 1
    first_before, first, first_next = _neighbours(g[0], axis, n)
    second_before, second, _ = _neighbours(g[1], axis, n)
    return (0.75 * (first + second_before) + 0.25 * (second + first_before),
            0.75 * (first + second) + 0.25 * (first_next + second_before))


_fir_phases.defvjp(_fir_phases_forward, _fir_phases_backward)


def up_conv(x: Array, weight: Array, *, kernels: PhaseKernels | None = None) -> jax.Array:
    """[B, H, W, I] -> [B, 2H, 2W, O]: transposed 3x3 convolution with stride 2, then the FIR filter with gain 4.

    Equal to `fir(conv(x dilated by 2, weight[::-1, ::-1], padding 2), padding=(1, 1), gain=4)`; it is not
    upsample-then-convolve, which differs at the border. Computed in four phases (see `_transposed_phases`), filtered
    as phases and interleaved once. kernels: `phase_kernels(weight)`, if they are at hand.
    """
    t = _transposed_phases(x, weight, kernels)
    columns: list[Any] = [_fir_phases(t[b], t[2 + b], 1) for b in (0, 1)]  # column phases, each (even rows, odd rows)
    rows = []
    for a in (0, 1):
        phases: Any = _fir_phases(columns[0][a], columns[1][a], 2)
        rows.append(_interleave(*phases, axis=2))
    return _interleave(*rows, axis=1)


def down_conv(x: Array, weight: Array) -> jax.Array:
    """[B, H, W, I] -> [B, H/2, W/2, O]: FIR filter, then a 3x3 convolution with stride 2."""
    return conv(fir(x, padding=(2, 2)), weight, padding=0, stride=2)


def nearest_up_conv(x: Array, weight: Array) -> jax.Array:
    """[B, H, W, I] -> [B, 2H, 2W, O]: nearest up-sampling by 2, then a 3x3 cross-correlation padded by 1 (StyleGAN 1).

    The two equal pixels under a kernel row are multiplied once, by the sum of their taps: four 2x2 convolutions.
    """
    def halves(taps):  # along the first axis: even rows see x[i-1], x[i], odd rows x[i], x[i+1]
        return jnp.stack([taps[0], taps[1] + taps[2]]), jnp.stack([taps[0] + taps[1], taps[2]])

    rows = []
    for a, by_row in enumerate(halves(weight)):
        columns = []
        for b, kernel in enumerate(halves(by_row.swapaxes(0, 1))):
            columns.append(jax.lax.conv_general_dilated(
                x, kernel.swapaxes(0, 1), (1, 1), [(1 - a, a), (1 - b, b)], dimension_numbers=DIMENSIONS))
        rows.append(_interleave(*columns, axis=2))
    return _interleave(*rows, axis=1)


def binomial_blur(x: Array) -> jax.Array:
    """x [B, H, W, C] filtered by outer([1, 2, 1]) / 16, zero padded (StyleGAN 1)."""
    for axis in (1, 2):
        before, here, after = _before_here_after(x, axis)
        x = 0.5 * here + 0.25 * (before + after)
    return x
