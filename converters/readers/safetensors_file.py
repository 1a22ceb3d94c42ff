"""safetensors: eight bytes of size, a JSON header, then the arrays, end to end, with nothing between or behind."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from converters.readers.unsafe_file import UnsafeFileError

MAX_HEADER = 25_000_000
MAX_TENSORS = 50_000
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}


def read_safetensors(data: memoryview) -> dict[str, np.ndarray]:
    """Every array under its name (bfloat16 as float32); Refusal unless the arrays tile the rest of the file exactly."""
    (size,) = struct.unpack("<Q", data[:8])
    if size > MAX_HEADER or 8 + size > len(data):
        raise UnsafeFileError(f"a safetensors header of {size} bytes in a file of {len(data)}")
    header = json.loads(bytes(data[8:8 + size]).decode("utf-8"), object_pairs_hook=_without_doubles)
    if not isinstance(header, dict):
        raise UnsafeFileError("a safetensors header that is no object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise UnsafeFileError(f"a safetensors file of {len(header)} arrays")
    body = data[8 + size:]
    entries = sorted(((name, *_entry(name, entry)) for name, entry in header.items()), key=lambda e: (e[3], e[4]))
    at, arrays = 0, {}
    for name, dtype, shape, start, stop in entries:
        if start != at or stop > len(body):
            raise UnsafeFileError(f"{name!r:.80} starts at byte {start} where {at} is due: arrays overlap or leave "
                                  "gaps, or the file is truncated")
        at = stop
        flat = np.frombuffer(body[start:stop], _TYPES[dtype]) if stop > start else np.zeros(0, _TYPES[dtype])
        array = flat.reshape(shape)
        arrays[name] = (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array
    if at != len(body):
        raise UnsafeFileError(f"{len(body) - at} bytes behind the last array")
    return {name: arrays[name] for name in header}


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnsafeFileError(f"the entry {name!r:.80} is damaged")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _TYPES:
        raise UnsafeFileError(f"{name!r:.80} is of type {dtype!r:.20}")
    numbers = [*shape, *offsets]
    if len(offsets) != 2 or len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise UnsafeFileError(f"{name!r:.80} has a damaged shape or place")
    if math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize != offsets[1] - offsets[0]:
        raise UnsafeFileError(f"{name!r:.80} has shape {shape!r:.60} and {offsets[1] - offsets[0]} bytes")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise UnsafeFileError("a safetensors header with two entries of one name")
    return result
