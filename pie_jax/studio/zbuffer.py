"""The z-buffer of the studio: ids of the nearest triangles, fast and without gradients.

Triangles are binned by the side of their bounding box; every pixel of a K x K window is a candidate, and a
scatter-min of (depth, id) packed in 32 bits keeps the nearest. Each bin is worked off in chunks by a loop of as many
turns as the image needs, so the cost follows what is seen and no triangle is ever lost. `pie_jax.face3d.raster` is the
differentiable one; here triangles that face away are skipped and no weights are kept.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array

ID_BITS = 14  # at most 16 383 triangles
DEPTH_LEVELS = 2 ** (32 - ID_BITS) - 2
NONE = 0xFFFFFFFF
WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
CANDIDATES = 8192  # about so many pixels a chunk


def nearest_triangles(
    vertices_px: Array, triangles: Array, two_sided: Array, *, pixels: int, near: float = 6.0, far: float = 15.0
) -> jax.Array:
    """Triangle ids [P, P] int32 of one image, -1 where nothing is, P = `pixels`.

    vertices_px [V, 3]: pixel x and y (first centre at 0.5) and camera depth in near..far. triangles [T, 3],
    T < 16 384, wound anticlockwise seen from outside. two_sided [T]: drawn from behind too.
    """
    p = vertices_px[triangles]  # [T, 3, 3]
    x, y, depth = p[..., 0], p[..., 1], p[..., 2]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left, top = jnp.maximum(jnp.ceil(x.min(1) - 0.5), 0.0), jnp.maximum(jnp.ceil(y.min(1) - 0.5), 0.0)
    right = jnp.minimum(jnp.floor(x.max(1) - 0.5), pixels - 1.0)
    bottom = jnp.minimum(jnp.floor(y.max(1) - 0.5), pixels - 1.0)
    side = jnp.maximum(right - left, bottom - top) + 1.0
    # y points down in pixels: anticlockwise seen from outside is a negative area here
    seen = (right >= left) & (bottom >= top) & (jnp.abs(area) > 1e-9) & (two_sided | (area < 0))
    side = jnp.where(seen, side, 0.0)
    inverse = 1.0 / jnp.where(seen, area, 1.0)
    # affine functions of the pixel: weights of corners 1 and 2, and depth
    w1x, w1y = (y[:, 2] - y[:, 0]) * inverse, (x[:, 0] - x[:, 2]) * inverse
    w2x, w2y = (y[:, 0] - y[:, 1]) * inverse, (x[:, 1] - x[:, 0]) * inverse
    w1 = (left + 0.5 - x[:, 0]) * w1x + (top + 0.5 - y[:, 0]) * w1y
    w2 = (left + 0.5 - x[:, 0]) * w2x + (top + 0.5 - y[:, 0]) * w2y
    scale = DEPTH_LEVELS / (far - near)
    z0, z1, z2 = ((depth[:, k] - near) * scale for k in range(3))
    z1, z2 = z1 - z0, z2 - z0
    table = jnp.stack([left, top, w1, w1x, w1y, w2, w2x, w2y, z0, z1, z2], -1)
    keys = jnp.full(pixels * pixels + 1, jnp.uint32(NONE))
    low = 0
    for window in (*[w for w in WINDOWS if w < pixels], pixels):
        mask = (side > low) & (side <= window)
        low = window
        chunk = max(1, min(CANDIDATES // window**2, 1024))
        ids = jnp.nonzero(mask, size=triangles.shape[0] + chunk, fill_value=-1)[0]
        keys = jax.lax.fori_loop(
            0, (jnp.sum(mask) + chunk - 1) // chunk, _chunk(ids, table, chunk, window, pixels), keys
        )
    keys = keys[:-1].reshape(pixels, pixels)
    found = (keys & jnp.uint32(2**ID_BITS - 1)).astype(jnp.int32)
    return jnp.where(keys != jnp.uint32(NONE), found, -1)


def _chunk(ids, table, chunk, window, pixels):
    """The body of the loop over one bin: `chunk` triangles at a time into the keys."""
    steps = jnp.arange(window, dtype=jnp.float32)
    sx, sy = steps[None, None, :], steps[None, :, None]

    def body(turn, keys):
        some = jax.lax.dynamic_slice_in_dim(ids, turn * chunk, chunk)
        row = table[some]
        left, top, w1, w1x, w1y, w2, w2x, w2y, z0, z1, z2 = (row[:, k][:, None, None] for k in range(row.shape[1]))
        a = w1 + sx * w1x + sy * w1y  # [chunk, K, K]
        b = w2 + sx * w2x + sy * w2y
        px, py = left + sx, top + sy
        inside = (
            (a >= -1e-6)
            & (b >= -1e-6)
            & (a + b <= 1.0 + 1e-6)
            & (px < pixels)
            & (py < pixels)
            & (some >= 0)[:, None, None]
        )
        level = jnp.clip(z0 + a * z1 + b * z2, 0.0, DEPTH_LEVELS).astype(jnp.uint32)
        key = (level << ID_BITS) | some.astype(jnp.uint32)[:, None, None]
        pixel = jnp.where(inside, (py * pixels + px).astype(jnp.int32), pixels * pixels)
        return keys.at[pixel.reshape(-1)].min(key.reshape(-1), mode="promise_in_bounds")

    return body
