"""Pictures made to cost time or memory are refused in one line; odd metadata is no damage."""

import io
import time

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pie_jax.errors import InputError
from pie_jax.io import load_photo


def picture(size=(64, 64)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once(tmp_path):
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    (tmp_path / "good.jpg").write_bytes(data)
    assert load_photo(tmp_path / "good.jpg").size == (64, 64)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "many.jpg").write_bytes(data[:last] + data[last:-2] * 3000 + b"\xff\xd9")
    began = time.perf_counter()
    with pytest.raises(InputError, match="many.jpg: is a progressive JPEG of more than 200 scans"):
        load_photo(tmp_path / "many.jpg")
    assert time.perf_counter() - began < 2


def test_what_lies_behind_a_jpeg_is_no_scan_of_it(tmp_path):
    buffer = io.BytesIO()
    picture((200, 200)).save(buffer, "JPEG", quality=98)  # with many bytes that look like markers' beginnings
    (tmp_path / "film.jpg").write_bytes(buffer.getvalue() + b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 5000)
    assert load_photo(tmp_path / "film.jpg").size == (200, 200)
    padded = buffer.getvalue()[:2] + b"\xff" * 40 + buffer.getvalue()[2:]
    (tmp_path / "padded.jpg").write_bytes(padded)
    assert load_photo(tmp_path / "padded.jpg").size == (200, 200)


def test_metadata_is_left_alone_until_there_is_too_much(tmp_path):
    def saved(name, texts):
        notes = PngImagePlugin.PngInfo()
        for i, text in enumerate(texts):
            notes.add_text(f"k{i}", text, zip=True)
        picture().save(tmp_path / name, pnginfo=notes)
        return tmp_path / name

    assert load_photo(saved("long.png", ["x" * 1_500_000])).size == (64, 64)
    with pytest.raises(InputError, match="texts of metadata"):
        load_photo(saved("many.png", ["x"] * 5000))
