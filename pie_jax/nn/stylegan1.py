"""StyleGAN (the first): mapping and synthesis by adaptive instance normalisation.

    w = Mapping(config).apply({"params": weights["mapping"]}, z)
    image_pm1 = Synthesis(config).apply({"params": weights["synthesis"]}, to_w_plus(w, config.num_layers))

The config says architecture "stylegan1"; FFHQ at 1024 px has channel_base 16384 (`GeneratorConfig.channels`).

Layout of the weights (N = 8, 16, ..., resolution; all float32, stored without run-time scale):

    mapping/fc{i}/weight [in, out], /bias [out]             stored values are 1 / lr_multiplier times the effective ones
    synthesis/b4/const [4, 4, C_4]
    synthesis/b4/conv0                                      the constant's own noise, bias and style: no convolution
    synthesis/b4/conv1, synthesis/bN/{conv0, conv1}/        conv0 doubles the resolution
        weight [3, 3, I, O]; bias [O]; noise_strength [O]; noise_const [N, N]; style/weight [D, 2 O]; style/bias [2 O]
    synthesis/torgb/weight [1, 1, C, 3], /bias [3]          of the full resolution ("lod 0") only

style: the first O are scales, to which 1 is added at run time, the last O shifts. w_plus[2k-4] drives conv0 of the
block of N = 2^k px and w_plus[2k-3] its conv1. `weight` of an up-sampling conv0 is the one of nearest up-sampling and
3x3 cross-correlation; the official networks store it turned by 180 degrees from 128 px on ("fused scale").

Sources: arXiv 1812.04948; semantics of NVlabs/stylegan `training/networks_stylegan.py`. `config.bias_before_blur` and
`config.instance_norm_eps` are what rosinality/style-based-gan-pytorch does differently.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import GeneratorConfig
from pie_jax.nn import mapping
from pie_jax.nn.layers import (
    SQRT2,
    EqualizedDense,
    binomial_blur,
    conv,
    instance_norm,
    leaky_relu,
    nearest_up_conv,
    scaled_normal,
    to_w_plus,
    truncate,
    weight_of,
)

__all__ = ["Mapping", "Synthesis", "to_w_plus", "truncate"]


class Mapping(mapping.Mapping):
    """The mapping network with the gain in its dense layers and none in its activation."""

    dense_gain: float = SQRT2


class StyledConv(nn.Module):
    """Convolution, blur after "up", noise, bias, leaky ReLU, instance norm, style; `convolve`: "none", "same", "up"."""

    config: GeneratorConfig
    resolution: int  # of the output
    convolve: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, w: Array) -> jax.Array:
        """x [B, H, W, I], w [B, D] -> [B, R, R, O]."""
        config, inputs = self.config, x.shape[-1]
        channels = config.channels(self.resolution)
        bias = weight_of(self, "bias", nn.initializers.zeros, (channels,)).reshape(1, 1, 1, -1)
        strength = weight_of(self, "noise_strength", nn.initializers.zeros, (channels,))
        const = weight_of(self, "noise_const", scaled_normal(1.0), (self.resolution, self.resolution))
        style = EqualizedDense(2 * channels, name="style")(w)

        # The convolution alone is in `dtype`; what is done to each of its pixels has the styles' type.
        x = x.astype(self.dtype)
        biased = False
        if self.convolve != "none":
            weight = weight_of(self, "weight", scaled_normal(1.0), (3, 3, inputs, channels))
            weight = (weight * (SQRT2 / math.sqrt(9 * inputs))).astype(self.dtype)
            if self.convolve == "up":
                x = nearest_up_conv(x, weight)
                biased = config.bias_before_blur
                x = binomial_blur(x + bias if biased else x)
            else:
                x = conv(x, weight)
        noise = jax.lax.stop_gradient(const)[None, :, :, None] * strength.reshape(1, 1, 1, -1)
        x = x + noise
        x = leaky_relu(x if biased else x + bias, gain=1.0)
        x = instance_norm(x, epsilon=config.instance_norm_eps)
        scale, shift = style[:, None, None, :channels] + 1.0, style[:, None, None, channels:]
        return (x * scale + shift).astype(self.dtype)


class SynthesisBlock(nn.Module):
    """One resolution: the constant or a doubling convolution, then a second convolution."""

    config: GeneratorConfig
    resolution: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array | None, w_plus: Array) -> jax.Array:
        """x [B, R/2, R/2, I] (None in the first block), w_plus [B, 2, D] of this block -> [B, R, R, C]."""
        config, resolution = self.config, self.resolution
        convolve = "up"
        if x is None:
            const = weight_of(self, "const", nn.initializers.ones, (4, 4, config.channels(4)))
            x = jnp.broadcast_to(const[None], (w_plus.shape[0], *const.shape))
            convolve = "none"
        x = StyledConv(config, resolution, convolve, self.dtype, name="conv0")(x, w_plus[:, 0])
        return StyledConv(config, resolution, "same", self.dtype, name="conv1")(x, w_plus[:, 1])


class Synthesis(nn.Module):
    """w_plus [B, L, D] -> image_pm1 [B, R, R, 3] float32, in about [-1, 1].

    The published weights hold one toRGB, of the full resolution: `resolution` below it is the mean over pixels of the
    full image, and saves nothing. ValueError when w_plus or resolution does not fit the config.
    """

    config: GeneratorConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, w_plus: Array, *, resolution: int | None = None) -> jax.Array:
        config = self.config
        check_shape("w_plus", w_plus, (None, config.num_layers, config.w_dim))
        resolution = config.resolution if resolution is None else resolution
        if resolution not in config.block_resolutions:
            raise ValueError(f"resolution: expected one of {config.block_resolutions}, got {resolution}")
        w_plus = w_plus.astype(jnp.float32)
        x = None
        for i, size in enumerate(config.block_resolutions):
            x = SynthesisBlock(config, size, self.dtype, name=f"b{size}")(x, w_plus[:, 2 * i:2 * i + 2])
        image = RGB(self.dtype, name="torgb")(x)
        ratio = config.resolution // resolution
        if ratio > 1:
            image = jnp.mean(image.reshape(image.shape[0], resolution, ratio, resolution, ratio, 3), axis=(2, 4))
        return image


class RGB(nn.Module):
    """x [B, H, W, C] -> [B, H, W, 3] float32 by a 1x1 convolution of run-time scale 1 / sqrt(C)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        weight = weight_of(self, "weight", scaled_normal(1.0), (1, 1, x.shape[-1], 3))
        bias = weight_of(self, "bias", nn.initializers.zeros, (3,))
        weight = (weight[0, 0] * (1.0 / math.sqrt(x.shape[-1]))).astype(self.dtype)
        return jnp.matmul(x, weight, preferred_element_type=jnp.float32) + bias.reshape(1, 1, 1, 3)
