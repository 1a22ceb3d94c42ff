"""Data-dependent start of a VGG (arXiv 1602.07868, section 3): every unit has mean 0 and deviation 1 before its ReLU.

A plain VGG of sixteen layers without normalisation barely trains from random weights: the features of all images point
the same way. One pass over a batch of images, layer by layer, mends that.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights
from pie_jax.config import VGGConfig


@functools.partial(jax.jit, static_argnums=0)
def standardise(config: VGGConfig, weights: Weights, images_01: Array) -> Weights:
    """`weights` of `VGG(config)` with every layer scaled and shifted to standard units over `images_01` [B, H, W, 3].

    Units that never change over the images are only shifted. fc8, which has no ReLU, is left alone.
    """
    from pie_jax.nn.layers import conv
    from pie_jax.nn.vgg import layers_needed, max_pool, resize

    def unit(y, layer):
        axes = tuple(range(y.ndim - 1))
        mean, std = jnp.mean(y, axis=axes), jnp.std(y, axis=axes)
        std = jnp.where(std > 1e-6, std, 1.0)
        lead = (1,) * (y.ndim - 1) + (-1,)
        shifted = {"kernel": layer["kernel"] / std.reshape((1,) * (layer["kernel"].ndim - 1) + (-1,)),
                   "bias": (layer["bias"] - mean) / std}
        return jax.nn.relu((y - mean.reshape(lead)) / std.reshape(lead)), shifted

    def bias_of(layer, y):
        return y + layer["bias"].reshape((1,) * (y.ndim - 1) + (-1,))

    mean, std = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, 3) for v in (config.mean_rgb, config.std_rgb))
    x = (255.0 * resize(jnp.asarray(images_01), resolution=config.resolution) - mean) / std
    result = dict(weights)
    for name in layers_needed(config):
        if name.endswith("_1") and name != "conv1_1":
            x = max_pool(x)
        x, result[name] = unit(bias_of(weights[name], conv(x, weights[name]["kernel"])), weights[name])
    if config.fc_width > 0:
        x = max_pool(x).reshape(x.shape[0], -1)
        for name in ("fc6", "fc7"):
            kernel = weights[name]["kernel"].reshape(-1, config.fc_width)
            x, result[name] = unit(bias_of(weights[name], x @ kernel), weights[name])
    return result
