"""Resampling, cropping and comparison of images as JAX functions.

Resampling is separable: one small matrix for each axis, made in numpy from static sizes, so that every
function is linear, exact in its gradient, and safe under jit and vmap.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, check_shape
from pie_jax.config import CameraConfig

_PSNR_FLOOR = 1e-10  # mean squared error below which two images count as equal: 100 dB


def from_pm1(images_pm1: Array) -> Array:
    """[-1, 1] to [0, 1]; values outside stay outside. [...] -> [...]"""
    return images_pm1 * 0.5 + 0.5


def resize_area(images: Array, resolution: int | tuple[int, int]) -> Array:
    """Each output pixel is the mean of the input over the area it covers.

    Args:
      images: [..., H, W, C], any range.
      resolution: the side, or (height, width), in pixels. A larger one than the input's enlarges by box overlap.

    Returns:
      [..., h, w, C] of the input's dtype; the mean over the image is kept exactly.

    Raises:
      ValueError: fewer than three axes.
    """
    check_shape("images", images, (None, None, None))
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    in_height, in_width, channels = images.shape[-3:]
    if (in_height, in_width) == (height, width):
        return jnp.asarray(images)
    if in_height % height == 0 and in_width % width == 0:
        blocks = jnp.reshape(images, (*images.shape[:-3], height, in_height // height, width, in_width // width,
                                      channels))
        return blocks.mean((-4, -2))
    return _resample(images, _area_matrix(in_height, height), _area_matrix(in_width, width))


def face_crop(images: Array, camera: CameraConfig, *, resolution: int) -> Array:
    """The camera's square face box of each portrait, resized.

    A triangle filter, widened to the size of an output pixel where the box shrinks (no aliasing) and
    plain linear interpolation where it grows. Outside the portrait its edge pixels go on.

    Args:
      images: [..., H, W, C] portraits, any range.
      camera: says where the box lies, in widths of the portrait (`crop_x`, `crop_y`, `crop_size`).
      resolution: R, side of the crop in pixels.

    Returns:
      [..., R, R, C] of the input's dtype. Crop pixel centres are at (i + 0.5) / R of the box.

    Raises:
      ValueError: fewer than three axes.
    """
    check_shape("images", images, (None, None, None))
    height, width = images.shape[-3:-1]
    # The box is square in portraits that are square; both axes are measured in widths.
    rows = _box_matrix(height, camera.crop_y * width, camera.crop_size * width, resolution)
    columns = _box_matrix(width, camera.crop_x * width, camera.crop_size * width, resolution)
    return _resample(images, rows, columns)


def psnr(a_01: Array, b_01: Array) -> Array:
    """Peak signal-to-noise ratio in dB of images in [0, 1]: [..., H, W, C] x2 -> [...]; equal images give 100."""
    error = jnp.mean(jnp.square(a_01 - b_01), (-3, -2, -1))
    return -10.0 * jnp.log10(jnp.maximum(error, _PSNR_FLOOR))


def ssim(a_01: Array, b_01: Array) -> Array:
    """Mean structural similarity (Wang et al. 2004; 11 x 11 Gaussian of sigma 1.5, colour channels averaged).

    [..., H, W, C] x2 in [0, 1] -> [...]. Sides must be at least 11.
    """
    check_shape("b_01", b_01, tuple(a_01.shape))
    check_shape("a_01", a_01, (None, None, None))
    leading = a_01.shape[:-3]
    flat = (-1, *a_01.shape[-3:])
    import dm_pix  # a slow import that edits do not need

    return jnp.reshape(dm_pix.ssim(jnp.reshape(a_01, flat), jnp.reshape(b_01, flat)), leading)


def _resample(images, rows, columns):
    """[..., H, W, C] with row weights [h, H] and column weights [w, W] -> [..., h, w, C]."""
    rows, columns = jnp.asarray(rows, images.dtype), jnp.asarray(columns, images.dtype)
    # HIGHEST: resampled pixels are compared with a tolerance of 1/255, TF32 has 1/1024.
    half = jnp.einsum("hH,...HWC->...hWC", rows, images, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("wW,...hWC->...hwC", columns, half, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=64)
def _area_matrix(size: int, out_size: int) -> np.ndarray:
    """[out, in] overlap of output pixel i with input pixel j, rows summing to 1."""
    edges = np.arange(out_size + 1) * (size / out_size)
    pixels = np.arange(size, dtype=np.float64)
    overlap = np.minimum(edges[1:, None], pixels[None] + 1) - np.maximum(edges[:-1, None], pixels[None])
    return _unit_rows(np.maximum(overlap, 0.0))


@functools.lru_cache(maxsize=64)
def _box_matrix(size: int, start: float, length: float, out_size: int) -> np.ndarray:
    """[out, in] triangle-filter weights of the interval [start, start + length] of a row of pixels."""
    scale = length / out_size
    radius = max(scale, 1.0)
    centres = start + (np.arange(out_size) + 0.5) * scale
    first, last = int(np.floor(centres[0] - radius)) - 1, int(np.ceil(centres[-1] + radius)) + 1
    taps = np.arange(first, last + 1)
    wide = np.maximum(0.0, 1.0 - np.abs(taps[None] + 0.5 - centres[:, None]) / radius)
    matrix = np.zeros((out_size, size))
    np.add.at(matrix.T, np.clip(taps, 0, size - 1), wide.T)  # taps outside fall on the edge pixel
    return _unit_rows(matrix)


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def to_linear(srgb: Array) -> jax.Array:
    """sRGB values in 0..1 as light (IEC 61966-2-1)."""
    return jnp.where(srgb <= 0.04045, srgb / 12.92, _power((srgb + 0.055) / 1.055, 2.4))


def to_srgb(light: Array) -> jax.Array:
    """Light in 0..1 as sRGB values."""
    return jnp.where(light <= 0.0031308, light * 12.92, 1.055 * _power(light, 1 / 2.4) - 0.055)


def _power(x: Array, exponent: float) -> jax.Array:
    """x ** exponent for x in 0..1; XLA:CPU's own power is not vectorised."""
    return jnp.exp2(exponent * jnp.log2(jnp.maximum(x, 1e-8)))
