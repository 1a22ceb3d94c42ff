"""What is around a head, read from its code by one linear map: an edit is to leave it alone.

None of StyleRig's losses sees the background, and a rig moves it for nothing. The map goes from W+ to a small image of
the face crop, fitted by ridge regression to a pool of codes; it needs no synthesis.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.errors import PieError
from pie_jax.training.data import codes

SIDE = 16  # px of the small image
MOST = 8000  # codes that it is fitted to: the matrix that is solved has as many rows and columns
RIDGE = (0.1, 1.0, 10.0)  # in mean squared lengths of a code; the best on held-out codes is taken
_BLOCK = 256  # images shrunk at once


def fit(pool: codes.Codes, *, num_layers: int) -> tuple[np.ndarray, float]:
    """The map [L D, SIDE * SIDE * 3] from a code's change to the small image's (0..1), and its R^2 on held-out codes.

    PieError: the pool's images cannot be shrunk to SIDE px.
    """
    if pool.images.shape[1] % SIDE:
        raise PieError(f"codes: their images have {pool.images.shape[1]} px, not a multiple of {SIDE}; make them at "
                       "another render_resolution, or pass --weight-background 0")

    def read(first, count):
        rows = {name: jnp.asarray(getattr(pool, name)[first:first + count]) for name in ("w_a", "w_b", "cross")}
        w_plus = np.asarray(codes.w_plus_of(rows, num_layers=num_layers))
        small = [_shrink(pool.images[i:min(i + _BLOCK, first + count)]) for i in range(first, first + count, _BLOCK)]
        return w_plus.reshape(count, -1), np.concatenate(small).reshape(count, -1)

    known = len(pool) - pool.held_out
    x, y = read(0, min(known, MOST))
    x_unseen, y_unseen = read(known, pool.held_out)
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram, found = x @ x.T, []  # the dual form: fewer rows than entries of W+
    for ridge in RIDGE:
        matrix = x.T @ np.linalg.solve(gram + ridge * np.mean(np.diag(gram)) * np.eye(len(x), dtype=x.dtype), y)
        error = np.mean(np.square((x_unseen - x_mean) @ matrix + y_mean - y_unseen))
        found.append((1.0 - error / np.mean(np.square(y_unseen - y_mean)), matrix))
    best, matrix = max(found, key=lambda pair: pair[0])
    return matrix.astype(np.float32), float(best)


def _shrink(images):
    """uint8 [N, R, R, 3] -> float32 [N, SIDE, SIDE, 3] in 0..1."""
    step = images.shape[1] // SIDE
    return images.reshape(len(images), SIDE, step, SIDE, step, 3).mean((2, 4), dtype=np.float32) / 255


def background_weights(landmarks: Array) -> jax.Array:
    """Landmarks [B, 66, 2], 0..1 of the face crop -> weights [B, SIDE, SIDE, 1] in 0..1: 1 well outside the head.

    Below the chin, where clothes are lit and shoulders turn, weights are 0.
    """
    low, high = jnp.min(landmarks, axis=1), jnp.max(landmarks, axis=1)
    centre, half = 0.5 * (low + high), 0.5 * (high - low)
    grid = (jnp.arange(SIDE, dtype=landmarks.dtype) + 0.5) / SIDE
    x = (grid[None, None, :] - centre[:, :1, None]) / half[:, :1, None]
    y = (grid[None, :, None] - centre[:, 1:, None]) / half[:, 1:, None]
    distance = jnp.sqrt(jnp.square(x / 1.75) + jnp.square((y + 0.9) / 2.6))  # the points end at the brows
    above = jnp.clip(4.0 * (1.0 - y), 0.0, 1.0)
    return (jnp.clip(4.0 * (distance - 1.0), 0.0, 1.0) * above)[..., None]


def background_change(matrix: Array, change: Array, weights: Array) -> jax.Array:
    """Mean square change, in grey levels of 0..1, of the small image where `weights` are, as `matrix` reads it.

    change [B, L, D] of codes, weights [B, SIDE, SIDE, 1] of `background_weights`.
    """
    image = jnp.matmul(change.reshape(change.shape[0], -1), matrix).reshape(-1, SIDE, SIDE, 3)
    return jnp.sum(weights * jnp.square(image)) / (3.0 * jnp.sum(weights) + 1e-6)
