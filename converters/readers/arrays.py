"""Tensors of torch files: typed storages, and strided views of them as numpy arrays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from converters.readers.limits import Limits
from converters.readers.unsafe_file import UnsafeFileError, brief

_TYPES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4",
          "Short": "<i2", "Char": "<i1", "Byte": "<u1", "Bool": "|b1", "Untyped": "<u1"}


@dataclasses.dataclass
class Storage:
    """One run of numbers; `data` comes later than the object in the legacy container."""

    kind: str  # "Float", "Half", ...
    numel: int
    data: memoryview | None = None
    base: Storage | None = None  # a legacy view: `numel` elements of base from `first`
    first: int = 0

    @property
    def bytes(self) -> int:
        """Size of the stored numbers."""
        return self.numel * np.dtype(_TYPES[self.kind]).itemsize

    def flat(self) -> np.ndarray:
        """[numel] in the stored type (bfloat16 as its 16 bits); UnsafeFileError where data is missing or short."""
        if self.base is not None:
            return self.base.flat()[self.first:self.first + self.numel]
        if self.data is None:
            raise UnsafeFileError("a tensor whose numbers are not in the file")
        if len(self.data) != self.bytes:
            raise UnsafeFileError(f"a storage of {len(self.data)} bytes where {self.numel} numbers ({self.kind}) need "
                          f"{self.bytes}")
        return np.frombuffer(self.data, _TYPES[self.kind])


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset, sizes and strides in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, limits: Limits) -> np.ndarray:
        """The numbers as an array (bfloat16 becomes float32); UnsafeFileError where the view leaves the storage."""
        if len(self.size) != len(self.stride) or len(self.size) > 16 or \
                not all(isinstance(n, int) and 0 <= n < 2**48 for n in (self.offset, *self.size, *self.stride)):
            raise UnsafeFileError(f"a tensor of sizes {brief(self.size)} and strides {brief(self.stride)}")
        flat = self.storage.flat()
        count = math.prod(self.size)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride))
        if count and last >= flat.size:
            raise UnsafeFileError(f"a tensor that reads element {last} of a storage of {flat.size}")
        limits.take("a tensor", count * flat.itemsize)
        if count > max(flat.size, 2**20):
            raise UnsafeFileError(f"a tensor of {count} numbers on a storage of {flat.size}")
        if not count:
            array = np.zeros(self.size, flat.dtype)  # of no numbers
        else:
            steps = tuple(s * flat.itemsize for s in self.stride)
            array = np.lib.stride_tricks.as_strided(flat[self.offset:], self.size, steps, writeable=False)
        if self.storage.kind == "BFloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array


def storage_kind(name: Any) -> str:
    """"Float" of "torch.FloatStorage" or "torch.cuda.FloatStorage"; UnsafeFileError."""
    kind = str(name).rpartition(".")[2].removesuffix("Storage")
    if kind not in _TYPES:
        raise UnsafeFileError(f"a storage of type {str(name)[:60]!r}")
    return kind


def strided(value: Any) -> np.ndarray | None:
    """`value` when it is an array."""
    return value if isinstance(value, np.ndarray) else None
