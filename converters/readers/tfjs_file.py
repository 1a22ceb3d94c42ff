"""TensorFlow.js graph models: a JSON file of nodes, and the files of weights beside it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.unsafe_file import MAX_NODES, UnsafeFileError

_TYPES = {"float32": "<f4", "int32": "<i4", "float16": "<f2"}


def is_tfjs(head: bytes) -> bool:
    """Whether a file that begins so may be a graph model."""
    return head.lstrip()[:1] == b"{" and b'"graph-model"' in head


def read_tfjs(path: Path, data: memoryview) -> dict[str, Any]:
    """{"nodes": [{"name", "op", "inputs", "attributes"}], "arrays": {name: array}, "outputs": [name]}.

    UnsafeFileError: a file of weights is elsewhere than beside it, missing or of another size; another quantisation.
    """
    model = json.loads(bytes(data).decode("utf-8"))
    nodes = model["modelTopology"]["node"]
    if len(nodes) > MAX_NODES:
        raise UnsafeFileError(f"a graph of {len(nodes)} nodes")
    arrays: dict[str, np.ndarray] = {}
    for group in model["weightsManifest"]:
        arrays |= _weights(group, b"".join(_beside(path, name) for name in group["paths"]))
    return {"nodes": [{"name": node["name"], "op": node["op"],
                       "inputs": [name.split(":")[0] for name in node.get("input", [])],
                       "attributes": {key: _plain(value) for key, value in node.get("attr", {}).items()}}
                      for node in nodes],
            "arrays": arrays, "outputs": [name.split(":")[0] for name in model["signature"]["outputs"]]}


def _beside(path: Path, name: str) -> bytes:
    if name != Path(name).name or name in ("", ".", ".."):
        raise UnsafeFileError(f"its weights are said to lie at {name!r:.80}, not beside it")
    try:
        return (path.parent / name).read_bytes()
    except OSError as error:
        raise UnsafeFileError(f"its weights {name!r:.80} cannot be read ({error.strerror})") from error


def _weights(group: dict[str, Any], body: bytes) -> dict[str, np.ndarray]:
    at, arrays = 0, {}
    for entry in group["weights"]:
        stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
        if stored not in _TYPES or entry["dtype"] not in _TYPES:
            raise UnsafeFileError(f"{entry['name']!r:.80} is stored as {stored!r:.20}")
        kind, count = np.dtype(_TYPES[stored]), math.prod(entry["shape"])
        stop = at + count * kind.itemsize
        if count < 0 or stop > len(body):
            raise UnsafeFileError(f"{entry['name']!r:.80} ends behind its file")
        array = np.frombuffer(body[at:stop], kind).reshape(entry["shape"])
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
