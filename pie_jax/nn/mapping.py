"""The mapping network of the StyleGAN family."""

from __future__ import annotations

import flax.linen as nn
import jax

from pie_jax.arrays import Array, check_shape
from pie_jax.config import GeneratorConfig
from pie_jax.nn.layers import SQRT2, EqualizedDense, leaky_relu, normalize_second_moment


class Mapping(nn.Module):
    """z [B, Z] ~ N(0, 1) -> w [B, D]: pixel norm, then dense layers with leaky ReLU (arXiv 1812.04948, section 2).

    A layer's gain is sqrt(2) in all; `dense_gain` of it is in the dense layer. With `config.mapping_linear_output` the
    last layer has neither activation nor the activation's gain.
    """

    config: GeneratorConfig
    dense_gain: float = 1.0

    @nn.compact
    def __call__(self, z: Array) -> jax.Array:
        config = self.config
        check_shape("z", z, (None, config.z_dim))
        x = normalize_second_moment(z)
        for i in range(config.mapping_layers):
            x = EqualizedDense(config.w_dim, gain=self.dense_gain, lr_multiplier=config.mapping_lr_multiplier,
                               name=f"fc{i}")(x)
            if not (config.mapping_linear_output and i == config.mapping_layers - 1):
                x = leaky_relu(x, gain=SQRT2 / self.dense_gain)
        return x
