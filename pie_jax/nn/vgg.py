"""VGG-16 and VGG-Face: features at named layers, with the networks' own input normalisation.

    features = VGG(config).apply({"params": weights}, images_01)        # {"conv1_1": [B, R, R, 64], ..., "fc7": ...}

Layout of the weights: conv{b}_{i}/kernel [3, 3, I, O], /bias [O]; fc6/kernel [R/32, R/32, 8 width, fc_width] (7x7 at
224 px, MatConvNet's own shape; a torch Linear wants its CHW columns permuted), fc7/kernel [fc_width, fc_width],
fc8/kernel [fc_width, num_classes], each with /bias. Only the layers that the config needs exist.

With config.heads also head_{layer} [C] for each layer asked for, LPIPS's linear heads (not negative): the features are
then unit vectors over the channels times sqrt(C head), so that the mean squared differences of all layers sum to LPIPS.
The published distance has heads at conv1_2, conv2_2, conv3_3, conv4_3, conv5_3.

Sources: arXiv 1409.1556; LPIPS (arXiv 1801.03924; richzhang/PerceptualSimilarity lpips/lpips.py); VGG-Face (Parkhi et
al., BMVC 2015). For VGG-Face: mean_rgb (129.186, 104.762, 93.594), std_rgb (1, 1, 1), resolution 224, fc_width 4096,
num_classes 2622.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import VGGConfig
from pie_jax.nn.layers import Conv, weight_of

__all__ = ["CONVOLUTIONS", "VGG", "layers_needed", "resize"]

_BLOCKS = (2, 2, 3, 3, 3)
CONVOLUTIONS = tuple(f"conv{block}_{i}" for block, count in enumerate(_BLOCKS, 1) for i in range(1, count + 1))


def layers_needed(config: VGGConfig) -> tuple[str, ...]:
    """The convolutions the network computes, and has weights for: up to the deepest one asked for, all with fc6.

    ValueError: a layer name that the network does not have.
    """
    if config.fc_width > 0:
        known = (*CONVOLUTIONS, "fc6", "fc7", "fc7_pre") + (("fc8",) if config.num_classes > 0 else ())
    else:
        known = CONVOLUTIONS
    for name in config.layers:
        if name not in known:
            raise ValueError(f"layers: expected some of {known}, got {name!r}")
    if config.fc_width > 0:
        return CONVOLUTIONS
    return CONVOLUTIONS[:1 + max((CONVOLUTIONS.index(name) for name in config.layers), default=-1)]


def resize(images: Array, *, resolution: int) -> jax.Array:
    """[B, H, W, C] -> [B, R, R, C]: mean over whole pixels when R divides H and W, else antialiased bilinear."""
    batch, height, width, channels = images.shape
    if height == width == resolution:
        return images
    if height % resolution == 0 and width % resolution == 0:
        rows, columns = height // resolution, width // resolution
        return jnp.mean(images.reshape(batch, resolution, rows, resolution, columns, channels), axis=(2, 4))
    return jax.image.resize(images, (batch, resolution, resolution, channels), "linear", antialias=True)


def max_pool(x: Array) -> jax.Array:
    """2x2 maximum with stride 2; an odd last row or column is dropped. [B, H, W, C] -> [B, H/2, W/2, C]."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    top = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(top[:, :, 0:width:2], top[:, :, 1:width:2])


class VGG(nn.Module):
    """images_01 [B, H, W, 3] RGB in 0..1 -> {layer: features}, after ReLU (`fc7_pre` before it, `fc8` logits).

    Resizes to config.resolution, subtracts mean_rgb and divides by std_rgb in 0..255, and stops after the deepest
    layer asked for. The dictionary has config.layers, and fc6, fc7, fc7_pre (and fc8) where the config has them.
    The convolutions compute in `dtype`; the normalisation before them, LPIPS's lengths, the dots after them and all
    features returned are float32.
    """

    config: VGGConfig
    dtype: Any = None  # None: the images'

    @nn.compact
    def __call__(self, images_01: Array) -> dict[str, jax.Array]:
        config = self.config
        check_shape("images_01", images_01, (None, None, None, 3))
        needed = layers_needed(config)
        mean = jnp.asarray(config.mean_rgb, jnp.float32).reshape(1, 1, 1, 3)
        std = jnp.asarray(config.std_rgb, jnp.float32).reshape(1, 1, 1, 3)
        x = (255.0 * resize(images_01, resolution=config.resolution) - mean) / std
        full, x = x.dtype, x if self.dtype is None else x.astype(self.dtype)
        features = {}
        for name in needed:
            block, index = (int(part) for part in name[4:].split("_"))
            if index == 1 and block > 1:
                x = max_pool(x)
            channels = config.width * min(2 ** (block - 1), 8)
            x = jax.nn.relu(Conv(channels, padding=1, use_bias=True, name=name)(x))
            if name in config.layers:
                features[name] = x.astype(full)
                if config.heads:
                    features[name] = self._weighed(name, features[name])
        if config.fc_width > 0:
            x = max_pool(x).astype(full)
            features["fc6"] = jax.nn.relu(Flat(config.fc_width, name="fc6")(x))
            features["fc7_pre"] = nn.Dense(config.fc_width, kernel_init=nn.initializers.he_normal(), name="fc7")(
                features["fc6"])
            features["fc7"] = jax.nn.relu(features["fc7_pre"])
            if config.num_classes > 0:
                features["fc8"] = nn.Dense(config.num_classes, name="fc8")(features["fc7"])
        return features

    def _weighed(self, name: str, x: Array) -> jax.Array:
        """x [B, H, W, C] as unit vectors times sqrt(C head): LPIPS is the mean square of a difference of such."""
        channels = x.shape[-1]
        head = weight_of(self, f"head_{name}", nn.initializers.constant(1.0 / channels), (channels,))
        squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
        # a pixel where all channels are 0 stays 0: the root, of slope infinity there, is taken of 1
        length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
        return x / (length + 1e-10) * jnp.sqrt(channels * jnp.maximum(head, 0.0)).reshape(1, 1, 1, -1)


class Flat(nn.Module):
    """x [B, H, W, C] -> [B, features]: one dot over the whole map; kernel [H, W, C, features], bias [features]."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        size = math.prod(x.shape[1:])
        if size == 0:
            raise ValueError(f"images: too small for fc6, the last map is {list(x.shape[1:3])}; needs at least 32 px")
        scale = math.sqrt(2.0 / size)
        kernel = weight_of(self, "kernel", nn.initializers.normal(scale), (*x.shape[1:], self.features))
        bias = weight_of(self, "bias", nn.initializers.zeros, (self.features,))
        return jnp.matmul(x.reshape(x.shape[0], size), kernel.reshape(size, self.features)) + bias[None]
