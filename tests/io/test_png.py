"""Large pictures as PNG: every reader gives the pixels, the notes and the profile back."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from pie_jax.io.images import encode_png
from pie_jax.io.png import large_png


def picture(height, width):
    """A slope with some noise, as photographs have."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height)], axis=-1)
    return (slopes + np.random.default_rng(0).normal(0, 1, slopes.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (37, 53)])
def test_pixels_come_back(size):
    pixels = picture(*size)
    with Image.open(io.BytesIO(large_png(pixels, notes=PngImagePlugin.PngInfo(), profile=None))) as read:
        read.verify()  # the checksums
    with Image.open(io.BytesIO(large_png(pixels, notes=PngImagePlugin.PngInfo(), profile=None))) as read:
        np.testing.assert_array_equal(np.asarray(read), pixels)
        assert read.mode == "RGB" and "icc_profile" not in read.info


def test_a_large_picture_keeps_notes_and_profile_and_is_no_larger_than_pillows():
    pixels = picture(800, 700)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode_png(pixels, metadata={"name": "ä", "n": 1}, profile=profile)
    with Image.open(io.BytesIO(data)) as read:
        np.testing.assert_array_equal(np.asarray(read), pixels)
        assert read.info["icc_profile"] == profile and '"n": 1' in read.info["pie_jax"]
        assert read.info["Software"] == "pie_jax"
    small = encode_png(pixels, effort=6)
    assert len(data) < 1.15 * len(small)
