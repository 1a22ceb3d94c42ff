"""Random degradation of studio renders, so that networks trained on them also read a generator's images and photos.

Colour and blur only: nothing moves, so landmarks and FaceParams stay true.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.imaging import resize_area


def _blur(images: Array) -> jax.Array:
    """[1, 2, 1] / 4 along both axes, edges repeated. [B, H, W, 3] -> [B, H, W, 3]"""
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (1, 1)
        padded = jnp.pad(images, pad, mode="edge")
        n = images.shape[axis]
        a, b, c = (jax.lax.slice_in_dim(padded, k, k + n, axis=axis) for k in range(3))
        images = 0.25 * a + 0.5 * b + 0.25 * c
    return images


def _half_and_back(images: Array) -> jax.Array:
    """Area-halved and enlarged linearly: the detail of half the resolution. H, W even. [B, H, W, 3] -> same."""
    half = resize_area(images, (images.shape[1] // 2, images.shape[2] // 2))
    return jax.image.resize(half, images.shape, "linear", antialias=False)


def degrade(key: jax.Array, images_01: Array, *, strength: float = 1.0) -> jax.Array:
    """Each image on its own: a random mix with its blurred and half-resolution self, contrast, colour, noise.

    images_01 [B, H, W, 3], H and W even; strength 0 leaves them alone, 1 is what the demo pack uses: contrast and
    channel gains of +-12 %, offset +-0.04, noise of up to 0.03. Returns [B, H, W, 3], clipped to [0, 1].
    """
    batch = images_01.shape[0]
    keys = jax.random.split(key, 6)
    pick = jax.random.uniform(keys[0], (batch, 1, 1, 1))
    mix = jax.random.uniform(keys[1], (batch, 1, 1, 1)) * strength
    blurred = _blur(images_01)
    degraded = jnp.where(pick < 0.35, blurred, jnp.where(pick < 0.7, _half_and_back(images_01), _blur(blurred)))
    images = images_01 + mix * (degraded - images_01)
    gain = 1.0 + 0.12 * strength * jax.random.uniform(keys[2], (batch, 1, 1, 1), minval=-1.0)
    tint = 1.0 + 0.05 * strength * jax.random.uniform(keys[3], (batch, 1, 1, 3), minval=-1.0)
    offset = 0.04 * strength * jax.random.uniform(keys[4], (batch, 1, 1, 1), minval=-1.0)
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    images = ((images - mean) * gain + mean) * tint + offset
    noise_key, level_key = jax.random.split(keys[5])
    level = 0.03 * strength * jax.random.uniform(level_key, (batch, 1, 1, 1))
    return jnp.clip(images + level * jax.random.normal(noise_key, images.shape), 0.0, 1.0)
