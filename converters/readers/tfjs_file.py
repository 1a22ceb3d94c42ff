"""TensorFlow.js graph models: a JSON file of nodes, and the files of weights beside it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.limits import Limits
from converters.readers.mapped import beside
from converters.readers.unsafe_file import UnsafeFileError, brief

MAX_WEIGHTS = 2**28  # bytes of one file of weights; browsers are given files of 4 MB
_TYPES = {"float32": "<f4", "int32": "<i4", "float16": "<f2"}


def is_tfjs(head: bytes) -> bool:
    """Whether a file that begins so may be a graph model."""
    return head.lstrip()[:1] == b"{" and b'"graph-model"' in head


def read_tfjs(path: Path, data: memoryview, limits: Limits) -> dict[str, Any]:
    """{"nodes": [{"name", "op", "inputs", "attributes"}], "arrays": {name: array}, "outputs": [name]}.

    UnsafeFileError: a file of weights is elsewhere than beside it, missing or of another size; another quantisation.
    """
    model = json.loads(bytes(data).decode("utf-8"))
    nodes = model["modelTopology"]["node"]
    limits.enter(0, count=len(nodes))
    arrays: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for group in model["weightsManifest"]:
        arrays |= _weights(group, b"".join(_beside(path, name, used, limits) for name in group["paths"]), limits)
    return {"nodes": [{"name": node["name"], "op": node["op"],
                       "inputs": [name.split(":")[0] for name in node.get("input", [])],
                       "attributes": {key: _plain(value) for key, value in node.get("attr", {}).items()}}
                      for node in nodes],
            "arrays": arrays, "outputs": [name.split(":")[0] for name in model["signature"]["outputs"]]}


def _beside(path: Path, name: Any, used: set[str], limits: Limits) -> bytes:
    """A file of weights."""
    file = beside(path, name)
    try:
        size = file.stat().st_size
        if name in used or size > MAX_WEIGHTS:
            raise UnsafeFileError(f"its weights {brief(name)} are named twice, or over {MAX_WEIGHTS} bytes")
        used.add(name)
        limits.add(size)
        return file.read_bytes()
    except OSError as error:
        raise UnsafeFileError(f"its weights {brief(name)} cannot be read ({error.strerror})") from error


def _weights(group: dict[str, Any], body: bytes, limits: Limits) -> dict[str, np.ndarray]:
    at, arrays = 0, {}
    for entry in group["weights"]:
        stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
        if stored not in _TYPES or entry["dtype"] not in _TYPES:
            raise UnsafeFileError(f"{brief(entry['name'])} is stored as {brief(stored)}")
        shape = entry["shape"]
        if len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
            raise UnsafeFileError(f"{brief(entry['name'])} has shape {brief(shape)}")
        kind, count = np.dtype(_TYPES[stored]), math.prod(shape)
        stop = at + count * kind.itemsize
        if stop > len(body):
            raise UnsafeFileError(f"{brief(entry['name'])} ends behind its file")
        limits.take(brief(entry["name"]), count * np.dtype(_TYPES[entry["dtype"]]).itemsize)
        array = (np.frombuffer(body[at:stop], kind) if count else np.zeros(0, kind)).reshape(shape)
        arrays[entry["name"]] = array.astype(np.dtype(_TYPES[entry["dtype"]]))
        at = stop
    if at != len(body):
        raise UnsafeFileError(f"{len(body) - at} bytes behind the last array")
    return arrays


def _plain(value: dict[str, Any]) -> Any:
    """{"s": base64} as text, {"list": {"i": [...]}} as numbers; the rest as it is."""
    if "s" in value:
        return base64.b64decode(value["s"]).decode("ascii")
    if "list" in value and "i" in value["list"]:
        return [int(i) for i in value["list"]["i"]]
    return value
