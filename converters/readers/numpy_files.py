"""numpy's own files: .npy and .npz, numeric arrays only."""

from __future__ import annotations

import ast
import math
import struct

import numpy as np

from converters.readers.names import native
from converters.readers.unsafe_file import UnsafeFileError
from converters.readers.zips import Archive


def read_npz(archive: Archive) -> dict[str, np.ndarray]:
    """Every member's array under its name without ".npy"."""
    return {name.removesuffix(".npy"): read_npy(archive.read(name), what=name) for name in archive.names}


def read_npy(data: memoryview, *, what: str = "the array") -> np.ndarray:
    """One array, a view of the data; Refusal for anything but numbers, or where the size is not the declared one."""
    if bytes(data[:6]) != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2, 3):
        raise UnsafeFileError(f"{what} is not in numpy's format")
    size, start = (struct.unpack("<H", data[8:10])[0], 10) if data[6] == 1 else (struct.unpack("<I", data[8:12])[0], 12)
    if size > 10_000 or start + size > len(data):
        raise UnsafeFileError(f"{what} has a header of {size} bytes")
    header = ast.literal_eval(bytes(data[start:start + size]).decode("utf-8" if data[6] == 3 else "latin-1"))
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise UnsafeFileError(f"{what} has a damaged header")
    descr, shape = header["descr"], header["shape"]
    if not isinstance(descr, str) or np.dtype(descr).kind not in "biufU" or np.dtype(descr).hasobject:
        raise UnsafeFileError(f"{what} holds {descr!r:.60}; weights are numbers")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnsafeFileError(f"{what} has shape {shape!r:.60}")
    body, dtype = data[start + size:], np.dtype(descr)
    if math.prod(shape) * dtype.itemsize != len(body):
        raise UnsafeFileError(f"{what} has {len(body)} bytes of data, its shape {shape} needs another number")
    flat = np.frombuffer(body, dtype) if len(body) else np.zeros(0, dtype)
    return native(flat.reshape(shape, order="F" if header["fortran_order"] else "C"))
