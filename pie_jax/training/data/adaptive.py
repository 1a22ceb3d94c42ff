"""Augmentation of what a discriminator sees, and the rule by which its probability follows overfitting.

The idea is that of adaptive discriminator augmentation (arXiv 2006.06676): real and generated images go through the
same random, differentiable changes, each made with a probability p below 1, so that they do not leak into what is
generated; p rises while the discriminator is too sure of the real images. Kinds of change and their strengths are those
of the paper's section 2.2 and appendix B, but for these: turns are at most 20 degrees, hues move at most 30 degrees,
nothing is mirrored here or turned by quarters, and a square may be cut out (arXiv 2006.10738).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array

LARGEST = 0.8  # probability; from about here on changes begin to leak (section 2.2)
TURN, HUE = jnp.pi / 9, jnp.pi / 6  # radians to either side
SCALE, SHIFT, STEP = 0.2, 0.125, 0.125  # log2 of sizes, shares of the side: normal, normal, uniform in whole pixels
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # of values in [-1, 1]; log2; log2
CUT = 0.5  # of the side
_LUMA = (3.0**-0.5,) * 3  # the axis of grey


def augment(key: Array, images_pm1: Array, probability: Array) -> jax.Array:
    """Each image on its own, every kind of change with `probability` []: images [B, R, R, 3] in [-1, 1] -> same."""
    where, colour, cut = jax.random.split(key, 3)
    images = _warp(images_pm1, _places(where, images_pm1, probability))
    return _cut(cut, _recolour(colour, images, probability), probability)


def adapt(probability: Array, certainty: Array, *, target: float, images: float, batch: int) -> jax.Array:
    """The next probability []: a step towards more where the discriminator is surer of real images than `target`.

    certainty: mean sign of its scores of real images, r_t of the paper; images: after so many of them p can have gone
    from 0 to 1.
    """
    return jnp.clip(probability + jnp.sign(certainty - target) * (batch / images), 0.0, LARGEST)


def _gate(key, count: int, probability, value):
    """`value` [count] where a coin of `probability` says so, else 0."""
    return jnp.where(jax.random.bernoulli(key, probability, (count,)), value, 0.0)


def _places(key, images, probability) -> jax.Array:
    """[B, R, R, 2]: row and column, in px, that each pixel is read at."""
    count, side = images.shape[:2]
    keys = iter(jax.random.split(key, 16))
    normal = lambda: jax.random.normal(next(keys), (count,))  # noqa: E731
    uniform = lambda: jax.random.uniform(next(keys), (count,), minval=-1.0)  # noqa: E731
    gated = lambda value: _gate(next(keys), count, probability, value)  # noqa: E731
    size, wide, turn = jnp.exp2(gated(SCALE * normal())), jnp.exp2(gated(SCALE * normal())), gated(TURN * uniform())
    whole = [jnp.round(gated(STEP * side * uniform())) for _ in range(2)]
    part = [gated(SHIFT * side * normal()) for _ in range(2)]
    middle = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2
    row, column = (grid[None] for grid in jnp.meshgrid(middle, middle, indexing="ij"))
    shift = [(a + b)[:, None, None] for a, b in zip(whole, part)]
    row, column = row - shift[0], column - shift[1]
    cos, sin = (jnp.cos(turn) / size)[:, None, None], (jnp.sin(turn) / size)[:, None, None]
    row, column = cos * row - sin * column, sin * row + cos * column
    wide = wide[:, None, None]
    return jnp.stack([row * wide, column / wide], axis=-1) + (side - 1) / 2


def _warp(images, places) -> jax.Array:
    """images [B, R, R, 3] read at places [B, R, R, 2] in px, between pixels linearly, reflected at the border."""
    count, side = images.shape[:2]
    places = (side - 1) - jnp.abs(jnp.mod(places, 2.0 * (side - 1)) - (side - 1))
    low = jnp.clip(jnp.floor(places), 0, side - 2)
    share = places - low
    corner = low.astype(jnp.int32).reshape(count, -1, 2)
    flat = images.reshape(count, -1, images.shape[-1])
    result = 0.0
    for down in (0, 1):
        for right in (0, 1):
            weight = (share[..., 0] if down else 1 - share[..., 0]) * (share[..., 1] if right else 1 - share[..., 1])
            index = (corner[..., 0] + down) * side + corner[..., 1] + right
            read = jax.vmap(lambda pixels, at: pixels[at])(flat, index)
            result = result + weight[..., None] * read.reshape(images.shape)
    return result


def _recolour(key, images, probability) -> jax.Array:
    """Brightness, contrast, hue and saturation as one matrix of each image's colours."""
    count = images.shape[0]
    keys = jax.random.split(key, 8)
    draws = (BRIGHTNESS * jax.random.normal(keys[0], (count,)), CONTRAST * jax.random.normal(keys[1], (count,)),
             HUE * jax.random.uniform(keys[2], (count,), minval=-1.0),
             SATURATION * jax.random.normal(keys[3], (count,)))
    light, contrast, hue, saturation = (_gate(k, count, probability, value) for k, value in zip(keys[4:], draws))
    axis = jnp.asarray(_LUMA)
    along = jnp.outer(axis, axis)[None]
    across = jnp.cross(jnp.eye(3), axis[None])[None]
    cos, sin = jnp.cos(hue)[:, None, None], jnp.sin(hue)[:, None, None]
    turned = cos * (jnp.eye(3)[None] - along) + sin * across  # of the part that is not grey
    matrix = jnp.exp2(contrast)[:, None, None] * (along + jnp.exp2(saturation)[:, None, None] * turned)
    moved = jnp.einsum("bhwc,bcd->bhwd", images, matrix)
    return moved + (light * jnp.exp2(contrast))[:, None, None, None]


def _cut(key, images, probability) -> jax.Array:
    """A square of CUT sides about a random middle set to 0."""
    count, side = images.shape[:2]
    place, coin = jax.random.split(key)
    middle = jax.random.uniform(place, (count, 2), maxval=float(side))
    reach = _gate(coin, count, probability, jnp.full((count,), CUT * side / 2))
    at = jnp.arange(side) + 0.5
    inside = [jnp.abs(at[None] - middle[:, k, None]) < reach[:, None] for k in (0, 1)]
    covered = inside[0][:, :, None] & inside[1][:, None, :]
    return jnp.where(covered[..., None], 0.0, images)
