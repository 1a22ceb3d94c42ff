"""Rows of the reliability table that concern input files: one clear line, never a traceback, never a half image.

Every file is made here by code.
"""

import io
import os
import pathlib
import socket
import struct
import tempfile
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from pie_jax.errors import InputError
from pie_jax.io import images


def picture(size=64):
    y, x = np.mgrid[0:size, 0:size]
    noise = np.random.default_rng(0).integers(0, 40, (size, size, 3))
    return Image.fromarray((np.stack([x * 2, y * 2, x + y], -1) % 200 + noise).astype(np.uint8))


def encoded(kind, size=64):
    buffer = io.BytesIO()
    picture(size).save(buffer, kind)
    return buffer.getvalue()


def refused(path, *words):
    """The InputError of reading `path`: one line, naming the file and each of `words`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            images.load_portrait(path, resolution=32)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    for word in words:
        assert word in message, message
    assert caught.value.exit_code == 3
    return message


def png_of(width, height, *, depth=8, colour=2, body=b""):
    """A PNG that declares a size and carries hardly any pixels."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(
        b"IEND", b"")


def test_missing_folder_empty_and_not_images(tmp_path):
    refused(tmp_path / "nobody.jpg", "nobody.jpg", "no such file")
    refused(tmp_path, "folder")
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "empty.png", "0 bytes")
    (tmp_path / "page.jpg").write_bytes(b"\n<!DOCTYPE html><html><body>404</body></html>")
    refused(tmp_path / "page.jpg", "page.jpg", "web page")
    (tmp_path / "noise.png").write_bytes(os.urandom(2000))
    refused(tmp_path / "noise.png", "not an image")
    refused("bad\0name.png", "bad")
    refused("x" * 300 + ".png", "name too long")


def test_links_sockets_and_pipes(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path / "loop.png", "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    refused(tmp_path / "dangling.png", "no such file")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "not a regular file")
    folder = os.getcwd()
    os.chdir(tmp_path)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s.png")
            refused("s.png", "not a regular file")
    finally:
        os.chdir(folder)


def test_odd_names_work_and_stay_on_one_line(tmp_path):
    for name in ("with space.png", "Zoë 李.png", "new\nline.png", "x" * 250 + ".png"):
        (tmp_path / name).write_bytes(encoded("PNG"))
        assert images.load_portrait(tmp_path / name, resolution=64, notice=print).shape == (64, 64, 3)
        (tmp_path / name).write_bytes(b"nothing")
        refused(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_anywhere_is_refused(tmp_path, kind):
    data = encoded(kind)
    path = tmp_path / f"cut.{kind.lower()}"
    for percent in range(1, 100):
        path.write_bytes(data[:len(data) * percent // 100])
        refused(path, "cut.")
    path.write_bytes(data[:-3])
    refused(path, "cut.")


def test_a_flipped_byte_raises_nothing_else(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "flip"
    for kind in ("PNG", "JPEG", "WEBP"):
        data = encoded(kind, 40)
        for _ in range(60):
            changed = bytearray(data)
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            try:
                got = images.load_portrait(path, resolution=40, notice=lambda text: None)
                assert np.isfinite(got).all()
            except InputError:
                pass


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "PPM", "EPS", "PDF", "ICO"])
def test_other_formats_are_refused_by_name(tmp_path, kind):
    (tmp_path / "other.png").write_bytes(encoded(kind))
    refused(tmp_path / "other.png", "other.png", "JPEG, PNG or WebP")


def test_bombs_are_refused_before_they_unfold(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image.size))
    for name, data in {
        "wide.png": png_of(20_000, 20_000),
        "long.png": png_of(1, 20_000),
        "tall.png": png_of(20_000, 1_000),
        "huge.png": png_of(2**31 - 1, 2**31 - 1),
        "flat.png": png_of(9_000, 9_000),
    }.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, name)
    message = refused(tmp_path / "wide.png")
    assert "64 megapixels" in message and not decoded
    monkeypatch.undo()
    text = b"key\0\0" + zlib.compress(b"a" * 200_000_000, 9)
    bomb = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    (tmp_path / "text.png").write_bytes(png_of(64, 64, body=bomb))
    tracemalloc.start()
    try:
        refused(tmp_path / "text.png")
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20  # of the 200 MB that the text would fill
    finally:
        tracemalloc.stop()


def test_too_small(tmp_path):
    picture(1).save(tmp_path / "dot.png")
    refused(tmp_path / "dot.png", "too small", "32 px")


def test_unreadable():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        locked = pathlib.Path(folder) / "locked.png"
        locked.write_bytes(encoded("PNG"))
        locked.chmod(0)
        locked.parent.chmod(0o755)
        if user == 0:  # who may read everything
            os.seteuid(65534)
        try:
            refused(locked, "ermission")
        finally:
            os.seteuid(user)
