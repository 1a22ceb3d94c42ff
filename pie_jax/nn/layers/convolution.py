"""Cross-correlation in the forms that are fast on a CPU.

Maps of up to 2x2 pixels are convolved by one dot over the gathered taps, for XLA:CPU is slow on them. The gradient to
the input needs the kernel flipped; a network with frozen weights keeps the flipped kernel (`adjoint_kernel`, made
ahead by `precompute`). Strided convolutions work on blocks of pixels (`space_to_depth`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.runtime import backend

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_TINY = 2  # maps of up to this side are convolved by one dot
_FEW, _VERY_FEW, _WIDE = 16, 4, 32  # channels up to which, and width from which, a run of pixels is made at once


def adjoint_kernel(weight: Array) -> jax.Array:
    """weight [kh, kw, I, O] -> [kh, kw, O, I], the taps reversed: the kernel of the gradient to the input."""
    return jnp.flip(weight, (0, 1)).swapaxes(2, 3)


def conv(x: Array, weight: Array, *, padding: int | tuple[int, int] = 1, stride: int = 1,
         adjoint: Array | None = None) -> jax.Array:
    """Cross-correlation of x [B, H, W, I] with weight [kh, kw, I, O], zero padded by `padding` pixels on each side.

    adjoint: `adjoint_kernel(weight)`, if it is at hand; it is used for the gradient to x where stride is 1.
    """
    pad = (padding, padding) if isinstance(padding, int) else padding
    height, width = (1 + (n + sum(pad) - k) // stride for n, k in zip(x.shape[1:3], weight.shape[:2]))
    if max(height, width) <= _TINY:
        return _by_dot(x, weight, pad, stride, height, width)
    if adjoint is not None and stride == 1:
        return _with_adjoint(x, weight, adjoint, pad)
    return jax.lax.conv_general_dilated(x, weight, (stride, stride), [pad, pad], dimension_numbers=DIMENSIONS)


def _stride_one(x, weight, pads):
    """In the form that is faster here. Only for what has a gradient of its own: that of `conv_runs` would be slow."""
    run = run_length(x.shape, weight.shape, pads)
    if run > 1 and backend().is_cpu:
        return conv_runs(x, weight, pads, run=run)
    return jax.lax.conv_general_dilated(x, weight, (1, 1), pads, dimension_numbers=DIMENSIONS)


def run_length(shape: tuple[int, ...], kernel: tuple[int, ...], pads: Any) -> int:
    """How many pixels of a row `conv_runs` should make at once on a CPU; 1: a plain convolution is faster.

    shape [B, H, W, I] of x, kernel [kh, kw, I, O], pads ((top, bottom), (left, right)). Runs are faster where there are
    few channels, in and out, which alone do not fill a vector of the processor.
    """
    width, channels, features = shape[2] + sum(pads[1]) - kernel[1] + 1, *kernel[2:]
    if kernel[1] != 3 or width < _WIDE or width % 4 or max(channels, features) > _FEW:
        return 1
    return 4 if min(channels, features) <= _VERY_FEW else 2


def conv_runs(x: Array, weight: Array, pads: Any, *, run: int) -> jax.Array:
    """x [B, H, W, I] convolved with weight [kh, kw, I, O] at stride 1, made at stride `run` along the rows.

    pads ((top, bottom), (left, right)); the width of the result is a multiple of `run`, each place of which makes
    `run` pixels: `run` times as many features.
    It multiplies (kw + run - 1) / kw times as much, in vectors that a few channels alone do not fill.
    """
    batch, width = x.shape[0], x.shape[2] + sum(pads[1]) - weight.shape[1] + 1
    shifted = [jnp.pad(weight, ((0, 0), (i, run - 1 - i), (0, 0), (0, 0))) for i in range(run)]
    y = jax.lax.conv_general_dilated(x, jnp.concatenate(shifted, axis=-1), (1, run), pads,
                                     dimension_numbers=DIMENSIONS)
    return y.reshape(batch, y.shape[1], width, weight.shape[3])


def _by_dot(x, weight, pad, stride, height, width):
    kh, kw, channels, features = weight.shape
    x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    taps = [x[:, i:i + stride * (height - 1) + 1:stride, j:j + stride * (width - 1) + 1:stride]
            for i in range(kh) for j in range(kw)]
    rows = jnp.concatenate(taps, axis=-1).reshape(-1, kh * kw * channels)
    return jnp.matmul(rows, weight.reshape(-1, features)).reshape(x.shape[0], height, width, features)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _with_adjoint(x, weight, adjoint, pad):
    return _stride_one(x, weight, (pad, pad))


def _with_adjoint_forward(x, weight, adjoint, pad):
    return _with_adjoint(x, weight, adjoint, pad), (x, weight, adjoint)


def _with_adjoint_backward(pad, saved, g):
    x, weight, adjoint = saved
    # What nobody asks for, here the gradient to frozen weights, is removed under jit.
    _, to_weight = jax.vjp(lambda k: jax.lax.conv_general_dilated(
        x, k, (1, 1), [pad, pad], dimension_numbers=DIMENSIONS), weight)
    pads = tuple((k - 1 - pad[0], k - 1 - pad[1]) for k in weight.shape[:2])
    return _stride_one(g, adjoint, pads), to_weight(g)[0], jnp.zeros_like(adjoint)


_with_adjoint.defvjp(_with_adjoint_forward, _with_adjoint_backward)


def space_to_depth(x: Array) -> jax.Array:
    """[B, H, W, C] -> [B, H/2, W/2, 4C]: the four pixels of a 2x2 block side by side."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def space_to_depth_kernel(weight: Array) -> jax.Array:
    """weight [k, k, I, O] of a stride-2 convolution -> [m, m, 4I, O] on `space_to_depth`; k, (k - 1) / 2 odd.

    m = (k + 1) / 2; the block kernel is padded by (m / 2, m / 2 - 1), see `space_to_depth_padding`.
    """
    k, _, channels, features = weight.shape
    weight = jnp.pad(weight, ((1, 0), (1, 0), (0, 0), (0, 0)))
    m = (k + 1) // 2
    weight = weight.reshape(m, 2, m, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return weight.reshape(m, m, 4 * channels, features)


def space_to_depth_padding(k: int) -> tuple[int, int]:
    """The padding of a `space_to_depth_kernel` made of a k x k kernel."""
    return (k + 1) // 4, (k + 1) // 4 - 1
