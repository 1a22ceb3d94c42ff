"""Values that depend on frozen weights alone, made once and not in every step.

A layer says what it can make beforehand, `frozen(self, "back", lambda: ...)`, and does without it when it gets None.
`freeze` makes all such values of a network; they travel beside its weights in the collection "frozen":

    values = freeze(module, weights, x)                              # x: any input of the right shape
    y = module.apply({"params": weights, "frozen": values}, x)       # the same function of x, with fewer passes

The weights themselves still get their gradient, if anyone asks; the frozen values are constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights
from pie_jax.layers.convolution import conv, turned
from pie_jax.layers.resampling import phase_kernels, up_conv
from pie_jax.layers.whole import whole_kernels, whole_pays, whole_up_conv
from pie_jax.layers.winograd import pays, transformed, winograd_conv

COLLECTION = "frozen"


def frozen(module: nn.Module, name: str, compute: Callable[[], Any]) -> Any:
    """`compute()` as it was made by `freeze`, or None in a network whose weights may still move."""
    if module.has_variable(COLLECTION, name):
        return module.get_variable(COLLECTION, name)
    if module.is_initializing() or not module.is_mutable_collection(COLLECTION):
        return None
    return module.variable(COLLECTION, name, lambda: jax.lax.stop_gradient(compute())).value


def frozen_conv(module: nn.Module, x: Array, weight: Array, stored: Array) -> jax.Array:
    """A 3x3 convolution of x padded by 1 with what `freeze` kept of `stored`, the weight before its cast to x's type.

    That is Winograd's kernels on a CPU where they pay, else the turned kernel that leads the gradient back.
    """
    if jax.default_backend() == "cpu" and x.dtype != jnp.bfloat16 and pays(x.shape, weight):
        kernels = frozen(module, "winograd", lambda: transformed(stored))
        if kernels is not None:
            return winograd_conv(x, weight, tuple(kernels))
    back = frozen(module, "back", lambda: turned(stored))
    return conv(x, weight, back=None if back is None else back.astype(x.dtype))


def frozen_up_conv(module: nn.Module, x: Array, weight: Array, stored: Array) -> jax.Array:
    """An `up_conv` of x with what `freeze` kept of `stored`, the weight before its cast to x's type.

    That is one kernel with the filter in it on a CPU where it pays, else the kernels of the four phases.
    """
    if jax.default_backend() == "cpu" and x.dtype != jnp.bfloat16 and whole_pays(x.shape, weight):
        kernels = frozen(module, "whole", lambda: whole_kernels(stored))
        if kernels is not None:
            return whole_up_conv(x, weight, tuple(kernels))
    kernels = frozen(module, "kernels", lambda: phase_kernels(stored))
    return up_conv(x, weight, kernels=jax.tree.map(lambda a: a.astype(x.dtype), kernels))


def freeze(module: nn.Module, weights: Weights, *inputs, **settings) -> Weights:
    """All frozen values of `module` with `weights`, a nested dict ({} when it has none).

    inputs, settings: what `module` is called with; only their shapes matter. Under jit nothing but the frozen values
    is computed.
    """
    return module.apply({"params": weights}, *inputs, mutable=[COLLECTION], **settings)[1].get(COLLECTION, {})
