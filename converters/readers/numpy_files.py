"""numpy's own files: .npy and .npz, numeric arrays only."""

from __future__ import annotations

import math
import re
import struct

import numpy as np

from converters.readers.limits import Limits
from converters.readers.names import native
from converters.readers.unsafe_file import UnsafeFileError, brief
from converters.readers.zips import Archive

MAX_AXES = 32
_ITEM = re.compile(r""" *(['"])(descr|fortran_order|shape)\1 *: *"""
                   r"""((['"])[<>|=]?[a-zA-Z]\d{1,9}\4|True|False|\( *\)|\( *(?:0|[1-9]\d{0,17})L? *, *\)|"""
                   r"""\( *(?:0|[1-9]\d{0,17})L? *(?:, *(?:0|[1-9]\d{0,17})L? *)+,? *\)) *(?:,|$)""")


def read_npz(archive: Archive, limits: Limits) -> dict[str, np.ndarray]:
    """Every member's array under its name without ".npy"."""
    return {name.removesuffix(".npy"): read_npy(archive.read(name), limits, what=name) for name in archive.names}


def read_npy(data: memoryview, limits: Limits, *, what: str = "the array") -> np.ndarray:
    """One array, a view of the data; UnsafeFileError for anything but numbers, and for another size than declared."""
    if bytes(data[:6]) != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2, 3) or data[7]:
        raise UnsafeFileError(f"{what} is not in numpy's format")
    size, start = (struct.unpack("<H", data[8:10])[0], 10) if data[6] == 1 else (struct.unpack("<I", data[8:12])[0], 12)
    if size > 10_000 or start + size > len(data):
        raise UnsafeFileError(f"{what} has a header of {size} bytes")
    descr, fortran, shape = _header(bytes(data[start:start + size]).decode("ascii"), what)
    dtype, body = np.dtype(descr), data[start + size:]
    if dtype.kind not in "biufU":
        raise UnsafeFileError(f"{what} holds {descr!r:.60}; weights are numbers")
    if len(shape) > MAX_AXES or math.prod(shape) * dtype.itemsize != len(body):
        raise UnsafeFileError(f"{what} has {len(body)} bytes of data, its shape {brief(shape)} needs another number")
    limits.take(what, len(body))
    flat = np.frombuffer(body, dtype) if len(body) else np.zeros(0, dtype)
    return native(flat.reshape(shape, order="F" if fortran else "C"))


def _header(text: str, what: str) -> tuple[str, bool, tuple[int, ...]]:
    """Type, order and shape of "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"; nothing is evaluated."""
    text, found, at = text.strip(" \n"), {}, 0
    if not (text.startswith("{") and text.endswith("}")):
        raise UnsafeFileError(f"{what} has a damaged header")
    body = text[1:-1].strip(" ")
    while at < len(body):
        item = _ITEM.match(body, at)
        if item is None or item[2] in found:
            raise UnsafeFileError(f"{what} has a header of something else than numbers: {brief(body[at:])}")
        found[item[2]] = item[3]
        at = item.end()
    if set(found) != {"descr", "fortran_order", "shape"} or found["descr"][0] not in "'\"" or \
            found["fortran_order"] not in ("True", "False") or found["shape"][0] != "(":
        raise UnsafeFileError(f"{what} has a damaged header")
    shape = tuple(int(number) for number in re.findall(r"\d+", found["shape"]))
    return found["descr"][1:-1], found["fortran_order"] == "True", shape
