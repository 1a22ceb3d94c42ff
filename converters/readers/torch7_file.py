"""Torch7 (.t7, binary): numbers, strings, tables, tensors and objects, which become Nodes; functions are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from converters.readers.arrays import Storage, Tensor
from converters.readers.checkpoint import Node
from converters.readers.limits import Limits
from converters.readers.unsafe_file import UnsafeFileError

_KINDS = {"Float": "Float", "Double": "Double", "Half": "Half", "Long": "Long", "Int": "Int", "Short": "Short",
          "Char": "Char", "Byte": "Byte", "Cuda": "Float", "CudaDouble": "Double", "CudaLong": "Long"}


def read_t7(data: memoryview, limits: Limits) -> Any:
    """The object of the file; a table with keys 1..n is a list. UnsafeFileError."""
    reader = _Reader(data, limits)
    value = reader.object(0)
    if reader.at != len(data):
        raise UnsafeFileError(f"{len(data) - reader.at} bytes behind the object")
    return value


class _Reader:
    def __init__(self, data: memoryview, limits: Limits):
        self.data, self.at, self.limits = data, 0, limits
        self.memo: dict[int, Any] = {}

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise UnsafeFileError(f"it ends in the middle of a value (at byte {len(self.data)}): the file is truncated")
        self.at += size
        return self.data[self.at - size:self.at]

    def numbers(self, kind: str, *, count: int = 1) -> tuple:
        return struct.unpack(f"<{count}{kind}", self.take(count * struct.calcsize("<" + kind)))

    def text(self) -> str:
        return str(self.take(self.numbers("i")[0]), "utf-8", "replace")

    def object(self, depth: int) -> Any:
        self.limits.enter(depth)
        (tag,) = self.numbers("i")
        if tag == 0:
            return None
        if tag == 1:
            (value,) = self.numbers("d")
            return int(value) if value.is_integer() else value
        if tag == 2:
            return self.text()
        if tag == 5:
            return bool(self.numbers("i")[0])
        if tag not in (3, 4):
            raise UnsafeFileError(
                f"a value of kind {tag} (a function?), which weights do not need; nothing in it was run")
        (index,) = self.numbers("i")
        if index in self.memo:
            return self.memo[index]
        self.memo[index] = None  # until it is read: an object cannot hold itself
        self.memo[index] = self.table(depth) if tag == 3 else self.instance(depth)
        return self.memo[index]

    def table(self, depth: int) -> Any:
        (size,) = self.numbers("i")
        result: dict[Any, Any] = {}
        for _ in range(size):
            key = self.object(depth + 1)
            if not isinstance(key, str | int | float | bool):
                raise UnsafeFileError(f"a table keyed by a {type(key).__name__}")
            result[key] = self.object(depth + 1)
        if result and set(result) == set(range(1, len(result) + 1)):
            return [result[i] for i in range(1, len(result) + 1)]
        return result

    def instance(self, depth: int) -> Any:
        name = self.text()
        if name.startswith("V "):
            name = self.text()
        library, _, kind = name.partition(".")
        if library == "torch" and kind.endswith("Tensor") and kind.removesuffix("Tensor") in _KINDS:
            return self.tensor(depth)
        if library == "torch" and kind.endswith("Storage") and kind.removesuffix("Storage") in _KINDS:
            storage = Storage(_KINDS[kind.removesuffix("Storage")], self.numbers("q")[0])
            storage.data = self.take(storage.bytes)
            return storage
        if library not in ("nn", "cudnn", "inn"):
            raise UnsafeFileError(f"an object of class {name!r:.60}, which weights do not need; nothing in it was run")
        state = self.object(depth + 1)
        if not isinstance(state, dict):
            raise UnsafeFileError(f"{name} holds no table")
        return Node(name, {str(key): value for key, value in state.items()})

    def tensor(self, depth: int) -> np.ndarray:
        (rank,) = self.numbers("i")
        if not 0 <= rank <= 16:
            raise UnsafeFileError(f"a tensor of {rank} axes")
        sizes, strides = self.numbers("q", count=rank), self.numbers("q", count=rank)
        (first,) = self.numbers("q")
        storage = self.object(depth + 1)
        if not rank or storage is None and 0 in sizes and max(sizes) < 2**31 and min(sizes) == 0:
            return np.zeros(sizes or (0,), np.float32)
        if not isinstance(storage, Storage):
            raise UnsafeFileError("a tensor without numbers")
        return Tensor(storage, first - 1, sizes, strides).array(self.limits)
