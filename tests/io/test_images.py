"""Images: resampling against slow references, and every kind of file a user may hand over."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from PIL import Image, ImageCms

from pie_jax import imaging
from pie_jax.config import CameraConfig
from pie_jax.errors import ResourceError
from pie_jax.io import images


def scene(height=96, width=96):
    """A smooth, asymmetric picture, uint8."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    planes = [0.2 + 0.6 * x, 0.9 - 0.7 * y, 0.5 + 0.3 * np.sin(5 * x + 3 * y)]
    return np.round(np.stack(planes, -1) * 255).astype(np.uint8)


def load(path, resolution=48, notices=None):
    return images.load_portrait(path, resolution=resolution, notice=(notices if notices is not None else []).append)


# Arrays


def area_reference(image, out):
    size = image.shape[0]
    result = np.zeros((out, out, image.shape[2]))
    fine = np.repeat(np.repeat(image.astype(np.float64), out, 0), out, 1)  # each pixel becomes out x out cells
    for i in range(out):
        for j in range(out):
            result[i, j] = fine[i * size:(i + 1) * size, j * size:(j + 1) * size].mean((0, 1))
    return result


@pytest.mark.parametrize("out", [4, 6, 7, 12, 17])
def test_resize_area_is_the_mean_over_each_pixel(out):
    image = np.random.default_rng(0).random((12, 12, 2)).astype(np.float32)
    got = imaging.resize_area(jnp.asarray(image), out)
    np.testing.assert_allclose(got, area_reference(image, out), atol=1e-6)


def test_resize_area_keeps_size_leading_axes_and_jit():
    batch = jax.random.uniform(jax.random.key(0), (2, 3, 10, 8, 3))
    assert imaging.resize_area(batch, (10, 8)).shape == batch.shape
    got = jax.jit(imaging.resize_area, static_argnums=1)(batch, (4, 3))
    assert got.shape == (2, 3, 4, 3, 3)
    np.testing.assert_allclose(got.mean((-3, -2)), batch.mean((-3, -2)), atol=1e-5)
    with pytest.raises(ValueError, match="images"):
        imaging.resize_area(jnp.zeros((4, 4)), 2)


def crop_reference(image, camera, out):
    """Direct sums: one triangle filter at each output pixel, coordinates clamped to the edge."""
    height, width, channels = image.shape
    scale = camera.crop_size * width / out
    radius = max(scale, 1.0)

    def weights(start, size):
        rows = np.zeros((out, size))
        for i in range(out):
            centre = start * width + (i + 0.5) * scale
            for j in range(-5 * size, 6 * size):
                rows[i, min(max(j, 0), size - 1)] += max(0.0, 1 - abs(j + 0.5 - centre) / radius)
        return rows / rows.sum(1, keepdims=True)

    rows, columns = weights(camera.crop_y, height), weights(camera.crop_x, width)
    return np.einsum("hH,wW,HWC->hwC", rows, columns, image)


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0), (0.1, 0.25, 0.5), (-0.2, 0.3, 1.3)])
@pytest.mark.parametrize("out", [3, 16, 31])
def test_face_crop_matches_direct_sums(box, out):
    camera = CameraConfig(crop_x=box[0], crop_y=box[1], crop_size=box[2])
    image = np.random.default_rng(1).random((16, 16, 3)).astype(np.float32)
    got = imaging.face_crop(jnp.asarray(image), camera, resolution=out)
    np.testing.assert_allclose(got, crop_reference(image, camera, out), atol=1e-5)


def test_face_crop_of_the_whole_portrait_is_the_portrait():
    image = jax.random.uniform(jax.random.key(2), (2, 16, 16, 3))
    np.testing.assert_allclose(imaging.face_crop(image, CameraConfig(), resolution=16), image, atol=1e-6)


def test_face_crop_places_pixels_where_the_camera_says():
    camera = CameraConfig(crop_x=0.2, crop_y=0.1, crop_size=0.6)
    ramp = jnp.broadcast_to(((jnp.arange(64) + 0.5) / 64)[None, :, None], (64, 64, 1))
    got = imaging.face_crop(ramp, camera, resolution=20)[10, :, 0]
    np.testing.assert_allclose(got, 0.2 + 0.6 * (np.arange(20) + 0.5) / 20, atol=1e-3)  # 0.06 px


def test_gradients_and_vmap():
    camera = CameraConfig(crop_x=-0.1, crop_y=0.2, crop_size=0.7)
    batch = jax.random.uniform(jax.random.key(3), (2, 12, 12, 3))
    check_grads(lambda x: imaging.face_crop(x, camera, resolution=5), (batch,), order=1, modes=("rev",), atol=1e-2)
    one = jax.vmap(lambda x: imaging.face_crop(x, camera, resolution=5))(batch)
    np.testing.assert_allclose(one, imaging.face_crop(batch, camera, resolution=5), atol=1e-6)


def test_psnr_and_ssim():
    a = jax.random.uniform(jax.random.key(4), (2, 16, 16, 3))
    np.testing.assert_allclose(imaging.psnr(a, a + 0.1), [20.0, 20.0], atol=1e-3)
    np.testing.assert_allclose(imaging.psnr(a, a), [100.0, 100.0])
    np.testing.assert_allclose(jax.jit(imaging.ssim)(a, a), [1.0, 1.0], atol=1e-5)
    assert imaging.ssim(a[0], 1 - a[0]).shape == () and float(imaging.ssim(a[0], 1 - a[0])) < 0
    np.testing.assert_allclose(imaging.from_pm1(2.0 * a - 1.0), a, atol=1e-6)


# Files


def test_a_png_of_the_right_size_is_read_exactly(tmp_path):
    Image.fromarray(scene(48, 48)).save(tmp_path / "a.png")
    got = load(tmp_path / "a.png")
    assert got.dtype == np.float32 and got.shape == (48, 48, 3)
    np.testing.assert_array_equal(np.round(got * 255), scene(48, 48))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
             7: "TRANSVERSE", 8: "ROTATE_270"}
    picture = Image.fromarray(scene(64, 64))
    stored = picture.transpose(getattr(Image.Transpose, turns[orientation])) if orientation > 1 else picture
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(load(tmp_path / "a.png"), load_plain(picture, tmp_path), atol=1.01 / 255)


def load_plain(picture, folder, resolution=48):
    picture.save(folder / "plain.png")
    return load(folder / "plain.png", resolution)


@pytest.mark.parametrize("mode,suffix", [("1", "png"), ("L", "png"), ("LA", "png"), ("P", "png"),
                                         ("RGBA", "png"), ("RGBA", "webp"), ("RGB", "webp"), ("CMYK", "jpg"),
                                         ("YCbCr", "jpg"), ("L", "jpg")])
def test_every_mode_reads_as_its_rgb_version(tmp_path, mode, suffix):
    picture = Image.fromarray(scene())
    picture = picture.convert(mode)
    options = {"png": {}, "webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}[suffix]
    picture.save(tmp_path / f"a.{suffix}", **({} if mode in ("CMYK",) else options))
    np.testing.assert_allclose(load(tmp_path / f"a.{suffix}"), load_plain(picture.convert("RGB"), tmp_path),
                               atol=(6 if suffix == "jpg" else 2) / 255)


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "F", "HSV", "PA", "RGBa", "RGBX"])
def test_modes_that_only_other_formats_have(tmp_path, mode):
    grey = Image.fromarray(scene()[..., 0])
    if mode in ("I", "I;16", "I;16B"):
        values = np.asarray(grey).astype(np.uint16) * 257
        picture = Image.fromarray(values.astype(np.int32) if mode == "I" else values)
        expected = grey
    elif mode == "F":
        picture, expected = grey.convert("F"), grey
    else:
        picture = Image.fromarray(scene())
        picture = picture.convert({"RGBa": "RGBA", "PA": "P"}.get(mode, mode)).convert(mode)
        expected = picture.convert("RGBA").convert("RGB") if mode in ("RGBa", "PA") else picture.convert("RGB")
    got = images._square_01(images._to_srgb(tmp_path / "x", picture, [].append), 48)
    np.testing.assert_allclose(got, load_plain(expected.convert("RGB"), tmp_path), atol=3 / 255)


def test_sixteen_bit_grey_keeps_its_depth(tmp_path):
    values = (np.linspace(0, 65535, 64)[None] * np.ones((64, 1))).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    got = load(tmp_path / "a.png", 64)
    np.testing.assert_allclose(got[..., 1], values / 65535, atol=1e-6)
    assert len(np.unique(got[0, :, 0])) == 64


def test_alpha_is_composed_on_white(tmp_path):
    rgba = np.dstack([scene(), np.zeros((96, 96), np.uint8)])
    rgba[:, 48:, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    got = load(tmp_path / "a.png", 96)
    np.testing.assert_array_equal(got[:, :48], 1.0)
    np.testing.assert_array_equal(np.round(got[:, 48:] * 255), scene()[:, 48:])
    Image.fromarray(scene()).quantize(16).save(tmp_path / "p.png", transparency=0)
    assert np.isfinite(load(tmp_path / "p.png")).all()


def test_profiles(tmp_path):
    picture = Image.fromarray(scene())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(tmp_path / "srgb.png", icc_profile=srgb)
    np.testing.assert_allclose(load(tmp_path / "srgb.png"), load_plain(picture, tmp_path), atol=2 / 255)
    notices = []
    picture.save(tmp_path / "broken.png", icc_profile=b"not a profile" * 20)
    np.testing.assert_allclose(load(tmp_path / "broken.png", notices=notices), load_plain(picture, tmp_path), atol=1e-6)
    assert "profile" in notices[0] and "broken.png" in notices[0]
    swapped = swapped_profile(srgb)
    picture.save(tmp_path / "swapped.jpg", icc_profile=swapped, quality=100, subsampling=0)
    got = load(tmp_path / "swapped.jpg")  # red and blue primaries exchanged: so are the channels
    np.testing.assert_allclose(got, load_plain(picture, tmp_path)[..., ::-1], atol=6 / 255)


def swapped_profile(profile):
    """An RGB matrix profile whose red and blue primaries are exchanged."""
    table = bytearray(profile)
    count = int.from_bytes(table[128:132], "big")
    for i in range(count):
        at = 132 + 12 * i
        name = bytes(table[at:at + 4])
        table[at:at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(table)


def test_notices_name_the_file(tmp_path):
    notices = []
    Image.fromarray(scene(64, 96)).save(tmp_path / "wide one.png")
    got = load(tmp_path / "wide one.png", 128, notices)
    assert got.shape == (128, 128, 3) and len(notices) == 2
    assert all("wide one.png" in n and "\n" not in n for n in notices)
    assert "not square" in notices[0] and "enlarged" in notices[1]
    with pytest.warns(UserWarning, match="not square"):
        images.load_portrait(tmp_path / "wide one.png", resolution=32)
    frames = [Image.fromarray(scene()), Image.fromarray(scene()[::-1])]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    notices.clear()
    np.testing.assert_allclose(load(tmp_path / "film.webp", notices=notices), load_plain(frames[0], tmp_path), atol=.01)
    assert "2 frames" in notices[0]


def test_save_is_whole_tagged_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "out.png"
    images.save_png(path, scene(48, 48) / 255.0, metadata={"pack": "demo"})
    np.testing.assert_array_equal(np.round(load(path) * 255), scene(48, 48))
    with Image.open(path) as image:
        assert json.loads(image.info["pie_jax"]) == {"pack": "demo"}
        assert image.info["Software"] == "pie_jax" and not image.getexif()
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    with pytest.raises(ResourceError, match="nowhere"):
        images.save_png(tmp_path / "nowhere" / "out.png", scene() / 255.0)
    with pytest.raises(ResourceError):
        images.replace_file(tmp_path, b"x")  # a folder is in the way
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_encode_png_survives_values_out_of_range():
    with Image.open(io.BytesIO(images.encode_png(np.array([[[np.nan, 2.0, -1.0]]])))) as image:
        assert image.getpixel((0, 0)) == (0, 255, 0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(4, 14), st.integers(4, 14), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**31 - 1))
def test_resampling_keeps_the_mean_and_is_linear(height, width, out_height, out_width, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, height, width, 3)).astype(np.float32)
    got = np.asarray(imaging.resize_area(jnp.asarray(a), (out_height, out_width)))
    assert got.shape == (out_height, out_width, 3)
    np.testing.assert_allclose(got.mean((0, 1)), a.mean((0, 1)), atol=2e-6)
    assert got.min() >= a.min() - 1e-6 and got.max() <= a.max() + 1e-6
    both = imaging.resize_area(jnp.asarray(2 * a - b), (out_height, out_width))
    np.testing.assert_allclose(both, 2 * got - imaging.resize_area(jnp.asarray(b), (out_height, out_width)), atol=1e-5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(0.0, 0.5), st.floats(0.0, 0.5), st.floats(0.25, 0.5), st.integers(1, 24), st.integers(0, 2**31 - 1))
def test_any_crop_is_the_direct_sums(x, y, size, out, seed):
    image = np.random.default_rng(seed).random((20, 20, 2)).astype(np.float32)
    camera = CameraConfig(crop_x=x, crop_y=y, crop_size=size)
    got = imaging.face_crop(jnp.asarray(image), camera, resolution=out)
    np.testing.assert_allclose(got, crop_reference(image, camera, out), atol=1e-5)
