"""The frame around a mouth that its inside is painted in: level with the corners, and as wide as they are apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, Weights
from pie_jax.config import MouthConfig
from pie_jax.nn.layers import apply
from pie_jax.nn.mouth import MouthNet
from pie_jax.photo.motion import Motion, sample
from pie_jax.photo.squares import Square
from pie_jax.photo.windows import widest, window_mean

CORNERS = (61, 291)  # of the 478 points, in the image from left to right
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_UPPER, _LOWER = INNER_LIPS[4:7], INNER_LIPS[14:17]  # the middle of both lines
_DOWN = 0.1  # of the frame's middle below the corners, in their distance: the jaw opens downwards
_GROW = 3  # px of the frame that are painted around the opening, for lips do not end where the mesh's do
_FEATHER = 3  # px over which the painting goes over to the lips


def opening(points: np.ndarray) -> float:
    """How far the inner lips of a mesh [478, 2 or more] are apart in the middle, as a share of the mouth's width."""
    apart = points[list(_LOWER), :2].mean(axis=0) - points[list(_UPPER), :2].mean(axis=0)
    return float(np.linalg.norm(apart) / np.linalg.norm(points[CORNERS[1], :2] - points[CORNERS[0], :2]))


def frame_square(left: np.ndarray, right: np.ndarray, config: MouthConfig) -> Square:
    """The square whose middle rows are the frame of a mouth with these corners [2], in their px."""
    across = right - left
    middle = (left + right) / 2 + _DOWN * np.array([-across[1], across[0]])
    side = float(np.hypot(*across)) * config.width / config.across
    return Square(x=float(middle[0]), y=float(middle[1]), side=side, angle=float(np.arctan2(across[1], across[0])))


def rows_of(config: MouthConfig) -> slice:
    """The rows of a square of `config.width` px that are the frame."""
    above = (config.width - config.height) // 2
    return slice(above, above + config.height)


def frame_axes(corners: Array, config: MouthConfig) -> tuple[jax.Array, jax.Array]:
    """Corners [2, 2] of a mouth -> the frame's top left [2], and its axes [2, 2]: one px across, one px down."""
    across = (corners[1] - corners[0]) / config.across
    axes = jnp.stack([across, jnp.stack([-across[1], across[0]])])
    middle = corners.mean(axis=0) + _DOWN * config.across * axes[1]
    return middle - config.width / 2 * axes[0] - config.height / 2 * axes[1], axes


def paint_mouth(config: MouthConfig, weights: Weights, portrait: Array, motion: Motion) -> tuple[jax.Array, jax.Array]:
    """The painted inside of a moved mouth on the map of its motion: colours [R, R, 3] in sRGB, and where, [R, R] 0..1.

    portrait [R, R, 3]: the photo's, sRGB, as it was, on the same map.
    """
    resolution = portrait.shape[0]
    corner, axes = frame_axes(motion.mouth_corners * resolution, config)
    y, x = jnp.meshgrid((jnp.arange(2 * config.height) + 0.5) / 2, (jnp.arange(2 * config.width) + 0.5) / 2,
                        indexing="ij")
    places = corner[None, None] + jnp.einsum("hwi,ij->hwj", jnp.stack([x, y], axis=-1), axes)
    read = sample(jnp.concatenate([motion.source, motion.mouth[..., None]], axis=-1), places)
    moved = sample(portrait, read[..., :2] * resolution)
    frame = jnp.concatenate([moved, read[..., 2:]], axis=-1)
    frame = frame.reshape(config.height, 2, config.width, 2, 4).mean(axis=(1, 3))
    mask = widest(frame[..., 3], _GROW)[..., None]
    painted = apply(MouthNet(config), weights, frame[None, ..., :3], mask[None])[0]
    alpha = jnp.minimum(window_mean(mask, _FEATHER), mask)
    inverse = jnp.linalg.inv(axes)
    y, x = jnp.meshgrid(jnp.arange(resolution) + 0.5, jnp.arange(resolution) + 0.5, indexing="ij")
    at = jnp.einsum("hwi,ij->hwj", jnp.stack([x - corner[0], y - corner[1]], axis=-1), inverse)
    inside = jnp.all((at >= 0) & (at <= jnp.asarray([config.width, config.height])[None, None]), axis=-1)
    back = sample(jnp.concatenate([painted, alpha], axis=-1), at)
    return back[..., :3], back[..., 3] * inside * motion.opened
