"""Values that depend on frozen weights alone, made once and not in every step.

A layer names a value with `precomputed(self, "adjoint", lambda: ...)`, and does without it when it gets None.
`precompute` makes all such values of a network. They travel beside its weights in the collection "precomputed":

    values = precompute(module, weights, x)                           # x: any input of the right shape
    y = module.apply({"params": weights, "precomputed": values}, x)   # the same function of x, with fewer passes

The weights still get their gradient; the precomputed values are constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights
from pie_jax.nn.layers.convolution import adjoint_kernel, conv
from pie_jax.nn.layers.fused_upsample import fused_up_conv, fused_upsample_kernels, should_fuse_upsample
from pie_jax.nn.layers.resampling import phase_kernels, up_conv
from pie_jax.nn.layers.winograd import should_use_winograd, winograd_conv, winograd_kernels
from pie_jax.runtime import backend

PRECOMPUTED = "precomputed"


def precomputed(module: nn.Module, name: str, compute: Callable[[], Any]) -> Any:
    """`compute()` as it was made by `precompute`, or None in a network whose weights may still move."""
    if module.has_variable(PRECOMPUTED, name):
        return module.get_variable(PRECOMPUTED, name)
    if module.is_initializing() or not module.is_mutable_collection(PRECOMPUTED):
        return None
    return module.variable(PRECOMPUTED, name, lambda: jax.lax.stop_gradient(compute())).value


def precomputed_conv(module: nn.Module, x: Array, weight: Array, stored: Array) -> jax.Array:
    """A 3x3 convolution of x padded by 1, with the precomputed values of `stored` (the weight before its cast).

    The values are Winograd's kernels on a CPU where they pay, else the adjoint kernel of the gradient.
    """
    chosen = backend()
    if chosen.is_cpu and x.dtype != jnp.bfloat16 and should_use_winograd(x.shape, weight, chosen.bounds):
        kernels = precomputed(module, "winograd", lambda: winograd_kernels(stored))
        if kernels is not None:
            return winograd_conv(x, weight, tuple(kernels))
    adjoint = precomputed(module, "adjoint", lambda: adjoint_kernel(stored))
    return conv(x, weight, adjoint=None if adjoint is None else adjoint.astype(x.dtype))


def precomputed_up_conv(module: nn.Module, x: Array, weight: Array, stored: Array) -> jax.Array:
    """An `up_conv` of x, with the precomputed values of `stored` (the weight before its cast).

    The values are one kernel with the filter in it on a CPU where it is faster, else the kernels of the four phases.
    """
    chosen = backend()
    if chosen.is_cpu and x.dtype != jnp.bfloat16 and should_fuse_upsample(x.shape, weight, chosen.bounds):
        kernels = precomputed(module, "fused_upsample", lambda: fused_upsample_kernels(stored))
        if kernels is not None:
            return fused_up_conv(x, weight, tuple(kernels))
    kernels = precomputed(module, "kernels", lambda: phase_kernels(stored))
    return up_conv(x, weight, kernels=jax.tree.map(lambda a: a.astype(x.dtype), kernels))


def precompute(module: nn.Module, weights: Weights, *inputs, **settings) -> Weights:
    """All precomputed values of `module` with `weights`, a nested dict ({} when it has none).

    inputs, settings: what `module` is called with; only their shapes matter. Under jit nothing but these values is
    computed.
    """
    made: Any = module.apply({"params": weights}, *inputs, mutable=[PRECOMPUTED], **settings)[1]
    return made.get(PRECOMPUTED, {})
