"""Calls of a whole network with its weights as an argument."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights
from pie_jax.nn.layers.precompute import PRECOMPUTED


def apply(network: nn.Module, weights: Weights, *inputs, **settings) -> Any:
    """What `network` computes with `weights`, a nested dict that may carry a branch "precomputed".

    settings: keyword arguments of the network, and `mutable` as Linen has it: then a pair, the sown collections second.
    """
    params = {name: branch for name, branch in weights.items() if name != PRECOMPUTED}
    return network.apply({"params": params, PRECOMPUTED: weights.get(PRECOMPUTED, {})}, *inputs, **settings)


def initialise(network: nn.Module, key: Array, *inputs) -> Weights:
    """New weights of `network` for inputs of these shapes."""
    shapes = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in inputs]
    return dict(network.lazy_init(key, *shapes)["params"])  # computes no output
