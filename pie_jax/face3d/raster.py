"""Hard z-buffer rasterizer for triangle meshes, differentiable in vertices and attributes. It knows no faces.

Canvas: pixels of a [H, W] image, x right, y down, the centre of pixel (row i, column j) at (j + 0.5, i + 0.5).
Vertices carry (x px, y px, depth), depth > 0 in front of the camera. Visibility (which triangle a pixel sees) is
found without gradient; barycentric coordinates and depth are then recomputed per pixel from the three gathered
corners, so their gradients are analytic and exact away from edges. Edges themselves give no gradient.

A triangle is dropped whole when a corner is nearer than `near` (or not finite) and when it has no area; nothing is
clipped. A pixel centre exactly on an edge belongs to both neighbours, so meshes have no cracks; equal depths are
won by the triangle drawn last (larger size class, then larger index), whatever else is in the batch.

How: triangles whose box covers at most 2x2 pixel centres (most, in a face mesh) are tested densely in one go;
larger ones are cut into windows of 4x4 or 16x16 pixels, listed through one prefix sum and processed in chunks by a
loop with a dynamic trip count. So any size of triangle works and nothing depends on a guessed bucket size. A batch,
under `vmap` too, is one big list, never a loop per image. The depth test uses all 32 bits of 1 / depth.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from pie_jax.arrays import Array, check_shape
from pie_jax.runtime import backend

DENSE = 2  # boxes up to this side are tested densely
WINDOWS = ((4, 16), (16, None))  # (window side, largest box side it serves)
# Candidates tested in one turn of the loop: few stay in a CPU's cache, many leave a GPU fewer turns.
CHUNK, CPU_CHUNK = 1 << 15, 1 << 12
BOX_SLACK = 1e-4  # px
EDGE_TOLERANCE = 2.0**-21  # of the squared box: rounding of an edge function, so that neighbours leave no crack
AREA_TOLERANCE = 2.0**-20  # of the squared box: thinner triangles are dropped


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Fragments:
    """What the rasterizer saw at each pixel; leading dimensions are those of the vertices."""

    triangle_id: Array  # [..., H, W] int32, -1 where nothing was hit
    barycentric: Array  # [..., H, W, 3] perspective-correct, sums to 1 where hit, 0 elsewhere
    depth: Array  # [..., H, W] the vertices' depth, 0 where nothing was hit


def rasterize(vertices_px: Array, triangles: Array, *, height: int, width: int, near: float = 1e-6,
              cull_back: bool = False) -> Fragments:
    """Fragments of a mesh: the nearest triangle at each pixel centre.

    vertices_px [..., V, 3]: x px, y px, depth (> 0 in front of the camera), any real dtype.
    triangles [T, 3] int: corners, common to all leading dimensions.
    near: triangles with a corner at or nearer than this depth are dropped.
    cull_back: also drop triangles that wind anticlockwise on the canvas (y down), which are back faces when
    triangles wind anticlockwise seen from outside and y pointed up; by default both sides are drawn.
    ValueError: wrong shapes, or a canvas without pixels. Gradients flow to `vertices_px` through `barycentric` and
    `depth`, and are finite (zero) for empty pixels, zero-area triangles and triangles behind the camera.
    """
    check_shape("vertices_px", vertices_px, (None, 3))
    check_shape("triangles", triangles, (None, 3))
    if height < 1 or width < 1:
        raise ValueError(f"height, width: expected at least 1 pixel, got {height} x {width}")
    vertices_px, triangles = jnp.asarray(vertices_px), jnp.asarray(triangles, jnp.int32)
    leading = vertices_px.shape[:-2]
    if triangles.shape[0] == 0 or vertices_px.shape[-2] == 0:
        empty = jnp.zeros((*leading, height, width), vertices_px.dtype)
        return Fragments(triangle_id=jnp.full(empty.shape, -1, jnp.int32), depth=empty,
                         barycentric=jnp.zeros((*empty.shape, 3), vertices_px.dtype))
    flat = vertices_px.reshape(-1, *vertices_px.shape[-2:])
    visible = _visible(height, width, float(near), bool(cull_back))
    triangle_id = visible(jax.lax.stop_gradient(flat).astype(jnp.float32), triangles)
    barycentric, depth = jax.vmap(lambda v, i: _barycentric(v, triangles, i, width))(flat, triangle_id)
    return Fragments(triangle_id=triangle_id.reshape(*leading, height, width),
                     barycentric=barycentric.reshape(*leading, height, width, 3),
                     depth=depth.reshape(*leading, height, width))


def interpolate(fragments: Fragments, triangles: Array, attributes: Array) -> jax.Array:
    """Attributes [..., V, C] of the mesh's vertices at each pixel: [..., H, W, C], 0 where nothing was hit.

    `attributes` has the fragments' leading dimensions or none. Gradients flow to the attributes and, through
    `fragments.barycentric`, to the vertices.
    """
    check_shape("triangles", triangles, (None, 3))
    check_shape("attributes", attributes, (None, None))
    *leading, height, width = fragments.triangle_id.shape
    attributes, triangles = jnp.asarray(attributes), jnp.asarray(triangles, jnp.int32)
    channels = attributes.shape[-1]
    if triangles.shape[0] == 0 or attributes.shape[-2] == 0:
        return jnp.zeros((*leading, height, width, channels), attributes.dtype)
    attributes = jnp.broadcast_to(attributes, (*leading, *attributes.shape[-2:])).reshape(-1, *attributes.shape[-2:])
    flat = jax.vmap(lambda a, b, i: _interpolate(a, b, triangles, i))(
        attributes, fragments.barycentric.reshape(-1, height * width, 3),
        fragments.triangle_id.reshape(-1, height * width))
    return flat.reshape(*leading, height, width, channels)


def vertex_visibility(vertices_px: Array, fragments: Fragments, *, tolerance: float = 1e-3) -> jax.Array:
    """Which vertices are seen: [..., V] bool, without gradient. MoFA's photometric loss is a sum over these.

    vertices_px [..., V, 3] as given to `rasterize`. A vertex is seen when it lies on the canvas, in front of the
    camera, and is no deeper than the surface drawn at one of the four pixels around it by more than `tolerance`
    (relative to its depth); an empty pixel among the four counts as seen through.
    """
    check_shape("vertices_px", vertices_px, (None, 3))
    height, width = fragments.depth.shape[-2:]
    vertices_px = jax.lax.stop_gradient(jnp.asarray(vertices_px))
    depth = jax.lax.stop_gradient(jnp.where(fragments.triangle_id >= 0, fragments.depth, jnp.inf))
    x, y, z = (vertices_px[..., i] for i in range(3))
    on_canvas = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > 0)
    left = jnp.floor(jnp.clip(x, 0, width) - 0.5).astype(jnp.int32)
    top = jnp.floor(jnp.clip(y, 0, height) - 0.5).astype(jnp.int32)
    flat = depth.reshape(*depth.shape[:-2], height * width)
    surface = jnp.zeros_like(z)
    for dy in (0, 1):
        for dx in (0, 1):
            pixel = jnp.clip(top + dy, 0, height - 1) * width + jnp.clip(left + dx, 0, width - 1)
            surface = jnp.maximum(surface, jnp.take_along_axis(flat, pixel, axis=-1))
    return on_canvas & (z <= surface * (1 + tolerance))


def _corners(triangles, triangle_id):
    """Vertex indices of the triangle at each pixel, three [P]; those of triangle 0 where there is none."""
    corners = triangles[jnp.maximum(triangle_id, 0)]
    return [corners[:, k] for k in range(3)]


# Both functions below have hand-written gradients: the automatic ones are as right but build each element of the
# scattered rows in a kernel of its own, which is slower on a CPU.


@jax.custom_vjp
def _interpolate(attributes, barycentric, triangles, triangle_id):
    """Attributes [V, C] at pixels [P, C]; an empty pixel has barycentric 0, so it gives and receives nothing."""
    corners = _corners(triangles, triangle_id)
    return sum(attributes[corners[k]] * barycentric[:, k : k + 1] for k in range(3))


def _interpolate_forward(attributes, barycentric, triangles, triangle_id):
    return _interpolate(attributes, barycentric, triangles, triangle_id), (
        attributes, barycentric, triangles, triangle_id)


def _interpolate_backward(residuals, gradient):
    attributes, barycentric, triangles, triangle_id = residuals
    corners = _corners(triangles, triangle_id)
    # Added channel by channel: XLA:CPU takes ten times as long over a sum along an axis of three.
    products = [attributes[corners[k]] * gradient for k in range(3)]
    to_barycentric = jnp.stack([sum(product[:, c] for c in range(gradient.shape[-1])) for product in products], axis=-1)
    to_attributes = jnp.zeros_like(attributes)
    for k in range(3):
        to_attributes = to_attributes.at[corners[k]].add(gradient * barycentric[:, k : k + 1])
    return to_attributes, jnp.where((triangle_id >= 0)[:, None], to_barycentric, 0.0), None, None


_interpolate.defvjp(_interpolate_forward, _interpolate_backward)

HARMLESS = ((-1.0, -1.0, 1.0), (2.0, -1.0, 1.0), (-1.0, 2.0, 1.0))  # a triangle around the pixel, corner by corner


def _edges(vertices_px, triangles, triangle_id, width):
    """Corner indices, corners relative to the pixel centre, and edge functions, each a list of three [P].

    A pixel without a triangle computes on a harmless one, chosen before any division: no NaN reaches a gradient.
    """
    corners, hit = _corners(triangles, triangle_id), triangle_id >= 0
    pixel = jnp.arange(triangle_id.shape[0], dtype=jnp.int32)
    centre = (pixel % width).astype(vertices_px.dtype) + 0.5, (pixel // width).astype(vertices_px.dtype) + 0.5
    x, y = ([jnp.where(hit, vertices_px[:, i][corners[k]] - centre[i], HARMLESS[k][i]) for k in range(3)]
            for i in range(2))
    z = [jnp.where(hit, vertices_px[:, 2][corners[k]], HARMLESS[k][2]) for k in range(3)]
    edges = [x[(k + 1) % 3] * y[(k + 2) % 3] - x[(k + 2) % 3] * y[(k + 1) % 3] for k in range(3)]
    return corners, x, y, z, edges


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _barycentric(vertices_px, triangles, triangle_id, width):
    """Perspective-correct barycentrics [P, 3] and depth [P] at the centres of pixels that see `triangle_id` [P].

    With edge functions e_k and depths z_k of the corners: b_k = (e_k / z_k) / sum, depth = sum e_k / sum (e_k / z_k).
    """
    _, _, _, z, edges = _edges(vertices_px, triangles, triangle_id, width)
    weights = [edges[k] / z[k] for k in range(3)]
    total = weights[0] + weights[1] + weights[2]  # twice the area over depth: not 0 for a triangle that was drawn
    hit = triangle_id >= 0
    barycentric = jnp.stack([jnp.where(hit, weight / total, 0.0) for weight in weights], axis=-1)
    return barycentric, jnp.where(hit, (edges[0] + edges[1] + edges[2]) / total, 0.0)


def _barycentric_forward(vertices_px, triangles, triangle_id, width):
    out = _barycentric(vertices_px, triangles, triangle_id, width)
    return out, (vertices_px, triangles, triangle_id, *out)


def _barycentric_backward(width, residuals, gradients):
    vertices_px, triangles, triangle_id, barycentric, depth = residuals
    hit = triangle_id >= 0
    to_b = [jnp.where(hit, gradients[0][:, k], 0.0) for k in range(3)]
    to_depth = jnp.where(hit, gradients[1], 0.0)
    corners, x, y, z, edges = _edges(vertices_px, triangles, triangle_id, width)
    inverse_total = 1.0 / (edges[0] / z[0] + edges[1] / z[1] + edges[2] / z[2])
    mean = sum(to_b[k] * barycentric[:, k] for k in range(3)) + to_depth * depth
    to_weight = [(to_b[k] - mean) * inverse_total for k in range(3)]
    to_edge = [to_weight[k] / z[k] + to_depth * inverse_total for k in range(3)]
    to_corner = [
        [to_edge[k - 1] * y[(k + 1) % 3] - to_edge[(k + 1) % 3] * y[k - 1] for k in range(3)],
        [to_edge[(k + 1) % 3] * x[k - 1] - to_edge[k - 1] * x[(k + 1) % 3] for k in range(3)],
        [-to_weight[k] * edges[k] / (z[k] * z[k]) for k in range(3)],
    ]
    columns = []
    for i in range(3):
        column = jnp.zeros(vertices_px.shape[0], vertices_px.dtype)
        for k in range(3):
            column = column.at[corners[k]].add(jnp.where(hit, to_corner[i][k], 0.0))
        columns.append(column)
    return jnp.stack(columns, axis=-1), None, None


_barycentric.defvjp(_barycentric_forward, _barycentric_backward)


@functools.cache
def _visible(height: int, width: int, near: float, cull_back: bool):
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

    shortest, code = DENSE, 0
    windows = jnp.where(longest <= DENSE, jnp.ones_like(longest), 0)
    canvas = _draw_windows(canvas, setup, windows, None, DENSE, code, per_image, width)
    for side, limit in WINDOWS:
        mine = (longest > shortest) & (longest <= limit) if limit else longest > shortest
        shortest, code = limit, code + per_image
        windows = jnp.where(mine, _windows_along(setup["across"], side) * _windows_along(setup["down"], side), 0)
        ends = jax.lax.associative_scan(jnp.add, windows)
        canvas = _draw_windows(canvas, setup, windows, ends, side, code, per_image, width)
    winner = canvas[1].reshape(batch, height * width)
    return jnp.where(winner >= 0, _over(winner, per_image)[1], -1)


def _over(count, by):
    """Quotient and remainder of count >= 0 by `by` > 0: `//` and `%` also mind signs, at a price on a CPU."""
    by = jnp.broadcast_to(by, count.shape).astype(count.dtype)
    return jax.lax.div(count, by), jax.lax.rem(count, by)


def _windows_along(pixels, side):
    """How many windows of `side` cover so many pixels."""
    return _over(pixels + (side - 1), side)[0]


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


def _draw_windows(canvas, setup, windows, ends, side, first_code, per_image, width):
    """Draw all windows of side x side pixels; `windows` [B * T] a triangle, `ends` their prefix sum.

    With `ends` None every triangle has one window or none. The loop is a pipeline: each turn draws the candidates made
    the turn before. Its carry is what forces them to memory, so that a key meets its very own bits after the scatter
    (recomputed in another fusion it may differ in the last bit, and the pixel would be lost). For the same reason the
    number of turns always depends on the data: a loop known to turn once would be dissolved.
    """
    count, pixels = windows.shape[0], canvas[0].shape[0]
    candidates = CPU_CHUNK if backend().is_cpu else CHUNK
    chunk = min(max(candidates // side**2, 1), count)
    total = jnp.max(windows) * count if ends is None else ends[-1]

    def turn(i, state):
        canvas = _draw(state[:2], *state[2:])
        item = i * chunk + jnp.arange(chunk, dtype=jnp.int32)
        if ends is None:
            start = jnp.minimum(i * chunk, count - chunk)  # the last turn may visit some again, which changes nothing
            mine = {name: jax.lax.dynamic_slice(value, (start,), (chunk,)) for name, value in setup.items()}
            index = start + jnp.arange(chunk, dtype=jnp.int32)
            offset_x = offset_y = jnp.zeros(chunk, jnp.int32)
            live = jax.lax.dynamic_slice(windows, (start,), (chunk,)) > 0
        else:
            index = jnp.minimum(jnp.searchsorted(ends, item, side="right").astype(jnp.int32), count - 1)
            mine = {name: value[index] for name, value in setup.items()}
            window = item - (ends[index] - windows[index])
            row, column = _over(window, jnp.maximum(_windows_along(mine["across"], side), 1))
            offset_x, offset_y = column * side, row * side
            live = item < total
        mine["across"] = jnp.where(live, mine["across"], 0)
        code = first_code + _over(index, per_image)[1]
        return (*canvas, *_candidates(mine, offset_x, offset_y, code, side=side, width=width, pixels=pixels))

    nothing = jnp.zeros(chunk * side**2, jnp.int32)
    turns = -(-total // chunk)
    state = jax.lax.fori_loop(0, turns, turn, (*canvas, nothing, nothing + pixels, nothing))
    return _draw(state[:2], *state[2:])
