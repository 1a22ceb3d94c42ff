"""MATLAB 5 files (.mat) through scipy: structs as dicts, cells as lists, numbers as arrays."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.unsafe_file import MAX_BYTES, MAX_DEPTH, MAX_RATIO, SMALL, UnsafeFileError

_COMPRESSED = 15


def read_mat(path: Path, data: memoryview) -> dict[str, Any]:
    """Every variable under its name; Refusal where it would inflate beyond what the file may hold."""
    import scipy.io

    _check_inflated(data)
    try:
        variables = scipy.io.loadmat(io.BytesIO(data), struct_as_record=True, squeeze_me=False, mat_dtype=False)
    except Exception as error:  # scipy raises many kinds for a damaged file: all mean the same
        raise UnsafeFileError(f"a damaged MATLAB file ({' '.join(str(error).split())[:160]})") from error
    return {name: _plain(value, 0) for name, value in variables.items() if not name.startswith("__")}


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UnsafeFileError("structs nested too deeply")
    if isinstance(value, np.ndarray) and value.dtype.names:  # an array of structs
        items = [{name: _plain(item[name], depth + 1) for name in value.dtype.names} for item in value.ravel()]
        return items[0] if len(items) == 1 else items
    if isinstance(value, np.void) and value.dtype.names:
        return {name: _plain(value[name], depth + 1) for name in value.dtype.names}
    if isinstance(value, np.ndarray) and value.dtype == object:  # a cell
        return [_plain(item, depth + 1) for item in value.ravel(order="F")]
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        texts = [str(text) for text in value.ravel()]
        return texts[0] if len(texts) == 1 else texts
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value
    return None  # function handles and objects of MATLAB: nothing that weights need


def _check_inflated(data: memoryview) -> None:
    """Inflate every packed element piece by piece, keeping nothing, and refuse a bomb."""
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise UnsafeFileError("a damaged MATLAB file (no byte order)")
    at, total, allowed = 128, 0, min(MAX_BYTES, max(SMALL, MAX_RATIO * len(data)))
    while at + 8 <= len(data):
        kind, size = struct.unpack(order + "II", data[at:at + 8])
        if at + 8 + size > len(data):
            raise UnsafeFileError("it ends inside a variable: the file is truncated")
        if kind == _COMPRESSED:
            inflater, piece = zlib.decompressobj(), bytes(data[at + 8:at + 8 + size])
            while piece:
                total += len(inflater.decompress(piece, 2**20))
                if total > allowed:
                    raise UnsafeFileError(f"it inflates to more than {allowed} bytes")
                piece = inflater.unconsumed_tail
        else:
            size = -(-size // 8) * 8
        at += 8 + size
