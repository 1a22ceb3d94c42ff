"""Hard z-buffer rasterizer for triangle meshes, differentiable in vertices and attributes. It knows no faces.

Canvas: pixels of a [H, W] image, x right, y down, the centre of pixel (row i, column j) at (j + 0.5, i + 0.5).
Vertices carry (x px, y px, depth), depth > 0 in front of the camera. Visibility (which triangle a pixel sees) is
found without gradient; barycentric coordinates and depth are then recomputed per pixel from the three gathered
corners, so their gradients are analytic and exact away from edges. Edges themselves give no gradient.

A triangle is dropped whole when a corner is nearer than `near` (or not finite) and when it has no area; nothing is
clipped. A pixel centre exactly on an edge belongs to both neighbours, so meshes have no cracks; equal depths are
won by the triangle drawn last (larger size class, then larger index), whatever else is in the batch.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.face3d.visibility import visible_triangles


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
    visible = visible_triangles(height, width, float(near), bool(cull_back))
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
    out: Any = _barycentric(vertices_px, triangles, triangle_id, width)
    barycentric, depth = out
    return (barycentric, depth), (vertices_px, triangles, triangle_id, barycentric, depth)


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
