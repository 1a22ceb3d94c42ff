"""StyleGAN2's up-sampling convolution with its filter in the kernel: one 3x3 convolution to four pixels a block.

It multiplies four times as much as the four phases of `resampling.up_conv`, as often with Winograd's transforms, and
passes over memory once: that pays where there are few channels. The kernels depend on weights alone and are made
beforehand.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.layers.convolution import DIMENSIONS, blocks, turned
from pie_jax.layers.resampling import up_conv
from pie_jax.layers.winograd import NARROWEST, convolve, transformed
from pie_jax.runtime import threads

_FEW = 16  # output channels up to which it pays


def whole_pays(weight: Array) -> bool:
    """Whether `whole_up_conv` is faster than `up_conv` on a CPU, for weight [3, 3, I, O].

    Measured with its gradient, one core: to 128 px of 16 channels 1.6 times, to 64 px of 16 1.2 times as fast (more
    with Winograd's transforms); to 32 px of 32 channels 0.75 times (1.07), to 16 px of 64 0.4 times.
    """
    return weight.shape[3] <= _FEW


def whole_kernels(weight: Array, *, winograd: bool = False) -> tuple[jax.Array, jax.Array]:
    """weight [3, 3, I, O] of `up_conv` -> the kernels [3, 3, I, 4 O] and [3, 3, 4 O, I] of `whole_up_conv` and back.

    winograd: transformed, [36, I, 4 O] and [36, 4 O, I].
    In each direction y[2i + a] = sum of x[i + d] c[a - 2d] over d = -1, 0, 1, where c is the weight's three taps
    filtered by [1, 3, 3, 1] / 4: six taps, of which each phase a sees three.
    """
    taps = np.zeros((3, 2, 3))  # d, a, tap of the weight
    for d, a, k in np.ndindex(taps.shape):
        at = k - a + 2 * (d - 1) + 1
        taps[d, a, k] = (0.25, 0.75, 0.75, 0.25)[at] if 0 <= at < 4 else 0.0
    taps = jnp.asarray(taps, weight.dtype)
    kernel = jnp.einsum("dak,ebl,klio->deiabo", taps, taps, weight, precision=jax.lax.Precision.HIGHEST)
    kernel = kernel.reshape(3, 3, weight.shape[2], -1)
    return transformed(kernel) if winograd else (kernel, turned(kernel))


def _convolve(x, kernel):
    if kernel.ndim == 3:
        return convolve(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=DIMENSIONS)


def whole_by_winograd(shape: tuple[int, ...]) -> bool:
    """Whether that convolution of x [B, H, W, I] is faster on a CPU with transformed kernels.

    Measured with its gradient, one thread: to 64 px of 16 channels twice, to 128 px of 16 1.3 times as fast.
    """
    return threads() == 1 and min(shape[1:3]) >= NARROWEST


@jax.custom_vjp
def whole_up_conv(x: Array, weight: Array, kernels: tuple[Array, Array]) -> jax.Array:
    """`up_conv(x, weight)` [B, 2H, 2W, O] of x [B, H, W, I]; kernels: `whole_kernels(weight)`."""
    batch, height, width, _ = x.shape
    y = _convolve(x, kernels[0])
    y = y.reshape(batch, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * height, 2 * width, -1)


def _whole_forward(x, weight, kernels):
    return whole_up_conv(x, weight, kernels), (x, weight, kernels)


def _whole_backward(saved, g):
    x, weight, kernels = saved
    # What nobody asks for, here the gradient to frozen weights, is removed under jit.
    _, to_weight = jax.vjp(lambda k: up_conv(x, k), weight)
    return _convolve(blocks(g), kernels[1]), to_weight(g)[0], jax.tree.map(jnp.zeros_like, kernels)


whole_up_conv.defvjp(_whole_forward, _whole_backward)
