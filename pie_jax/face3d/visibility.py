"""Which triangle each pixel sees: the part of the rasterizer without gradient (canvas and rules: see `raster`).

How: triangles whose box covers at most 2x2 pixel centres (most, in a face mesh) are tested densely in one go;
larger ones are cut into windows of 4x4 pixels, listed through one prefix sum and processed in chunks by a loop with a
dynamic trip count. So any size of triangle works and nothing depends on a guessed bucket size. A batch, under `vmap`
too, is one big list, never a loop per image. The depth test uses all 32 bits of 1 / depth.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from pie_jax.arrays import Array
from pie_jax.runtime import backend

DENSE = 2  # boxes up to this side are tested densely
WINDOW = 4  # px: larger boxes are tested in windows of this side; a face mesh gains nothing by a second, larger side
# Candidates tested in one turn of the loop: few stay in a CPU's cache, many leave a GPU fewer turns.
CHUNK, CPU_CHUNK = 1 << 15, 1 << 12
BOX_SLACK = 1e-4  # px
EDGE_TOLERANCE = 2.0**-21  # of the squared box: rounding of an edge function, so that neighbours leave no crack
AREA_TOLERANCE = 2.0**-20  # of the squared box: thinner triangles are dropped
_SUMMED = 32  # counts in one matrix product of a prefix sum


@functools.cache
def visible_triangles(height: int, width: int, near: float, cull_back: bool) -> Callable[[Array, Array], jax.Array]:
    """visible(vertices [B, V, 3] float32, triangles [T, 3] or [B, T, 3]) -> triangle_id [B, H * W] int32."""

    @custom_vmap
    def visible(vertices, triangles):
        return _visible_batch(vertices, triangles, height=height, width=width, near=near, cull_back=cull_back)

    @visible.def_vmap
    def _(axis_size, in_batched, vertices, triangles):
        # A dynamic loop under plain vmap would copy the whole canvas each turn: a batch is made one list instead.
        if not in_batched[0]:
            vertices = jnp.broadcast_to(vertices[None], (axis_size, *vertices.shape))
        batch = vertices.shape[1]
        if in_batched[1] or triangles.ndim == 3:
            triangles = triangles if in_batched[1] else triangles[None]
            triangles = triangles if triangles.ndim == 4 else triangles[:, None]
            triangles = jnp.broadcast_to(triangles, (axis_size, batch, *triangles.shape[-2:]))
            triangles = triangles.reshape(-1, *triangles.shape[-2:])
        triangle_id = visible(vertices.reshape(-1, *vertices.shape[-2:]), triangles)
        return triangle_id.reshape(axis_size, batch, -1), True

    return visible


def _visible_batch(vertices, triangles, *, height, width, near, cull_back):
    batch, per_image = vertices.shape[0], triangles.shape[-2]
    setup = _setup(vertices, triangles, height=height, width=width, near=near, cull_back=cull_back)
    pixels = batch * height * width
    canvas = jnp.zeros(pixels, jnp.int32), jnp.full(pixels, -1, jnp.int32)
    longest = jnp.maximum(setup["across"], setup["down"])

    canvas = _draw_dense(canvas, setup, longest <= DENSE, per_image, width)
    canvas = _draw_windows(canvas, setup, longest > DENSE, per_image, width)
    winner = canvas[1].reshape(batch, height * width)
    return jnp.where(winner >= 0, _over(winner, per_image)[1], -1)


def _over(count, by):
    """Quotient and remainder of count >= 0 by `by` > 0: `//` and `%` also mind signs, at a price on a CPU."""
    by = jnp.broadcast_to(by, count.shape).astype(count.dtype)
    return jax.lax.div(count, by), jax.lax.rem(count, by)


def _windows_along(pixels):
    """How many windows cover so many pixels."""
    return _over(pixels + (WINDOW - 1), WINDOW)[0]


def _setup(vertices, triangles, *, height, width, near, cull_back) -> dict[str, jax.Array]:
    """Per triangle of the flat list [B * T]: its pixel box and the affine functions of the pixel that decide a hit."""
    batch, num_vertices = vertices.shape[:2]
    corners = triangles if triangles.ndim == 3 else jnp.broadcast_to(triangles[None], (batch, *triangles.shape))
    image = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None], corners.shape[:2]).reshape(-1)
    corners = corners.reshape(-1, 3) + (image * num_vertices)[:, None]
    # One gather a coordinate: columns of gathered rows would be read with a stride, which XLA:CPU does not vectorise.
    x, y, z = ([column[corners[:, k]] for k in range(3)] for column in jnp.moveaxis(vertices.reshape(-1, 3), 1, 0))
    low_x, high_x = jnp.minimum(jnp.minimum(*x[:2]), x[2]), jnp.maximum(jnp.maximum(*x[:2]), x[2])
    low_y, high_y = jnp.minimum(jnp.minimum(*y[:2]), y[2]), jnp.maximum(jnp.maximum(*y[:2]), y[2])
    # First and one-past-last pixel whose centre lies in the box, widened by the coordinate rounding of float32.
    first_x = jnp.clip(jnp.ceil(low_x - (0.5 + BOX_SLACK)), 0, width)
    first_y = jnp.clip(jnp.ceil(low_y - (0.5 + BOX_SLACK)), 0, height)
    across = jnp.clip(jnp.floor(high_x + (0.5 + BOX_SLACK)), 0, width) - first_x
    down = jnp.clip(jnp.floor(high_y + (0.5 + BOX_SLACK)), 0, height) - first_y
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    extent = jnp.square(jnp.maximum(high_x - low_x, high_y - low_y))
    valid = (jnp.minimum(jnp.minimum(*z[:2]), z[2]) > near) & (across > 0) & (down > 0)
    valid &= (jnp.abs(area) > AREA_TOLERANCE * extent) & jnp.isfinite(area * extent) & jnp.isfinite(z[0] + z[1] + z[2])
    if cull_back:
        valid &= area > 0
    scale = 1.0 / jnp.where(valid, area, 1.0)
    inverse = [1.0 / jnp.where(valid, v, 1.0) for v in z]
    # Barycentric coordinates at the box's first pixel, and their steps from one pixel to the next.
    dx, dy = [v - (first_x + 0.5) for v in x], [v - (first_y + 0.5) for v in y]
    at = [(dx[(k + 1) % 3] * dy[(k + 2) % 3] - dx[(k + 2) % 3] * dy[(k + 1) % 3]) * scale for k in range(3)]
    step_x = [(y[(k + 1) % 3] - y[(k + 2) % 3]) * scale for k in range(3)]
    step_y = [(x[(k + 2) % 3] - x[(k + 1) % 3]) * scale for k in range(3)]
    one, two = inverse[1] - inverse[0], inverse[2] - inverse[0]
    out = {f"b{k}": at[k] for k in range(3)}
    out |= {f"b{k}x": step_x[k] for k in range(3)} | {f"b{k}y": step_y[k] for k in range(3)}
    out |= {"tolerance": -EDGE_TOLERANCE * extent * jnp.abs(scale), "inverse": inverse[0] + at[1] * one + at[2] * two,
            "inverse_x": step_x[1] * one + step_x[2] * two, "inverse_y": step_y[1] * one + step_y[2] * two,
            "low": jnp.minimum(jnp.minimum(*inverse[:2]), inverse[2]),
            "high": jnp.maximum(jnp.maximum(*inverse[:2]), inverse[2])}
    first = image * (height * width) + first_y.astype(jnp.int32) * width + first_x.astype(jnp.int32)
    return out | {"first": first, "across": jnp.where(valid, across, 0).astype(jnp.int32),
                  "down": jnp.where(valid, down, 0).astype(jnp.int32)}


def _candidates(setup, offset_x, offset_y, code, *, side, width, pixels):
    """Keys, canvas positions and codes of the pixels of one window a triangle: each [side * side * M]."""
    grid = jnp.arange(side * side, dtype=jnp.int32)[:, None]
    column, row = offset_x[None] + grid % side, offset_y[None] + grid // side
    x, y = column.astype(jnp.float32), row.astype(jnp.float32)
    t = {name: value[None] for name, value in setup.items()}
    weights = [t[f"b{k}"] + (x * t[f"b{k}x"] + y * t[f"b{k}y"]) for k in range(3)]
    inside = jnp.minimum(jnp.minimum(weights[0], weights[1]), weights[2]) >= t["tolerance"]
    inside &= (column < t["across"]) & (row < t["down"])
    key = jnp.clip(t["inverse"] + (x * t["inverse_x"] + y * t["inverse_y"]), t["low"], t["high"])
    pixel = jnp.where(inside, t["first"] + row * width + column, pixels)  # pixels: nowhere
    bits = jax.lax.bitcast_convert_type(key, jnp.int32)  # bits of positive floats keep their order
    return bits.reshape(-1), pixel.reshape(-1), jnp.broadcast_to(code[None], pixel.shape).reshape(-1)


def _draw(canvas, key, pixel, code):
    """Put candidates on the canvas: the best key, and the largest code that has it.

    Codes never fall from one call to the next, so the code of a better key needs no reset of the old one.
    """
    best, winner = canvas
    best = best.at[pixel].max(key, mode="drop")
    won = key == best.at[pixel].get(mode="fill", fill_value=-1)
    return best, winner.at[jnp.where(won, pixel, best.shape[0])].max(code, mode="drop")


def _draw_dense(canvas, setup, drawn, per_image, width):
    """Draw the triangles `drawn` [B * T], each in one window of DENSE x DENSE pixels."""
    count = drawn.shape[0]
    chunk = _chunk(DENSE, count)
    drawn = drawn.astype(jnp.int32)

    def choose(i):
        start = jnp.minimum(i * chunk, count - chunk)  # the last turn may visit some again, which changes nothing
        mine = {name: jax.lax.dynamic_slice(value, (start,), (chunk,)) for name, value in setup.items()}
        index = start + jnp.arange(chunk, dtype=jnp.int32)
        corner = jnp.zeros(chunk, jnp.int32)
        return mine, index, corner, corner, jax.lax.dynamic_slice(drawn, (start,), (chunk,)) > 0

    return _draw_in_turns(canvas, choose, jnp.max(drawn) * count, chunk, side=DENSE, first_code=0, per_image=per_image,
                          width=width)


def _draw_windows(canvas, setup, drawn, per_image, width):
    """Draw the triangles `drawn` [B * T], each box as windows of WINDOW x WINDOW pixels."""
    count = drawn.shape[0]
    chunk = _chunk(WINDOW, count)
    windows = jnp.where(drawn, _windows_along(setup["across"]) * _windows_along(setup["down"]), 0)
    ends = _prefix_sum(windows)

    def choose(i):
        item = i * chunk + jnp.arange(chunk, dtype=jnp.int32)
        index = jnp.minimum(jnp.searchsorted(ends, item, side="right").astype(jnp.int32), count - 1)
        mine = {name: value[index] for name, value in setup.items()}
        window = item - (ends[index] - windows[index])
        row, column = _over(window, jnp.maximum(_windows_along(mine["across"]), 1))
        return mine, index, column * WINDOW, row * WINDOW, item < ends[-1]

    return _draw_in_turns(canvas, choose, ends[-1], chunk, side=WINDOW, first_code=per_image, per_image=per_image,
                          width=width)


def _prefix_sum(counts: Array) -> jax.Array:
    """`jnp.cumsum` of integers [N], as products with a triangle of ones: XLA compiles a few loops, not dozens."""
    rows = -(-len(counts) // _SUMMED)
    padded = jnp.pad(counts, (0, rows * _SUMMED - len(counts))).reshape(rows, _SUMMED)
    sums = padded @ np.triu(np.ones((_SUMMED, _SUMMED), counts.dtype))
    if rows > 1:
        totals = sums[:, -1]
        sums += (_prefix_sum(totals) - totals)[:, None]
    return sums.reshape(-1)[:len(counts)]


def _chunk(side: int, count: int) -> int:
    """Windows of side x side pixels drawn in one turn, of `count`."""
    candidates = CPU_CHUNK if backend().is_cpu else CHUNK
    return min(max(candidates // side**2, 1), count)


def _draw_in_turns(canvas, choose, total, chunk, *, side, first_code, per_image, width):
    """Draw `total` windows, `chunk` a turn.

    `choose(i)` gives turn i's set-up of triangles, their index, the corner (x, y) of each window in the triangle's box,
    and whether there is one at all. The loop is a pipeline: each turn draws the candidates made the turn before. Its
    carry is what forces them to memory, so that a key meets its very own bits after the scatter (recomputed in another
    fusion it may differ in the last bit, and the pixel would be lost). For the same reason the number of turns always
    depends on the data: a loop known to turn once would be dissolved.
    """
    pixels = canvas[0].shape[0]

    def turn(i, state):
        canvas = _draw(state[:2], *state[2:])
        mine, index, offset_x, offset_y, live = choose(i)
        mine["across"] = jnp.where(live, mine["across"], 0)
        code = first_code + _over(index, per_image)[1]
        return (*canvas, *_candidates(mine, offset_x, offset_y, code, side=side, width=width, pixels=pixels))

    nothing = jnp.zeros(chunk * side**2, jnp.int32)
    turns = -(-total // chunk)
    state = jax.lax.fori_loop(0, turns, turn, (*canvas, nothing, nothing + pixels, nothing))
    return _draw(state[:2], *state[2:])
