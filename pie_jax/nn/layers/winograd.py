"""Winograd's F(4x4, 3x3) convolution (Lavin and Gray, arXiv 1509.09308) with kernels transformed beforehand.

36 multiplications make 16 outputs where a direct 3x3 convolution needs 144. It is faster where the transforms of the
activations, which grow with pixels times channels, are small beside the products, which grow with channels squared:
`bounds.Bounds` says where. Large maps are convolved in strips of rows, so that what is between the
transforms stays in the processor's cache. Rounding is some ten times that of a direct convolution, 1e-5 relative; the
kernels of both directions take eight times the memory of the weights.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.bounds import Bounds
from pie_jax.nn.layers.convolution import DIMENSIONS, adjoint_kernel

TILE, SIDE = 4, 6  # outputs and inputs of a tile
_INPUT = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0),
          (0, 4, 0, -5, 0, 1))
_KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6), (1 / 24, 1 / 12, 1 / 6),
           (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_STRIP = 2**19  # elements of x in a strip: 2 MB
NARROWEST = 14  # pixels of a side below which it gains little


def should_use_winograd(shape: tuple[int, ...], weight: Array, bounds: Bounds) -> bool:
    """Whether a convolution of x [B, H, W, I] with weight [kh, kw, I, O] is made this way on a CPU, by the bounds."""
    return (tuple(weight.shape[:2]) == (3, 3) and min(shape[1:3]) >= NARROWEST
            and bounds.winograd_range(min(weight.shape[2:])).holds(math.prod(shape)))


def winograd_kernels(weight: Array) -> tuple[jax.Array, jax.Array]:
    """weight [3, 3, I, O] -> the kernels [36, I, O] of a convolution and [36, O, I] of its gradient to x."""
    matrix = jnp.asarray(_KERNEL, weight.dtype)

    def one(kernel):
        both = jnp.einsum("ai,bj,ijco->abco", matrix, matrix, kernel, precision=jax.lax.Precision.HIGHEST)
        return both.reshape(SIDE * SIDE, *kernel.shape[2:])

    return one(weight), one(adjoint_kernel(weight))


@jax.custom_vjp
def winograd_conv(x: Array, weight: Array, kernels: tuple[Array, Array]) -> jax.Array:
    """x [B, H, W, I] with weight [3, 3, I, O], padded by 1 -> [B, H, W, O]; kernels: `winograd_kernels(weight)`."""
    return convolve(x, kernels[0])


def _forward(x, weight, kernels):
    return convolve(x, kernels[0]), (x, weight, kernels)


def _backward(saved, g):
    x, weight, kernels = saved
    # What nobody asks for, here the gradient to frozen weights, is removed under jit.
    _, to_weight = jax.vjp(lambda k: jax.lax.conv_general_dilated(
        x, k, (1, 1), [(1, 1), (1, 1)], dimension_numbers=DIMENSIONS), weight)
    return convolve(g, kernels[1]), to_weight(g)[0], jax.tree.map(jnp.zeros_like, kernels)


winograd_conv.defvjp(_forward, _backward)


def _combine(matrix, parts):
    """Rows of a small constant matrix times a list of arrays, without its zeros."""
    sums = []
    for row in matrix:
        total = None
        for factor, part in zip(row, parts, strict=True):
            if factor:
                scaled = part if factor == 1 else -part if factor == -1 else part * float(factor)
                total = scaled if total is None else total + scaled
        sums.append(total)
    return sums


def convolve(x: Array, kernel: Array) -> jax.Array:
    """x [B, H, W, I], zero padded by 1, with a kernel [36, I, O] of `winograd_kernels` -> [B, H, W, O]; no gradient."""
    batch, height, width, channels = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    strips = -(-x.size // _STRIP) if x.size > 2 * _STRIP else 1
    each = -(-down // strips)  # rows of tiles
    strips = -(-down // each)
    x = jnp.pad(x, ((0, 0), (1, TILE * each * strips + 1 - height), (1, TILE * across + 1 - width), (0, 0)))
    if strips == 1:
        out = _convolve_tiles(x, kernel)
    else:
        # Begun from x: XLA would share zeros among all such loops, and keep them from the first loop to the last.
        begun = jnp.broadcast_to(x[:1, 1:2, 1:2, :1], (batch, TILE * each * strips, TILE * across, kernel.shape[2]))

        def strip(i, out):
            first = TILE * each * i
            made = _convolve_tiles(jax.lax.dynamic_slice_in_dim(x, first, TILE * each + 2, axis=1), kernel)
            return jax.lax.dynamic_update_slice_in_dim(out, made, first, axis=1)

        out = jax.lax.fori_loop(0, strips, strip, begun)
    return out[:, :height, :width]


def _convolve_tiles(x, kernel):
    """x [B, 4 m + 2, 4 n + 2, I] -> [B, 4 m, 4 n, O], not padded."""
    batch, down, across, channels = x.shape[0], x.shape[1] // TILE, x.shape[2] // TILE, x.shape[3]

    def strided(array, axis, count):
        return [jax.lax.slice_in_dim(array, i, i + TILE * (count - 1) + 1, TILE, axis=axis) for i in range(SIDE)]

    # Barriers: fused into one another, each stage would compute the one before it again for every element it reads.
    rows = jax.lax.optimization_barrier(jnp.stack(_combine(_INPUT, strided(x, 1, down))))  # [6, B, down, W, I]
    tiles = jnp.stack(_combine(_INPUT, strided(rows, 3, across)), axis=1)  # [6, 6, B, down, across, I]
    tiles = jax.lax.optimization_barrier(tiles.reshape(SIDE * SIDE, -1, channels))
    products = jax.lax.dot_general(tiles, kernel, (((2,), (1,)), ((0,), (0,))))
    products = products.reshape(SIDE, SIDE, batch, down, across, -1)
    rows = jax.lax.optimization_barrier(jnp.stack(_combine(_OUTPUT, [products[i] for i in range(SIDE)])))
    out = jnp.stack(_combine(_OUTPUT, [rows[:, i] for i in range(SIDE)]), axis=1)  # [4, 4, B, down, across, O]
    return out.transpose(2, 3, 0, 4, 1, 5).reshape(batch, TILE * down, TILE * across, -1)
