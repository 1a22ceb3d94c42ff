"""PyTorch's containers: the zip of today (`torch.save`, TorchScript) and the legacy stream of pickles before 1.6."""

from __future__ import annotations

import struct
from typing import Any

from converters.readers.arrays import Storage, storage_kind
from converters.readers.limits import MAX_BYTES, Limits
from converters.readers.machine import Machine, Name
from converters.readers.names import KNOWN, PendingNode, finish
from converters.readers.unsafe_file import STATE_DICT_ALONE, UnsafeFileError, brief
from converters.readers.zips import Archive

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_zip(archive: Archive, limits: Limits) -> Any:
    """The object in `*/data.pkl`; objects of TorchScript classes become Nodes. Code in the archive is never read."""
    pickles = [name for name in archive.names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise UnsafeFileError(f"an archive with {len(pickles)} data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    order = folder + "byteorder"
    if order in archive.names and bytes(archive.read(order)) != b"little":
        raise UnsafeFileError("big-endian numbers")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        kind, key, numel = storage_identity(identity)
        if key not in storages:
            storage = Storage(kind, numel)
            storage.data = archive.read(f"{folder}data/{key}", expected=storage.bytes)
            storages[key] = storage
        shared = storages[key]
        return shared if shared.kind == kind and shared.numel == numel else Storage(kind, numel, shared.data)

    prefixes = {"__torch__.": lambda name, arguments: PendingNode(name.removeprefix("__torch__."))}
    data = archive.read(pickles[0])
    tree, end = Machine(data, limits, KNOWN, prefixes=prefixes, persistent=persistent).run()
    if end != len(data):
        raise UnsafeFileError(f"{len(data) - end} bytes behind the pickle")
    return finish(tree, limits)


def read_legacy(data: memoryview, limits: Limits) -> Any:
    """The object of a stream: magic, version, system, object, keys, then each storage's numbers."""
    magic, at = Machine(data, limits, {}).run()
    if magic != LEGACY_MAGIC:
        raise UnsafeFileError("not torch's magic number")
    version, at = Machine(data, limits, {}, start=at).run()
    system, at = Machine(data, limits, {}, start=at).run()
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsafeFileError(f"torch's stream of version {brief(version)} and system {brief(system)}")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        kind, key, numel = storage_identity(identity)
        storage = storages.setdefault(key, Storage(kind, numel))
        if (storage.kind, storage.numel) != (kind, numel):
            raise UnsafeFileError(f"storage {key!r:.40} described twice and otherwise")
        view = identity[5] if len(identity) > 5 else None
        if view is None:
            return storage
        _, first, count = view
        if not all(isinstance(n, int) and n >= 0 for n in (first, count)) or first + count > numel:
            raise UnsafeFileError("a view that leaves its storage")
        return Storage(kind, count, base=storage, first=first)

    tree, at = Machine(data, limits, KNOWN, start=at, persistent=persistent).run()
    keys, at = Machine(data, limits, {}, start=at).run()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise UnsafeFileError("the list of storages is not the one the object needs: the file is damaged")
    for key in keys:
        storage = storages[key]
        if at + 8 > len(data):
            raise UnsafeFileError(f"it ends before storage {key}: the file is truncated")
        (count,) = struct.unpack_from("<q", data, at)
        if count != storage.numel:
            raise UnsafeFileError(f"storage {key} has {count} numbers, {storage.numel} are declared")
        if at + 8 + storage.bytes > len(data):
            raise UnsafeFileError(f"it ends inside storage {key}: the file is truncated")
        storage.data = data[at + 8:at + 8 + storage.bytes]
        at += 8 + storage.bytes
    if at != len(data):
        raise UnsafeFileError(f"{len(data) - at} bytes behind the last storage")
    return finish(tree, limits)


def storage_identity(identity: Any) -> tuple[str, str, int]:
    """Kind, key and number of elements of a torch persistent id; UnsafeFileError."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        what = identity[0] if isinstance(identity, tuple) and identity else identity
        raise UnsafeFileError(f"a persistent id {brief(what)}, which is no tensor", advice=STATE_DICT_ALONE)
    _, cls, key, _, numel = identity[:5]
    if not isinstance(cls, Name) or not isinstance(key, str) or not isinstance(numel, int) or isinstance(numel, bool) \
            or not 0 <= numel <= MAX_BYTES or "/" in key:
        raise UnsafeFileError("a damaged storage")
    return storage_kind(cls.name), key, numel
