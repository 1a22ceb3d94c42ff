"""Ordinary convolution and batch normalisation, for the networks that are not generators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, Weights
from pie_jax.nn.layers.convolution import (
    adjoint_kernel,
    conv,
    space_to_depth,
    space_to_depth_kernel,
    space_to_depth_padding,
)
from pie_jax.nn.layers.precompute import precomputed, precomputed_conv
from pie_jax.nn.layers.weight import weight_of

_FEW = 4  # input channels up to which a strided convolution works on 2x2 blocks: a 3-channel one is 7 times too slow


def _even(x: Array) -> bool:
    return x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0


def _as(x: Array, array: Array | None) -> jax.Array | None:
    return None if array is None else array.astype(x.dtype)


class Conv(nn.Module):
    """kxk convolution, zero padded by `padding` on each side; kernel [k, k, I, O], bias [O]; 1x1 is a dot.

    It computes in the type of its input, whatever that of its weights.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 0
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        k, stride = self.kernel_size, self.stride
        stored = weight_of(self, "kernel", nn.initializers.he_normal(), (k, k, x.shape[-1], self.features))
        kernel = stored.astype(x.dtype)
        if k == 1:
            y = jnp.matmul(x[:, ::stride, ::stride], kernel[0, 0])
        elif stride == 2 and x.shape[-1] <= _FEW and k == 2 * self.padding + 1 and k % 4 == 3 and _even(x):
            weight = precomputed(self, "weight", lambda: space_to_depth_kernel(stored))
            weight = space_to_depth_kernel(kernel) if weight is None else weight.astype(x.dtype)
            adjoint = _as(x, precomputed(self, "adjoint", lambda: adjoint_kernel(space_to_depth_kernel(stored))))
            y = conv(space_to_depth(x), weight, padding=space_to_depth_padding(k), adjoint=adjoint)
        elif (k, stride, self.padding) == (3, 1, 1):
            y = precomputed_conv(self, x, kernel, stored)
        else:
            adjoint = _as(x, precomputed(self, "adjoint", lambda: adjoint_kernel(stored))) if stride == 1 else None
            y = conv(x, kernel, padding=self.padding, stride=stride, adjoint=adjoint)
        if self.use_bias:
            y = y + weight_of(self, "bias", nn.initializers.zeros, (self.features,)).reshape(1, 1, 1, -1)
        return y.astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation (arXiv 1502.03167) whose running statistics are weights: scale, bias, mean, var, each [C].

    So a frozen network is one tree, and `apply({"params": weights}, x)` is inference. With `train` the batch's own
    statistics normalise and are sown into the collection "batch_stats"; `update_batch_stats` moves the weights:

        y, sown = net.apply({"params": weights}, x, train=True, mutable=["batch_stats"])
        weights = update_batch_stats(weights, sown["batch_stats"])          # after the optimiser's update
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> jax.Array:
        shape = (x.shape[-1],)
        scale = weight_of(self, "scale", nn.initializers.ones, shape)
        bias = weight_of(self, "bias", nn.initializers.zeros, shape)
        # Buffers, not parameters: the optimiser sees a gradient of zero.
        mean = jax.lax.stop_gradient(weight_of(self, "mean", nn.initializers.zeros, shape))
        var = jax.lax.stop_gradient(weight_of(self, "var", nn.initializers.ones, shape))
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axis=axes)
            var = jnp.mean(jnp.square(x - mean.reshape((1,) * len(axes) + (-1,))), axis=axes)
            count = math.prod(x.shape[:-1])
            unbiased = var * (count / max(count - 1, 1))
            for name, value in (("mean", mean), ("var", unbiased)):
                self.sow("batch_stats", name, jax.lax.stop_gradient(value), init_fn=_nothing, reduce_fn=_newest)
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        lead = (1,) * (x.ndim - 1)
        # in the type of the statistics, rounded once to that of x
        return (x * factor.reshape(*lead, -1) + offset.reshape(*lead, -1)).astype(x.dtype)


def _nothing() -> Any:
    return None


def _newest(_: Any, new: Any) -> Any:
    return new


def update_batch_stats(weights: Weights, batch_stats: Mapping, *, momentum: float = 0.9) -> Weights:
    """`weights` with every BatchNorm mean and var moved to `momentum * old + (1 - momentum) * batch's`."""
    result = dict(weights)
    for name, value in batch_stats.items():
        if isinstance(value, Mapping):
            result[name] = update_batch_stats(weights[name], value, momentum=momentum)
        else:
            result[name] = momentum * weights[name] + (1.0 - momentum) * value
    return result
