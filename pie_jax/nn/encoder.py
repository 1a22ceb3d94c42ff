"""Portrait to w_plus, in rounds: each sees the portrait beside what the last code gives, and says what to change.

    w_plus = apply(Encoder(config), weights, portraits_01, shown_01, w_plus)

`axes` [K, D] is a constant: the principal axes of W, each as long as the deviation of codes along it. The network says
how many deviations to go along each. Sources: ReStyle (arXiv 2104.02699) for the rounds, pSp (2008.00951) and e4e
(2102.02766) for a code a layer that leaves the common one little, StyleGAN's whitened W (2012.09036) for the axes.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import EncoderConfig
from pie_jax.nn.layers import Conv, weight_of

_GROUPS = 8  # of channels that are normalised together: rounds differ too much for the statistics of batches


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, normalised in groups; `stride` sits on the first."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        y = Conv(self.features, 3, self.stride, padding=1, name="conv1")(x)
        y = jax.nn.relu(nn.GroupNorm(_GROUPS, name="norm1")(y))
        y = Conv(self.features, 3, 1, padding=1, name="conv2")(y)
        y = nn.GroupNorm(_GROUPS, name="norm2")(y)
        if x.shape != y.shape:
            x = Conv(self.features, 1, self.stride, name="shortcut")(x)
        return jax.nn.relu(x + y)


class Encoder(nn.Module):
    """portraits_01, shown_01 [B, R, R, 3], w_plus [B, L, D] -> the next w_plus [B, L, D]. ValueError: other shapes.

    R = config.resolution. The change is one common to all layers and one of each layer (the second output, [B, L, K] in
    deviations).
    """

    config: EncoderConfig

    @nn.compact
    def __call__(self, portraits_01: Array, shown_01: Array, w_plus: Array) -> tuple[jax.Array, jax.Array]:
        config = self.config
        side = config.resolution
        for name, image in (("portraits_01", portraits_01), ("shown_01", shown_01)):
            check_shape(name, image, (None, side, side, 3))
        check_shape("w_plus", w_plus, (None, config.num_layers, config.w_dim))
        x = 2.0 * jnp.concatenate([portraits_01, shown_01], axis=-1) - 1.0
        x = Conv(config.width, 3, 2, padding=1, name="conv1")(x)
        x = jax.nn.relu(nn.GroupNorm(_GROUPS, name="norm1")(x))
        for stage, blocks in enumerate(config.stage_sizes):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                x = ResidualBlock(config.width * 2**stage, stride, name=f"layer{stage + 1}_{i}")(x)
        x = nn.LayerNorm(name="norm")(x.reshape(x.shape[0], -1))
        x = jax.nn.relu(nn.Dense(config.hidden, name="fc")(x))
        common = nn.Dense(config.axes, kernel_init=nn.initializers.zeros, name="common")(x)
        own = jnp.zeros((x.shape[0], config.num_layers, config.axes))
        if not config.common_only:
            own += nn.Dense(config.num_layers * config.axes, kernel_init=nn.initializers.zeros, name="own")(x).reshape(
                own.shape)
        axes = weight_of(self, "axes", nn.initializers.orthogonal(), (config.axes, config.w_dim))
        return w_plus + (common[:, None] + own) @ jax.lax.stop_gradient(axes), own
