"""RigNet and DFR of StyleRig (arXiv 2004.00121)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.torch_reference.face import CONTROL_SLICES
from benchmarks.torch_reference.tensors import tensors

ACTIVATIONS = {"none": lambda x: x, "elu": F.elu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2)}


class RigNet:
    """w_plus [B, L, D] moved so that its control becomes the target's: w_hat [B, L, D]."""

    def __init__(self, config, weights):
        self.config, self.weights = config, tensors(weights)

    def __call__(self, w_plus: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """source, target: params_vector [B, 257] of w_plus and of what is wanted."""
        config, part = self.config, CONTROL_SLICES[self.config.control]
        if config.input == "all":
            told = source.clone()
            told[:, part] = target[:, part]
        else:
            told = target[:, part] - source[:, part] if config.input == "difference" else target[:, part]
        activation = ACTIVATIONS[config.activation]
        x = activation(self._linear("encoder", w_plus))
        for i in range(1, config.encoder_layers):
            x = activation(self._linear(f"encoder{i}", x))
        x = torch.cat([x, told[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        for i in range(config.hidden_layers):
            x = activation(self._linear(f"hidden{i}", x))
        moved = self._linear("decoder", x)
        return w_plus + (activation(moved) if config.activated_output else moved)

    def _linear(self, name, x):
        product = torch.bmm(x.transpose(0, 1), self.weights[f"{name}_kernel"]).transpose(0, 1)
        return product + self.weights[f"{name}_bias"]


class DFR:
    """w_plus [B, L, D] -> params_vector [B, 257] by a multilayer perceptron."""

    def __init__(self, config, weights):
        self.config, self.weights = config, tensors(weights)

    def __call__(self, w_plus: torch.Tensor) -> torch.Tensor:
        flat = w_plus.flatten(1)
        x, last = flat, len(self.config.hidden)
        for i in range(last + 1):
            layer = self.weights[f"fc{i}"]
            x = x @ layer["kernel"] + layer["bias"]
            x = x if i == last else F.elu(x)
        if self.config.residual:
            x = x + flat @ self.weights["residual"]["kernel"]
        return x * self.weights["output_std"] + self.weights["output_mean"]
