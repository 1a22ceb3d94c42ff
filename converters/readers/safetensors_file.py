"""safetensors: eight bytes of size, a JSON header, then the arrays, end to end, with nothing between or behind.

Several files (shards) may belong together: a JSON file beside them, *.index.json, says which array is in which.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.limits import Limits
from converters.readers.mapped import beside, mapped
from converters.readers.unsafe_file import UnsafeFileError, brief

MAX_HEADER = 25_000_000
MAX_TENSORS = 50_000
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}


def read_safetensors(data: memoryview, limits: Limits) -> dict[str, np.ndarray]:
    """Every array under its name (bfloat16 as float32); UnsafeFileError unless the arrays tile the rest exactly."""
    if len(data) < 9:
        raise UnsafeFileError("it ends inside its header: the file is truncated")
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
        if start != at:
            raise UnsafeFileError(f"{name!r:.80} starts at byte {start}, not {at}: arrays overlap or leave gaps")
        if stop > len(body):
            raise UnsafeFileError(f"it ends inside {name!r:.80}, at byte {len(body)} of its arrays: the file is "
                                  "truncated")
        at = stop
        limits.take(f"{name!r:.80}", (stop - start) * (2 if dtype == "BF16" else 1))
        flat = np.frombuffer(body[start:stop], _TYPES[dtype]) if stop > start else np.zeros(0, _TYPES[dtype])
        array = flat.reshape(shape)
        arrays[name] = (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array
    if at != len(body):
        raise UnsafeFileError(f"{len(body) - at} bytes behind the last array")
    return {name: arrays[name] for name in header}


def read_safetensors_index(path: Path, data: memoryview, limits: Limits) -> dict[str, np.ndarray]:
    """The arrays of all shards that an index names; UnsafeFileError unless shards and index hold the same names."""
    places = shards_of(data)
    arrays: dict[str, np.ndarray] = {}
    for shard in dict.fromkeys(places.values()):
        try:
            body = mapped(beside(path, shard))
        except OSError as error:
            raise UnsafeFileError(f"its shard {brief(shard)} cannot be read ({error.strerror})",
                                  advice="put all shards beside their index") from error
        limits.add(len(body))
        found = read_safetensors(body, limits)
        if set(found) != {name for name, place in places.items() if place == shard}:
            raise UnsafeFileError(f"its shard {brief(shard)} holds other arrays than the index says")
        arrays |= found
    return {name: arrays[name] for name in places}


def shards_of(data: memoryview) -> dict[str, str]:
    """{array: file} of an index; UnsafeFileError."""
    if len(data) > MAX_HEADER:
        raise UnsafeFileError(f"an index of {len(data)} bytes")
    index = json.loads(bytes(data).decode("utf-8"), object_pairs_hook=_without_doubles)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or len(places) > MAX_TENSORS or \
            not all(isinstance(place, str) for place in places.values()):
        raise UnsafeFileError("an index of shards without its weight_map")
    return places


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnsafeFileError(f"the entry {name!r:.80} is damaged")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise UnsafeFileError(f"{name!r:.80} is of type {brief(dtype)}")
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise UnsafeFileError(f"{name!r:.80} has a damaged shape or place")
    numbers = [*shape, *offsets]
    if len(offsets) != 2 or len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise UnsafeFileError(f"{name!r:.80} has a damaged shape or place")
    if math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize != offsets[1] - offsets[0]:
        raise UnsafeFileError(f"{name!r:.80} has shape {brief(shape)} and {offsets[1] - offsets[0]} bytes")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise UnsafeFileError("two entries of one name in its header")
    return result
