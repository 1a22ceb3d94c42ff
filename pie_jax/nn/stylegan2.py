"""StyleGAN2: mapping, synthesis with skip outputs or residual blocks, and the residual discriminator.

Linen modules used through `init` / `apply` only; each takes a `GeneratorConfig`:

    weights = {"mapping": Mapping(config).init(key, z)["params"],
               "synthesis": Synthesis(config).init(key, w_plus)["params"], "w_mean": [D]}
    w = Mapping(config).apply({"params": weights["mapping"]}, z)
    image_pm1 = Synthesis(config).apply({"params": weights["synthesis"]}, to_w_plus(w, config.num_layers))

Layout of the weights (N = 8, 16, ..., resolution; C_N = config.channels(N); all float32). It equals the
official networks' up to transposition, no value is rescaled:

    mapping/fc{i}/weight [in, out], /bias [out]          stored values are 1 / lr_multiplier times the effective ones
    synthesis/b4/const [4, 4, C_4]
    synthesis/b4/conv1, synthesis/bN/{conv0,conv1}/      conv0 doubles the resolution
        weight [3, 3, I, O]; bias [O]; noise_strength []; noise_const [N, N]; affine/weight [D, I]; affine/bias [I]
    synthesis/bN/torgb/weight [1, 1, C_N, 3]; bias [3]; affine/weight [D, C_N]; affine/bias [C_N]
    synthesis/bN/skip/weight [1, 1, I, C_N]              only in "resnet" synthesis, where only N = R has a torgb

`noise_const` is a buffer: its gradient is zero (stop_gradient), so training leaves it alone as long as it uses
no weight decay; `trainable_mask` marks it for `optax.masked`. Style index (k = log2 N): conv0 reads
w_plus[2k-5], conv1 2k-4, torgb 2k-3, which is also the next block's conv0.

Source: arXiv 1912.04958; semantics of NVlabs/stylegan2-ada-pytorch, `training/networks.py`.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights, check_shape
from pie_jax.config import GeneratorConfig
from pie_jax.nn.layers import (
    EqualizedConv,
    EqualizedDense,
    ModulatedConv,
    ToRGB,
    leaky_relu,
    scaled_normal,
    to_w_plus,
    truncate,
    upsample,
    weight_of,
)
from pie_jax.nn.mapping import Mapping

__all__ = ["Discriminator", "Mapping", "Synthesis", "to_w_plus", "trainable_mask", "truncate"]


def trainable_mask(weights: Weights) -> Weights:
    """A tree of bool like `weights`: False for the fixed noise buffers `noise_const` and for `w_mean`."""
    fixed = {"noise_const", "w_mean"}
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in fixed, weights)


class SynthesisBlock(nn.Module):
    """One resolution: (conv0 that doubles,) conv1 and toRGB, summed into the up-sampled image.

    With `config.synthesis` "resnet" the input, projected and up-sampled, is added to conv1's output instead, both by
    sqrt(1/2), and only the last block has a toRGB.
    """

    config: GeneratorConfig
    resolution: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array | None, image: Array | None, w_plus: Array,
                 key: Array | None = None) -> tuple[Array, Array]:
        """x [B, R/2, R/2, C], image [B, R/2, R/2, 3], w_plus [B, 3, D] of this block -> x, image at R."""
        config, resolution = self.config, self.resolution
        channels = config.channels(resolution)
        settings = {"resolution": resolution, "clamp": config.clamp, "dtype": self.dtype}
        residual = config.synthesis == "resnet" and x is not None
        half = math.sqrt(0.5) if residual else 1.0
        noises = (None, None)
        if key is not None:
            noises = jax.random.normal(key, (2, w_plus.shape[0], resolution, resolution, 1))
        if x is None:
            const = weight_of(self, "const", scaled_normal(1.0), (4, 4, channels))
            x = jnp.broadcast_to(const[None], (w_plus.shape[0], 4, 4, channels))
        else:
            before = x
            x = ModulatedConv(channels, up=True, **settings, name="conv0")(x, w_plus[:, 0], noises[0])
        x = ModulatedConv(channels, gain=half, **settings, name="conv1")(x, w_plus[:, 1], noises[1])
        if residual:
            project = EqualizedConv(channels, 1, use_bias=False, activate=False, gain=half, dtype=self.dtype,
                                    name="skip")
            x = x + upsample(project(before))
        if config.synthesis == "resnet" and resolution < config.resolution:
            return x, None
        rgb = ToRGB(clamp=config.clamp, dtype=self.dtype, name="torgb")(x, w_plus[:, 2])
        return x, rgb if image is None else upsample(image) + rgb


class Synthesis(nn.Module):
    """w_plus [B, L, D] -> image_pm1 [B, R, R, 3] float32, in about [-1, 1] (arXiv 1912.04958, figure 7b).

    `resolution` stops at a lower one: the partial sum of the skip outputs there, which is the image without its
    finer detail, at a fraction of the cost (residual blocks have none: the mean over pixels of the full image, which
    saves nothing). With `stopping` = n only the last n of the batch stop, and the result is a pair: the others in
    full [B - n, R, R, 3], and those n [n, r, r, 3]; all share one pass as far as both go. `noise_key` draws fresh noise
    in place of the stored buffers (adversarial training); embedding leaves it None. ValueError when w_plus, resolution
    or stopping does not fit.
    """

    config: GeneratorConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, w_plus: Array, *, resolution: int | None = None, stopping: int | None = None,
                 noise_key: Array | None = None) -> jax.Array | tuple[jax.Array, jax.Array]:
        config = self.config
        check_shape("w_plus", w_plus, (None, config.num_layers, config.w_dim))
        resolution = config.resolution if resolution is None else resolution
        if resolution not in config.block_resolutions:
            raise ValueError(f"resolution: expected one of {config.block_resolutions}, got {resolution}")
        if stopping is not None and not 0 < stopping < w_plus.shape[0]:
            raise ValueError(f"stopping: expected 1 to {w_plus.shape[0] - 1} of the batch, got {stopping}")
        w_plus = w_plus.astype(jnp.float32)
        x: Array = None  # until the first block
        image: Array = None
        stopped: Array = None
        for i, size in enumerate(config.block_resolutions):
            first = max(2 * i - 1, 0)
            styles = w_plus[:, first:first + 3] if i else jnp.concatenate([w_plus[:, :1], w_plus[:, :2]], axis=1)
            key = None if noise_key is None else jax.random.fold_in(noise_key, size)
            x, image = SynthesisBlock(config, size, self.dtype, name=f"b{size}")(x, image, styles, key)
            if size == resolution and config.synthesis == "skip":
                if stopping is None:
                    break
                stopped = image[-stopping:]
                x, image, w_plus = x[:-stopping], image[:-stopping], w_plus[:-stopping]
        if stopping is None:
            return _mean_pool(image, image.shape[1] // resolution)
        if stopped is None:
            image, stopped = image[:-stopping], _mean_pool(image[-stopping:], config.resolution // resolution)
        return image, stopped


def _mean_pool(image: Array, ratio: int) -> jax.Array:
    """image [B, H, W, 3] -> [B, H / ratio, W / ratio, 3]."""
    if ratio == 1:
        return image
    batch, height, width, channels = image.shape
    return jnp.mean(image.reshape(batch, height // ratio, ratio, width // ratio, ratio, channels), axis=(2, 4))


class Discriminator(nn.Module):
    """image_pm1 [B, R, R, 3] -> logits [B]: residual blocks, minibatch deviation (arXiv 1912.04958, figure 7c).

    B must be a multiple of min(group, B). `clamp` of the generator's config is honoured.
    """

    config: GeneratorConfig
    group: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array) -> jax.Array:
        config = self.config
        check_shape("image", image, (None, config.resolution, config.resolution, 3))
        settings = {"clamp": config.clamp, "dtype": self.dtype}
        sizes = config.block_resolutions[::-1]
        x = EqualizedConv(config.channels(sizes[0]), 1, **settings, name="fromrgb")(image)
        for size in sizes[:-1]:
            half = math.sqrt(0.5)
            wide, narrow = config.channels(size), config.channels(size // 2)
            skip = EqualizedConv(narrow, 1, down=True, use_bias=False, activate=False, gain=half, dtype=self.dtype,
                                 name=f"b{size}_skip")(x)
            x = EqualizedConv(wide, **settings, name=f"b{size}_conv0")(x)
            x = EqualizedConv(narrow, down=True, gain=half, **settings, name=f"b{size}_conv1")(x) + skip
        x = _append_deviation(x.astype(jnp.float32), self.group)
        x = EqualizedConv(config.channels(4), clamp=config.clamp, name="b4_conv")(x)
        x = leaky_relu(EqualizedDense(config.channels(4), name="b4_fc")(x.reshape(x.shape[0], -1)))
        return EqualizedDense(1, name="b4_out")(x)[:, 0]


def _append_deviation(x: Array, group: int) -> jax.Array:
    """x [B, H, W, C] with one more channel: the mean over features of the deviation within groups of the batch."""
    batch, height, width, channels = x.shape
    group = min(group, batch)
    y = x.reshape(group, batch // group, height, width, channels)
    variance = jnp.mean(jnp.square(y - jnp.mean(y, axis=0, keepdims=True)), axis=0)
    deviation = jnp.mean(jnp.sqrt(variance + 1e-8), axis=(1, 2, 3))  # [B / group]
    deviation = jnp.broadcast_to(deviation[None, :], (group, batch // group)).reshape(batch, 1, 1, 1)
    return jnp.concatenate([x, jnp.broadcast_to(deviation, (batch, height, width, 1))], axis=-1)
