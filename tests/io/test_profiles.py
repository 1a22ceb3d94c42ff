"""Colour profiles, and the kinds of pictures that not every Pillow reads."""

import io

import numpy as np
import pytest
from PIL import Image, features
from profiles import wide_profile

from pie_jax.errors import InputError
from pie_jax.io import is_picture, load_photo, load_with_profile, save_picture, to_profile


def picture(size=(64, 48)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_a_profile_is_kept_with_its_pixels(tmp_path):
    profile, image = wide_profile(), picture().point(lambda value: 90 + value // 4)  # colours that sRGB has too
    image.save(tmp_path / "a.png", icc_profile=profile)
    photo, own, kept = load_with_profile(tmp_path / "a.png")
    assert kept == profile and np.array_equal(np.asarray(own), np.asarray(image))
    assert np.abs(np.asarray(photo).astype(int) - np.asarray(image)).max() > 20  # other values for the same colours
    assert np.abs(np.asarray(to_profile(photo, profile)).astype(int) - np.asarray(image)).max() <= 3
    for name in ("b.png", "b.jpg"):
        save_picture(tmp_path / name, own, profile=kept)
        with Image.open(tmp_path / name) as again:
            assert again.info["icc_profile"] == profile and not again.getexif()


def test_without_a_profile_or_with_a_broken_one_there_is_none(tmp_path):
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "b.png", icc_profile=b"nonsense")
    for name in ("a.png", "b.png"):
        photo, own, kept = load_with_profile(tmp_path / name)
        assert own is None and kept is None and photo.size == (64, 48)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif_is_read(tmp_path):
    picture().save(tmp_path / "a.avif", quality=100)
    assert is_picture(tmp_path / "a.avif") and load_photo(tmp_path / "a.avif").size == (64, 48)


def test_heif_is_read_where_its_plugin_is(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    heif.from_pillow(picture()).save(tmp_path / "a.heic", quality=90)
    assert is_picture(tmp_path / "a.heic") and load_photo(tmp_path / "a.heic").size == (64, 48)


def test_a_heif_file_without_the_plugin_says_what_reads_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(InputError, match="pip install 'pie_jax\\[heif\\]'"):
        load_photo(tmp_path / "a.heic")
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(64))
    with pytest.raises(InputError, match="a video"):
        load_photo(tmp_path / "a.mp4")


def test_other_bytes_are_no_picture():
    with pytest.raises(InputError):
        to_profile(picture(), io.BytesIO(b"x").getvalue())
