"""The frame around a mouth that its inside is painted in: level with the corners, and as wide as they are apart."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, Weights
from pie_jax.config import MouthConfig
from pie_jax.nn.layers import apply
from pie_jax.nn.mouth import MouthNet
from pie_jax.photo.maps import sample, sample_packed, without_colour
from pie_jax.photo.motion import Motion
from pie_jax.photo.squares import Square
from pie_jax.photo.windows import widest, window_mean

CORNERS = (61, 291)  # of the 478 points, in the image from left to right
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_UPPER, _LOWER = INNER_LIPS[4:7], INNER_LIPS[14:17]  # the middle of both lines
_DOWN = 0.1  # of the frame's middle below the corners, in their distance: the jaw opens downwards
_HOLDS = 0.75  # distance of the lips, in that of the corners, up to which the frame holds an opening
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Painting:
    """The painted inside of a moved mouth, in its frame."""

    frame: Array  # [H, W] packed: sRGB, and how much of it is shown
    corner: Array  # [2] top left of the frame, in 0..1 of the portrait
    axes: Array  # [2, 2] one px of the frame across, one down, in 0..1 of the portrait

    def at(self, x: Array, y: Array) -> tuple[list[jax.Array], jax.Array]:
        """Its colours (sRGB in 0..1, three planes) and its share, 0..1, at x and y in 0..1 of the portrait."""
        inverse = jnp.linalg.inv(self.axes)
        right, below = x - self.corner[0], y - self.corner[1]
        u, v = (right * inverse[0, i] + below * inverse[1, i] for i in range(2))
        height, width = self.frame.shape
        inside = (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
        read = [value / 255.0 for value in sample_packed(self.frame, u, v)]
        return read[:3], jnp.where(inside, read[3], 0.0)


def paint_mouth(config: MouthConfig, weights: Weights, portrait: Array, grey: Array, motion: Motion) -> Painting:
    """Paint the inside of a moved mouth.

    portrait [3, R, R]: the photo's, sRGB in 0..1, as it was, on the map of the motion. grey []: it has no colour.
    """
    resolution = portrait.shape[-1]
    middle, larger = motion.mouth_corners.mean(axis=0, keepdims=True), jnp.maximum(motion.gap / _HOLDS, 1.0)
    corner, axes = frame_axes(middle + larger * (motion.mouth_corners - middle), config)
    u, v = (jnp.arange(2 * side) + 0.5 for side in (config.width, config.height))
    u, v = u[None, :] / 2, v[:, None] / 2
    x, y = ((corner[i] + u * axes[0, i] + v * axes[1, i]) * resolution for i in range(2))
    dx, dy, mask = sample(jnp.concatenate([motion.displacement, motion.mouth[None]]), x, y)
    frame = jnp.concatenate([sample(portrait, x + dx, y + dy), mask[None]])
    frame = frame.reshape(4, config.height, 2, config.width, 2).mean(axis=(2, 4))
    mask = widest(frame[3], _GROW)[..., None]
    painted = apply(MouthNet(config), weights, jnp.moveaxis(frame[:3], 0, -1)[None], mask[None])[0]
    painted = jnp.moveaxis(without_colour(jnp.moveaxis(painted, -1, 0), grey), 0, -1)
    alpha = jnp.minimum(window_mean(mask, _FEATHER), mask) * motion.opened
    values = jnp.round(jnp.clip(jnp.concatenate([painted, alpha], axis=-1), 0.0, 1.0) * 255.0).astype(jnp.uint32)
    packed = values[..., 0] | values[..., 1] << 8 | values[..., 2] << 16 | values[..., 3] << 24
    return Painting(frame=packed, corner=corner, axes=axes)
