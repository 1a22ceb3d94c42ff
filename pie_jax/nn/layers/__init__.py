"""Layers that the networks share.

Conventions, told once:

- Activations are NHWC, convolution weights HWIO, dense weights [in, out].
- In the StyleGAN family `weight` is stored WITHOUT its run-time scale (equalised learning rate, arXiv 1710.10196): the
  layer multiplies by `gain * lr_multiplier / sqrt(fan_in)`, as the official networks do, so a checkpoint converts by
  transposition alone. In plain layers `kernel` is used as it is.
- Modulation scales the *activations*, and demodulation the outputs: the same function as modulating the weights of
  every sample (arXiv 1912.04958, equations 1-3), faster than a grouped convolution on a CPU.
- `dtype` is the type of activations and of the multiplied weights; styles, demodulation and images are float32.
"""

from pie_jax.nn.layers.convolution import adjoint_kernel, conv
from pie_jax.nn.layers.network import apply, initialise
from pie_jax.nn.layers.plain import BatchNorm, Conv, update_batch_stats
from pie_jax.nn.layers.precompute import PRECOMPUTED, precompute, precomputed
from pie_jax.nn.layers.resampling import binomial_blur, down_conv, downsample, fir, nearest_up_conv, up_conv, upsample
from pie_jax.nn.layers.style import (
    SQRT2,
    EqualizedConv,
    EqualizedDense,
    ModulatedConv,
    ToRGB,
    instance_norm,
    leaky_relu,
    normalize_second_moment,
    scaled_normal,
    to_w_plus,
    truncate,
)
from pie_jax.nn.layers.weight import weight_of

__all__ = [
    "BatchNorm", "Conv", "EqualizedConv", "EqualizedDense", "ModulatedConv", "PRECOMPUTED", "SQRT2", "ToRGB",
    "adjoint_kernel", "apply", "binomial_blur", "conv", "down_conv", "downsample", "fir", "initialise", "instance_norm",
    "leaky_relu", "nearest_up_conv", "normalize_second_moment", "precompute", "precomputed", "scaled_normal",
    "to_w_plus", "truncate", "up_conv", "update_batch_stats", "upsample", "weight_of",
]
