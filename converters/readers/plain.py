"""Plain pickles: NVIDIA's networks (TensorFlow `dnnlib`, PyTorch `torch_utils.persistence`) and FLAME."""

from __future__ import annotations

import struct
from typing import Any

from converters.readers.arrays import Storage
from converters.readers.checkpoint import Node, is_network
from converters.readers.limits import Limits
from converters.readers.machine import Machine
from converters.readers.names import KNOWN, TORCH, finish
from converters.readers.torch_files import LEGACY_MAGIC, storage_identity
from converters.readers.unsafe_file import UnsafeFileError


def read_plain(data: memoryview, limits: Limits) -> tuple[str, Any]:
    """(format, tree): "tf-network", "persistence" or "pickle"."""
    table = KNOWN | {"torch.storage._load_from_bytes": lambda arguments: _inner_storage(arguments, limits)}
    tree, end = Machine(data, limits, table).run()
    if end != len(data):
        raise UnsafeFileError(f"{len(data) - end} bytes behind the pickle")
    tree = finish(tree, limits)
    if isinstance(tree, tuple) and tree and all(is_network(value) for value in tree):
        return "tf-network", tree
    if isinstance(tree, dict) and any(isinstance(value, Node) and "_modules" in value.state for value in tree.values()):
        return "persistence", tree
    return "pickle", tree


def _inner_storage(arguments: tuple, limits: Limits) -> Storage:
    """One bare legacy storage, which torch writes where a storage is pickled by itself; nothing else is read."""
    raw = arguments[0]
    if not isinstance(raw, bytes | memoryview):
        raise UnsafeFileError("a storage that is not bytes")
    data = memoryview(raw)
    if bytes(data[:2]) == b"PK":
        raise UnsafeFileError("a zip archive inside a pickle; nothing in it was run")
    found: list[Storage] = []

    def persistent(identity: Any) -> Storage:
        kind, _, numel = storage_identity(identity)
        if len(identity) > 5 and identity[5] is not None:
            raise UnsafeFileError("a view as an inner storage")
        found.append(Storage(kind, numel))
        return found[-1]

    at, heads = 0, []
    for _ in range(3):
        value, at = Machine(data, limits, {}, start=at).run()
        heads.append(value)
    if heads[:2] != [LEGACY_MAGIC, 1001]:
        raise UnsafeFileError("an inner storage without torch's magic number")
    value, at = Machine(data, limits, _STORAGES, start=at, persistent=persistent).run()
    keys, at = Machine(data, limits, {}, start=at).run()
    if len(found) != 1 or value is not found[0] or not isinstance(keys, list) or len(keys) != 1:
        raise UnsafeFileError("an inner storage that is not one bare storage")
    storage = found[0]
    if at + 8 + storage.bytes != len(data) or struct.unpack_from("<q", data, at)[0] != storage.numel:
        raise UnsafeFileError("an inner storage of another size than it declares")
    storage.data = data[at + 8:]
    return storage


_STORAGES = {name: builder for name, builder in TORCH.items() if name.endswith("Storage")}
