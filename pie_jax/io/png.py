"""Large pictures as PNG, deflated in parts by two threads. Pillow has one, and tries five filters on a row."""

from __future__ import annotations

import concurrent.futures
import io
import struct
import zlib

import numpy as np
from PIL import PngImagePlugin

_PARTS, _THREADS = 8, 2
_UP = 2  # the filter: a row is its difference from the one above
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ZLIB_HEADER = b"\x78\x01"


def large_png(pixels: np.ndarray, *, notes: PngImagePlugin.PngInfo, profile: bytes | None) -> bytes:
    """PNG bytes of uint8 [H, W, 3]; only runs of equal bytes are shortened. Source: PNG specification, RFC 1950, 1951.

    notes: text chunks. profile: the ICC profile that its colours are in; None: sRGB.
    """
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, -1)
    rows = np.empty((height, 1 + flat.shape[1]), np.uint8)
    rows[:, 0], rows[0, 1:] = _UP, flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    parts = np.array_split(rows, min(_PARTS, height))
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        deflated = list(pool.map(_deflated, parts, [zlib.Z_FULL_FLUSH] * (len(parts) - 1) + [zlib.Z_FINISH]))
    buffer = io.BytesIO()
    buffer.write(_SIGNATURE)
    PngImagePlugin.putchunk(buffer, b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    if profile is not None:
        PngImagePlugin.putchunk(buffer, b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    for name, data, *_ in notes.chunks:
        PngImagePlugin.putchunk(buffer, name, data)
    PngImagePlugin.putchunk(buffer, b"IDAT", _ZLIB_HEADER, *deflated, struct.pack(">I", zlib.adler32(rows.data)))
    PngImagePlugin.putchunk(buffer, b"IEND")
    return buffer.getvalue()


def _deflated(rows: np.ndarray, flush: int) -> bytes:
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return deflate.compress(rows.data) + deflate.flush(flush)
