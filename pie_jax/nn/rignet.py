"""RigNet and DFR of StyleRig (arXiv 2004.00121): W+ moved by face parameters, and face parameters read from W+.

    control_input = rig_input(config, source, target)               # source: the FaceParams of w_plus itself
    w_hat = RigNet(config).apply({"params": weights}, w_plus, control_input)
    params_vector = DFR(config).apply({"params": weights}, w_plus)          # [B, 257], Deep3D's order

Layout of RigNet's weights, all style layers stacked (D = w_dim, N = width, P = size of the control input):

    encoder_kernel [L, D, N], encoder_bias [L, N]
    encoder{i}_kernel [L, N, N], encoder{i}_bias [L, N]              i = 1 .. config.encoder_layers - 1
    hidden{i}_kernel [L, N + P or H, H], hidden{i}_bias [L, H]       config.hidden_layers of them
    decoder_kernel [L, N + P or H, D], decoder_bias [L, D]

The encoded latent comes first in the concatenation. DFR: fc{i}/kernel [in, out], fc{i}/bias, residual/kernel
[L D, 257] when asked for, output_mean [257] and output_std [257] (constants: their gradient is zero).
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import DFRConfig, RigNetConfig
from pie_jax.face3d.morphable import PARAMETERS, FaceParams, control_vector, with_control
from pie_jax.nn.layers import weight_of

__all__ = ["DFR", "RigNet", "rig_input"]

_ACTIVATIONS = {"none": lambda x: x, "elu": jax.nn.elu, "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2)}


def rig_input(config: RigNetConfig, source: FaceParams, target: FaceParams) -> jax.Array:
    """What RigNet's decoder is told, [..., P]: `target`'s control, as config.input says.

    "slice": the target's parameters of the control (P = 3 pose, 64 expression, 27 illumination); "difference": those
    minus the source's; "all": the source's 257 with the target's control in them.
    """
    if config.input == "slice":
        return control_vector(target, config.control)
    if config.input == "difference":
        return control_vector(target, config.control) - control_vector(source, config.control)
    return with_control(source, target, config.control).to_vector()


class RigNet(nn.Module):
    """w_plus [B, L, D], control_input [B, P] -> w_plus_hat [B, L, D] = w_plus + d (StyleRig, section 5).

    One linear encoder D -> width and one decoder concat(code, control_input) -> D for each style layer, with the
    activation and hidden layers of the config between (the paper has none). It starts as the identity, nearly.
    ValueError: w_plus does not fit the config.
    """

    config: RigNetConfig

    @nn.compact
    def __call__(self, w_plus: Array, control_input: Array) -> jax.Array:
        config = self.config
        check_shape("w_plus", w_plus, (None, config.num_layers, config.w_dim))
        activation = _ACTIVATIONS[config.activation]
        told = jnp.broadcast_to(control_input[:, None, :], (*w_plus.shape[:2], control_input.shape[-1]))
        x = activation(self._linear("encoder", w_plus, config.width))
        for i in range(1, config.encoder_layers):
            x = activation(self._linear(f"encoder{i}", x, config.width))
        x = jnp.concatenate([x, told], axis=-1)
        for i in range(config.hidden_layers):
            x = activation(self._linear(f"hidden{i}", x, config.hidden_width))
        moved = self._linear("decoder", x, config.w_dim, scale=1e-3)
        return w_plus + (activation(moved) if config.activated_output else moved)

    def _linear(self, name: str, x: Array, features: int, *, scale: float = 1.0) -> jax.Array:
        """x [B, L, I] -> [B, L, features], its own matrix for every layer."""
        layers, fan_in = x.shape[1:]
        kernel = weight_of(self, f"{name}_kernel", nn.initializers.normal(scale / math.sqrt(fan_in)),
                           (layers, fan_in, features))
        bias = weight_of(self, f"{name}_bias", nn.initializers.zeros, (layers, features))
        return jnp.einsum("bli,lio->blo", x, kernel) + bias[None]


class DFR(nn.Module):
    """w_plus [B, L, D] -> params_vector [B, 257] in real units: a scaled MLP with ELU (StyleRig, section 4).

    With `config.residual` a linear map of the flattened latent is added before the scaling.
    ValueError: w_plus does not fit the config.
    """

    config: DFRConfig

    @nn.compact
    def __call__(self, w_plus: Array) -> jax.Array:
        config = self.config
        check_shape("w_plus", w_plus, (None, config.num_layers, config.w_dim))
        flat = w_plus.reshape(w_plus.shape[0], -1)
        x = flat
        for i, features in enumerate(config.hidden):
            x = jax.nn.elu(nn.Dense(features, name=f"fc{i}")(x))
        x = nn.Dense(PARAMETERS, name=f"fc{len(config.hidden)}")(x)
        if config.residual:
            x = x + nn.Dense(PARAMETERS, use_bias=False, kernel_init=nn.initializers.zeros, name="residual")(flat)
        mean = jax.lax.stop_gradient(weight_of(self, "output_mean", nn.initializers.zeros, (PARAMETERS,)))
        std = jax.lax.stop_gradient(weight_of(self, "output_std", nn.initializers.ones, (PARAMETERS,)))
        return x * std[None] + mean[None]
