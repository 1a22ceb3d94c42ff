"""Maps over a portrait, one plane [R, R] a value: read between their pixels, made finer, joined by a smooth field.

Places are x and y in px, pixel centres at .5. Planes come first because a processor works along rows of one value.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.runtime import backend

_SWEEPS = 12  # over each level of a smooth field
_GREY = 1.5 / 255  # a mean distance of the channels from their mean


def once(planes: Any) -> Any:
    """The planes, kept: XLA:CPU would else make them anew wherever they are used.

    It drops `optimization_barrier` before it fuses loops, but it does not look through a choice that the data make. The
    first value of the first plane makes it: planes that begin with a value that is not finite become NaN.
    """
    if not backend().is_cpu:
        return jax.lax.optimization_barrier(planes)
    first = jax.tree.leaves(planes)[0].reshape(-1)[0].astype(jnp.float32)
    return jax.lax.cond(jnp.isfinite(first), lambda same: same, lambda bad: jax.tree.map(_spoilt, bad), planes)


def _spoilt(plane):
    return jnp.full_like(plane, jnp.nan) if jnp.issubdtype(plane.dtype, jnp.floating) else ~plane


def centres(resolution: int) -> tuple[jax.Array, jax.Array]:
    """x [1, R] and y [R, 1] of the pixels' centres, px: they broadcast to a plane."""
    along = jnp.arange(resolution) + 0.5
    return along[None, :], along[:, None]


def sample(planes: Array, x: Array, y: Array) -> jax.Array:
    """Planes [..., H, W] at places of shape S: [..., *S], bilinear, the border repeated."""
    height, width = planes.shape[-2:]
    first, across, down = _corner(x, y, height, width)
    flat = planes.reshape(-1, height * width)
    read = [_mixed([plane[first + step] for step in _steps(width, height)], across, down) for plane in flat]
    return jnp.stack(read).reshape(*planes.shape[:-2], *first.shape)


def sample_packed(packed: Array, x: Array, y: Array) -> list[jax.Array]:
    """The four values, 0..255, of a `packed` image [H, W] at places of shape S, bilinear, the border repeated."""
    height, width = packed.shape
    first, across, down = _corner(x, y, height, width)
    corners = [packed.reshape(-1)[first + step] for step in _steps(width, height)]
    return [_mixed([unpacked(corner, i) for corner in corners], across, down) for i in range(4)]


def is_grey(portrait: Array) -> jax.Array:
    """Whether a portrait [3, R, R], sRGB in 0..1, has no colour: bool []."""
    return jnp.abs(portrait - portrait.mean(axis=0, keepdims=True)).mean() < _GREY


def without_colour(planes: Array, grey: Array) -> jax.Array:
    """Planes [3, ...], the mean of all three in each of them where `grey`, bool [], is true."""
    red, green, blue = planes
    return jnp.where(grey, ((red + green + blue) / 3.0)[None], planes)


def unpacked(packed: Array, i: int) -> jax.Array:
    """Value i of packed pixels, 0..255, float32."""
    return ((packed >> (8 * i)) & 255).astype(jnp.float32)


def pack_image(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3 or 4] -> uint32 [H, W], the first value lowest; a fourth that is not there is 255."""
    pixels = np.full((*image.shape[:2], 4), 255, np.uint8)
    pixels[..., :image.shape[2]] = image
    return pixels.view("<u4")[..., 0]


def unpack_image(packed: np.ndarray) -> np.ndarray:
    """uint32 [H, W] -> the first three values, uint8 [H, W, 3]."""
    return np.ascontiguousarray(packed, "<u4").view(np.uint8).reshape(*packed.shape, 4)[..., :3]


def nearest(planes: Array, x: Array, y: Array) -> jax.Array:
    """Planes [..., H, W] in the pixels that hold places of shape S, or beyond the border are nearest: [..., *S]."""
    height, width = planes.shape[-2:]
    at = (jnp.clip(y.astype(jnp.int32), 0, height - 1) * width + jnp.clip(x.astype(jnp.int32), 0, width - 1))
    return planes.reshape(*planes.shape[:-2], height * width)[..., at]


def doubled(planes: Array) -> jax.Array:
    """Planes [..., R, R] -> [..., 2 R, 2 R], bilinear, the border repeated."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        before = jnp.concatenate([_part(planes, 0, 1, axis), _part(planes, 0, size - 1, axis)], axis=axis)
        after = jnp.concatenate([_part(planes, 1, size, axis), _part(planes, size - 1, size, axis)], axis=axis)
        pairs = jnp.stack([0.75 * planes + 0.25 * before, 0.75 * planes + 0.25 * after], axis=planes.ndim + axis + 1)
        planes = pairs.reshape(*(side * (1 + (k == axis % planes.ndim)) for k, side in enumerate(planes.shape)))
    return planes


def smooth_field(known: Array, sure: Array, *, coarser: int) -> jax.Array:
    """The field [C, R, R] that is smooth, holds to `known` as `sure` [R, R] says, and is 0 along the frame.

    Least squares of its steps from pixel to pixel and of sure times its distance from known, found from coarse to fine;
    the finest level has `coarser` (1, 2, 4 or 8) pixels of the map a side.
    """
    size, first = known.shape[-1], jnp.concatenate([means(known * sure[None], coarser), means(sure[None], coarser)])
    levels, factor = [first * coarser**2], coarser
    while size % (2 * factor) == 0 and size // (2 * factor) >= 8:
        first, factor = means(first, 2), 2 * factor
        levels.append(first * factor**2)
    field = jnp.zeros_like(levels[-1][:-1])
    for level in reversed(levels):
        if field.shape[-1] != level.shape[-1]:
            field = doubled(field)
        field = jax.lax.fori_loop(0, _SWEEPS, lambda _, f, a=level: _swept(f, a[:-1], a[-1:]), field)
    return finer(field, coarser)


# Matrix products are where XLA:CPU ends a loop; without them it would work a field's terms out for each level anew.


def finer(planes: Array, factor: int) -> jax.Array:
    """Planes [C, R, R] -> [C, factor R, factor R], bilinear, the border repeated."""
    if factor == 1:
        return jnp.asarray(planes)
    weights = _linear(planes.shape[-1], factor)
    return jnp.einsum("ij,cjk->cik", weights, planes @ weights.T)


def means(planes: Array, factor: int) -> jax.Array:
    """Planes [C, R, R] -> [C, R / factor, R / factor]: the mean of each square of pixels."""
    if factor == 1:
        return jnp.asarray(planes)
    count, size = planes.shape[0], planes.shape[-1] // factor
    rows = planes.reshape(count, size, factor, -1)
    rows = functools.reduce(jnp.add, [rows[:, :, i] for i in range(factor)])
    return rows @ np.kron(np.eye(size), np.full((factor, 1), factor**-2)).astype(np.float32)


def _part(planes, start, stop, axis):
    return jax.lax.slice_in_dim(planes, start, stop, axis=axis % planes.ndim)


def _corner(x, y, height, width):
    """The pixel up and left of places, as a place in the flat plane, and how far they are right of it and below."""
    x, y = jnp.broadcast_arrays(jnp.clip(x - 0.5, 0, width - 1), jnp.clip(y - 0.5, 0, height - 1))
    column = jnp.minimum(x.astype(jnp.int32), max(width - 2, 0))
    row = jnp.minimum(y.astype(jnp.int32), max(height - 2, 0))
    return row * width + column, x - column, y - row


def _steps(width, height):
    """From the first of four pixels to each of them, in the flat plane."""
    right, down = min(width - 1, 1), width * min(height - 1, 1)
    return 0, right, down, down + right


def _mixed(corners, across, down):
    top = corners[0] + across * (corners[1] - corners[0])
    bottom = corners[2] + across * (corners[3] - corners[2])
    return top + down * (bottom - top)


@functools.cache
def _linear(size: int, factor: int) -> np.ndarray:
    """[size * factor, size]: linear interpolation between the centres of pixels, the border repeated."""
    at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    return np.maximum(1.0 - np.abs(at[:, None] - np.arange(size)), 0.0).astype(np.float32)


def _swept(field, weighted, weight):
    padded = jnp.pad(field, ((0, 0), (1, 1), (1, 1)))
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return (around + weighted) / (4.0 + weight)
