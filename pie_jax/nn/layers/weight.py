"""A weight of a layer, without what Linen's own check of its shape costs."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from pie_jax.arrays import Array


def weight_of(module: nn.Module, name: str, initialiser: Callable[..., Array], shape: tuple[int, ...]) -> Array:
    """`module.param(name, initialiser, shape)`, traced in less time.

    Linen traces the initialiser in every call of a network, only to compare shapes.
    """
    if not module.has_variable("params", name):
        return module.param(name, initialiser, shape)
    value = module.get_variable("params", name)
    if jnp.shape(value) != shape:
        raise ScopeParamShapeError(name, "/".join(module.path), jnp.shape(value), shape)
    return value
