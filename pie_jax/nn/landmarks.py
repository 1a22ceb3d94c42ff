"""The landmark network: FAN, stacked hourglasses to heat maps, and their sub-pixel maximum.

    heat_maps = LandmarkNet(config).apply({"params": weights}, crops_01)        # one [B, R/4, R/4, 66] for each stack
    points = soft_argmax(heat_maps[-1])                                         # [B, 66, 2] x, y in 0..1 of the crop

Training form: `train=True, mutable=["batch_stats"]`, see `layers.BatchNorm`.

Layout of the weights, the public network's names (W = width, HWIO kernels, BatchNorm {scale, bias, mean, var}):

    conv1/{kernel [7, 7, 3, W/4], bias}, bn1, conv2, conv3, conv4 (blocks)
    for each stack i: m{i}/{b1_L, b2_L, b3_L, b2_plus_1} (L = depth..1), top_m_{i} (blocks),
        conv_last{i}/{kernel, bias}, bn_end{i}, l{i}/{kernel [1, 1, W, K], bias}, and bl{i}, al{i} unless it is the last
    block: bn1..bn3, conv1..conv3/kernel, and downsample_bn, downsample_conv/kernel where the channels change

Sources: Bulat and Tzimiropoulos (arXiv 1703.07332); 1adrianb/face-alignment models.py.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import LandmarkConfig
from pie_jax.nn.layers import BatchNorm, Conv, update_batch_stats

__all__ = ["FROM_68", "LandmarkNet", "soft_argmax", "update_batch_stats"]

FROM_68 = tuple(i for i in range(68) if i not in (60, 64))  # iBUG-68 without the two inner mouth corners


def average_pool(x: Array) -> jax.Array:
    """2x2 mean with stride 2, [B, H, W, C] -> [B, H/2, W/2, C]."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def nearest_upsample(x: Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C], each pixel four times."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


class ConvBlock(nn.Module):
    """Three pre-activated 3x3 convolutions of C/2, C/4, C/4 channels, concatenated, plus the (projected) input."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> jax.Array:
        half, quarter = self.features // 2, self.features // 4
        outputs, y = [], x
        for i, features in enumerate((half, quarter, self.features - half - quarter), start=1):
            y = Conv(features, padding=1, name=f"conv{i}")(jax.nn.relu(BatchNorm(name=f"bn{i}")(y, train)))
            outputs.append(y)
        if x.shape[-1] != self.features:
            x = jax.nn.relu(BatchNorm(name="downsample_bn")(x, train))
            x = Conv(self.features, 1, name="downsample_conv")(x)
        return jnp.concatenate(outputs, axis=-1) + x


class HourGlass(nn.Module):
    """A pyramid of ConvBlocks, `depth` means of 2x2 down and as many nearest up-samplings."""

    depth: int
    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> jax.Array:
        sides = []
        for level in range(self.depth, 0, -1):
            sides.append((level, ConvBlock(self.features, name=f"b1_{level}")(x, train)))
            x = ConvBlock(self.features, name=f"b2_{level}")(average_pool(x), train)
        x = ConvBlock(self.features, name="b2_plus_1")(x, train)
        for level, side in reversed(sides):
            x = nearest_upsample(ConvBlock(self.features, name=f"b3_{level}")(x, train)) + side
        return x


class LandmarkNet(nn.Module):
    """face_crop_01 [B, R, R, 3] RGB in 0..1 -> one heat map [B, R/4, R/4, 66] for each stack; the last is the answer.

    With num_points 68 (the public FAN) the network works with 68 and returns the project's 66 of them.
    ValueError: R is not a multiple of 4 * 2^depth.
    """

    config: LandmarkConfig

    @nn.compact
    def __call__(self, face_crop_01: Array, *, train: bool = False) -> list[jax.Array]:
        config = self.config
        check_shape("face_crop_01", face_crop_01, (None, None, None, 3))
        multiple = 4 * 2**config.depth
        if face_crop_01.shape[1] % multiple or face_crop_01.shape[2] % multiple:
            raise ValueError(f"face_crop_01: sides must be multiples of {multiple}, got {face_crop_01.shape[1:3]}")
        width = config.width
        x = Conv(width // 4, 7, 2, padding=3, use_bias=True, name="conv1")(face_crop_01)
        x = jax.nn.relu(BatchNorm(name="bn1")(x, train))
        x = average_pool(ConvBlock(width // 2, name="conv2")(x, train))
        x = ConvBlock(width // 2, name="conv3")(x, train)
        x = ConvBlock(width, name="conv4")(x, train)
        heat_maps = []
        for i in range(config.stacks):
            y = HourGlass(config.depth, width, name=f"m{i}")(x, train)
            y = ConvBlock(width, name=f"top_m_{i}")(y, train)
            y = Conv(width, 1, use_bias=True, name=f"conv_last{i}")(y)
            y = jax.nn.relu(BatchNorm(name=f"bn_end{i}")(y, train))
            heat_map = Conv(config.num_points, 1, use_bias=True, name=f"l{i}")(y)
            if i < config.stacks - 1:
                x = x + Conv(width, 1, use_bias=True, name=f"bl{i}")(y)
                x = x + Conv(width, 1, use_bias=True, name=f"al{i}")(heat_map)
            if config.num_points == len(FROM_68) + 2:
                heat_map = heat_map[..., jnp.asarray(FROM_68)]
            heat_maps.append(heat_map)
        return heat_maps


def soft_argmax(heat_maps: Array, *, window: float = 2.0, iterations: int = 6) -> jax.Array:
    """heat_maps [B, h, w, K] (bumps on zero) -> points [B, K, 2], x and y in 0..1 of the crop, differentiable.

    Mean shift: from the largest pixel, the centroid of the positive part under a Gaussian window of deviation
    `window` (pixels of the map), re-centred `iterations` times. A window that follows the peak has no bias for a
    symmetric bump. Where a map is nowhere positive the answer is its largest pixel, with gradient zero.
    """
    check_shape("heat_maps", heat_maps, (None, None, None, None))
    batch, height, width, points = heat_maps.shape
    mass = jnp.maximum(heat_maps.astype(jnp.float32), 0.0)
    top = jnp.argmax(heat_maps.reshape(batch, height * width, points), axis=1)
    start = jnp.stack([top % width, top // width], axis=-1).astype(jnp.float32)  # [B, K, 2]
    at = start
    columns, rows = (jnp.arange(n, dtype=jnp.float32).reshape(1, 1, n) for n in (width, height))
    for _ in range(iterations):
        by_column = jnp.exp(-0.5 * jnp.square((columns - at[:, :, 0:1]) / window))  # [B, K, w]
        by_row = jnp.exp(-0.5 * jnp.square((rows - at[:, :, 1:2]) / window))  # [B, K, h]
        along = jnp.einsum("bhwk,bkh->bkw", mass, by_row) * by_column
        across = jnp.einsum("bhwk,bkw->bkh", mass, by_column) * by_row
        total = jnp.sum(along, axis=-1)
        empty = total <= 1e-12
        safe = jnp.where(empty, 1.0, total)  # the division is taken where it is finite only
        centroid = jnp.stack([jnp.sum(along * columns, axis=-1), jnp.sum(across * rows, axis=-1)], axis=-1)
        moved = centroid / safe[..., None]
        at = jnp.where(empty[..., None], start, moved)
    size = jnp.asarray([width, height], jnp.float32).reshape(1, 1, 2)
    return (at + 0.5) / size


