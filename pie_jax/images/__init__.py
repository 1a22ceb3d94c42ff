"""Images: safe reading and writing of files, and resampling and comparison of arrays.

Arrays are [..., H, W, C], RGB, sRGB-encoded, float32. `_01` ranges over 0..1, `_pm1` over -1..1.
`files` needs no JAX; `sampling` holds the functions that run inside jit.
"""

from pie_jax.images.files import (
    ALPHA_BACKGROUND,
    MAX_PIXELS,
    MAX_SIDE,
    MIN_SIDE,
    encode_png,
    load_portrait,
    replace_file,
    save_png,
)
from pie_jax.images.sampling import face_crop, from_pm1, psnr, resize_area, ssim, to_pm1

__all__ = [
    "ALPHA_BACKGROUND",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MIN_SIDE",
    "encode_png",
    "face_crop",
    "from_pm1",
    "load_portrait",
    "psnr",
    "replace_file",
    "resize_area",
    "save_png",
    "ssim",
    "to_pm1",
]
