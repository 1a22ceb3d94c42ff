"""StyleGAN2's up-sampling convolution with its filter in the kernel: one 3x3 convolution to four pixels a block.

It multiplies four times as much as the four phases of `resampling.up_conv`, a quarter of that with Winograd's
transforms, and passes over memory once. That is faster where there are few channels. The kernels depend on weights
alone and are made beforehand.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.bounds import Bounds
from pie_jax.nn.layers import winograd
from pie_jax.nn.layers.convolution import space_to_depth
from pie_jax.nn.layers.resampling import up_conv


def should_fuse_upsample(shape: tuple[int, ...], weight: Array, bounds: Bounds) -> bool:
    """Whether `fused_up_conv` of x [B, H, W, I] with weight [3, 3, I, O] is made on a CPU, by the bounds."""
    return (min(shape[1:3]) >= winograd.NARROWEST
            and bounds.fused_range(weight.shape[3]).holds(math.prod(shape)))


def fused_upsample_kernels(weight: Array) -> tuple[jax.Array, jax.Array]:
    """weight [3, 3, I, O] of `up_conv` -> Winograd's kernels [36, I, 4 O] and [36, 4 O, I] of it and its gradient.

    In each direction y[2i + a] = sum of x[i + d] c[a - 2d] over d = -1, 0, 1, where c is the weight's three taps
    filtered by [1, 3, 3, 1] / 4: six taps, of which each phase a sees three.
    """
    taps = np.zeros((3, 2, 3))  # d, a, tap of the weight
    for d, a, k in np.ndindex(taps.shape):
        at = k - a + 2 * (d - 1) + 1
        taps[d, a, k] = (0.25, 0.75, 0.75, 0.25)[at] if 0 <= at < 4 else 0.0
    taps = jnp.asarray(taps, weight.dtype)
    kernel = jnp.einsum("dak,ebl,klio->deiabo", taps, taps, weight, precision=jax.lax.Precision.HIGHEST)
    return winograd.winograd_kernels(kernel.reshape(3, 3, weight.shape[2], -1))


@jax.custom_vjp
def fused_up_conv(x: Array, weight: Array, kernels: tuple[Array, Array]) -> jax.Array:
    """`up_conv(x, weight)` [B, 2H, 2W, O] of x [B, H, W, I]; kernels: `fused_upsample_kernels(weight)`."""
    batch, height, width, _ = x.shape
    y = winograd.convolve(x, kernels[0])
    y = y.reshape(batch, height, width, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, 2 * height, 2 * width, -1)


def _whole_forward(x, weight, kernels):
    return fused_up_conv(x, weight, kernels), (x, weight, kernels)


def _whole_backward(saved, g):
    x, weight, kernels = saved
    # What nobody asks for, here the gradient to frozen weights, is removed under jit.
    _, to_weight = jax.vjp(lambda k: up_conv(x, k), weight)
    return winograd.convolve(space_to_depth(g), kernels[1]), to_weight(g)[0], jax.tree.map(jnp.zeros_like, kernels)


fused_up_conv.defvjp(_whole_forward, _whole_backward)
