"""Largest values and means over square windows of a map, along one axis after the other and by doubling."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array


def odd(pixels: float) -> int:
    """The side of a window of about so many pixels: odd, so that it has a middle."""
    return 2 * int(pixels / 2) + 1


def widest(values: Array, size: int) -> jax.Array:
    """[H, W]: the largest of `values` [H, W] (numbers or bool) in the window of `size` px (odd) around each pixel."""
    least = False if values.dtype == jnp.bool_ else -jnp.inf
    for axis in (0, 1):
        values = _along(values, size, axis, least, jnp.maximum)
    return values


def narrowest(mask: Array, size: int) -> jax.Array:
    """[H, W] bool: where all of a window of a mask [H, W] is set."""
    return ~widest(~mask, size)


def window_mean(values: Array, size: int) -> jax.Array:
    """[H, W, ...]: the mean of `values` in the window of `size` px (odd) around each pixel; 0 beyond the border."""
    for axis in (0, 1):
        values = _along(values, size, axis, 0.0, jnp.add)
    return values / size**2


def within(mask: Array, border: int) -> jax.Array:
    """[H, W] 0..1: how far within a mask [H, W] bool; 0 along its border and outside, 1 from `border` px on."""
    return jnp.clip(2.0 * window_mean(mask.astype(jnp.float32), 2 * border + 1) - 1.0, 0.0, 1.0)


def _along(values: Array, size: int, axis: int, edge: float | bool, combine: Callable) -> jax.Array:
    """What `combine` makes of `size` neighbours along an axis; beyond the border they are `edge`."""
    length, half = values.shape[axis], size // 2
    pads = [(half, half) if k == axis else (0, 0) for k in range(values.ndim)]
    run, width = jnp.pad(values, pads, constant_values=edge), 1  # run[i]: of width neighbours from i on
    parts, done = [], 0
    while True:
        if size & width:
            parts.append(jax.lax.slice_in_dim(run, done, done + length, axis=axis))
            done += width
        if done == size:
            return functools.reduce(combine, parts)
        count = run.shape[axis] - width
        run = combine(jax.lax.slice_in_dim(run, 0, count, axis=axis),
                      jax.lax.slice_in_dim(run, width, width + count, axis=axis))
        width *= 2
