"""The MoFA regressor: a residual network from a face crop to the 257 FaceParams.

    params_vector = Regressor(config).apply({"params": weights}, crops_01)                              # inference
    params_vector, sown = Regressor(config).apply({"params": weights}, crops_01, train=True, mutable=["batch_stats"])
    weights = update_batch_stats(weights, sown["batch_stats"])          # `layers.BatchNorm` tells more

Layout of the weights, torchvision's names with "." written as "_" or a level (HWIO kernels, no bias but the head's):

    conv1/kernel [7, 7, 3, W]; bn1/{scale, bias, mean, var}
    layer{1..4}_{i}/conv{1..3}/kernel, /bn{1..3}/..., /downsample_conv/kernel, /downsample_bn/...
    head/kernel [F, 257], head/bias [257]          the seven final layers of Deep3D, concatenated in its order
    output_mean [257], output_std [257]            constants (0 and 1 in a converted network), their gradient is zero

Sources: ResNet (arXiv 1512.03385) as torchvision's `resnet50` (v1.5: the stride sits on the 3x3);
Deep3DFaceRecon (arXiv 1903.08527; sicxu/Deep3DFaceRecon_pytorch models/networks.py).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import RegressorConfig
from pie_jax.face3d.morphable import PARAMETERS
from pie_jax.nn.layers import BatchNorm, Conv, update_batch_stats, weight_of

__all__ = ["Regressor", "update_batch_stats"]


def max_pool(x: Array) -> jax.Array:
    """3x3 maximum with stride 2, padded by 1 with -inf; [B, H, W, C] -> [B, ceil(H/2), ceil(W/2), C]."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    # Maxima of slices: the gradient of XLA's own window is a scatter, which is slow on a CPU.
    rows = [x[:, i:i + height:2] for i in range(3)]
    x = jnp.maximum(jnp.maximum(rows[0], rows[1]), rows[2])
    columns = [x[:, :, i:i + width:2] for i in range(3)]
    return jnp.maximum(jnp.maximum(columns[0], columns[1]), columns[2])


class ResidualBlock(nn.Module):
    """Basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1 of 4 times the width) block; `stride` sits on the first 3x3."""

    features: int
    stride: int = 1
    bottleneck: bool = True

    @nn.compact
    def __call__(self, x: Array, train: bool) -> jax.Array:
        n, stride = self.features, self.stride
        convs = [(n, 1, 1), (n, 3, stride), (4 * n, 1, 1)] if self.bottleneck else [(n, 3, stride), (n, 3, 1)]
        y = x
        for i, (features, size, step) in enumerate(convs, start=1):
            y = Conv(features, size, step, padding=size // 2, name=f"conv{i}")(y)
            y = BatchNorm(name=f"bn{i}")(y, train)
            y = y if i == len(convs) else jax.nn.relu(y)
        if stride != 1 or x.shape[-1] != y.shape[-1]:
            x = Conv(y.shape[-1], 1, stride, name="downsample_conv")(x)
            x = BatchNorm(name="downsample_bn")(x, train)
        return jax.nn.relu(y + x)


class Regressor(nn.Module):
    """face_crop_01 [B, R, R, 3] RGB in 0..1 -> params_vector [B, 257] in real units and Deep3D's order.

    The network is fully convolutional up to a mean over pixels; R = config.resolution is what it was trained at.
    The convolutions compute in `dtype`, their normalisation, that mean and the head in the crop's float32.
    ValueError: not [B, *, *, 3].
    """

    config: RegressorConfig
    dtype: Any = None  # None: the crop's

    @nn.compact
    def __call__(self, face_crop_01: Array, *, train: bool = False) -> jax.Array:
        config = self.config
        check_shape("face_crop_01", face_crop_01, (None, None, None, 3))
        x = face_crop_01 if self.dtype is None else face_crop_01.astype(self.dtype)
        x = Conv(config.width, 7, 2, padding=3, name="conv1")(x)
        x = max_pool(jax.nn.relu(BatchNorm(name="bn1")(x, train)))
        for stage, blocks in enumerate(config.stage_sizes):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                x = ResidualBlock(config.width * 2**stage, stride, config.bottleneck, name=f"layer{stage + 1}_{i}")(
                    x, train)
        x = nn.Dense(PARAMETERS, name="head")(jnp.mean(x.astype(face_crop_01.dtype), axis=(1, 2)))
        mean = jax.lax.stop_gradient(weight_of(self, "output_mean", nn.initializers.zeros, (PARAMETERS,)))
        std = jax.lax.stop_gradient(weight_of(self, "output_std", nn.initializers.ones, (PARAMETERS,)))
        return x * std[None] + mean[None]
