"""What follows a modulated convolution, with a gradient that keeps one map of it instead of several."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array

_SLOPE = 0.2  # of leaky ReLU below 0


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def lean_activation(x: Array, demodulation: Array, noise: Array, strength: Array, bias: Array, gain: float,
                    clamp: float | None) -> jax.Array:
    """gain * leaky_relu(x demodulation + noise strength + bias) of x [B, H, W, C], clamped to +-clamp if that is set.

    demodulation [B, C], not 0; noise [B or 1, H, W, 1], strength [], bias [C]. For the gradient the result alone is
    kept, which the next layer keeps as well.
    """
    return _forward(x, demodulation, noise, strength, bias, gain, clamp)[0]


def _forward(x, demodulation, noise, strength, bias, gain, clamp):
    z = x * demodulation[:, None, None, :] + noise * strength + bias.reshape(1, 1, 1, -1)
    y = jnp.where(z >= 0, gain * z, (_SLOPE * gain) * z)
    # The barrier: fused into all that read it, the result would be made for each of them, and x kept.
    y = jax.lax.optimization_barrier(y if clamp is None else jnp.clip(y, -clamp, clamp))
    return y, (y, demodulation, noise, strength, bias)


def _backward(gain, clamp, kept, g):
    y, demodulation, noise, strength, bias = kept
    if clamp is not None:
        g = jnp.where(jnp.abs(y) < clamp, g, 0.0)
    d_z = jnp.where(y >= 0, gain * g, (_SLOPE * gain) * g)
    d_bias = jnp.sum(d_z, axis=(1, 2))  # [B, C]
    d_strength = jnp.sum(d_z * noise, axis=(1, 2))
    # y is z times the slope and d_z is g times the slope: the sum of d_z z, and so of d_z x, needs no z.
    scaled = jnp.sum(g * y, axis=(1, 2)) - d_bias * bias[None] - d_strength * strength
    # What nobody asks for, here the gradients to frozen weights, is removed under jit.
    d_noise = strength * jnp.sum(d_z, axis=-1, keepdims=True)
    d_noise = jnp.sum(d_noise, axis=0, keepdims=True) if noise.shape[0] == 1 else d_noise
    return (d_z * demodulation[:, None, None, :], scaled / demodulation, d_noise, jnp.sum(d_strength),
            jnp.sum(d_bias, axis=0))


lean_activation.defvjp(_forward, _backward)
