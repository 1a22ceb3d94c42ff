"""The inside of a mouth, painted from what is around it: a U-Net over a small frame that the lips lie level in.

Pixels are read and written in blocks of 2x2. The mask says what is to be painted; what the frame holds there is not
read. Architecture: U-Net (arXiv 1505.04597) with nearest up-sampling.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import MouthConfig
from pie_jax.nn.layers import Conv

_SLOPE = 0.2


class MouthNet(nn.Module):
    """frame [B, H, W, 3] sRGB in 0..1 and mask [B, H, W, 1] in 0..1 -> the frame with its mask painted, in 0..1."""

    config: MouthConfig

    @nn.compact
    def __call__(self, frame: Array, mask: Array) -> jax.Array:
        config = self.config
        check_shape("frame", frame, (None, config.height, config.width, 3))
        known = 1.0 - mask
        x = _to_blocks(jnp.concatenate([(frame - 0.5) * known, mask], axis=-1))
        kept = []
        for level, channels in enumerate(config.channels):
            if level > 0:
                kept.append(x)
                x = nn.avg_pool(x, (2, 2), (2, 2))
            x = self._convs(x, channels, f"down{level}")
        for level in range(len(config.channels) - 2, -1, -1):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = jnp.concatenate([x, kept[level]], axis=-1)
            x = self._convs(x, config.channels[level], f"up{level}")
        x = Conv(12, padding=1, use_bias=True, name="out")(x)
        return frame * known + jax.nn.sigmoid(_from_blocks(x)) * mask

    def _convs(self, x: Array, channels: int, name: str) -> jax.Array:
        for i in range(2):
            x = nn.leaky_relu(Conv(channels, padding=1, use_bias=True, name=f"{name}_{i}")(x), _SLOPE)
        return x


class MouthCritic(nn.Module):
    """A frame [B, H, W, 3] in 0..1 and its mask -> logits [B, h, w]: which patches look like a photographed mouth."""

    channels: tuple[int, ...] = (32, 64, 96)

    @nn.compact
    def __call__(self, frame: Array, mask: Array) -> jax.Array:
        x = _to_blocks(jnp.concatenate([2.0 * frame - 1.0, mask], axis=-1))
        for level, channels in enumerate(self.channels):
            x = nn.leaky_relu(Conv(channels, padding=1, use_bias=True, name=f"b{level}")(x), _SLOPE)
            if level > 0:
                x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.leaky_relu(Conv(self.channels[-1], padding=1, use_bias=True, name="middle")(x), _SLOPE)
        return Conv(1, 1, use_bias=True, name="out")(x)[..., 0]


def _to_blocks(x: Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _from_blocks(x: Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)
