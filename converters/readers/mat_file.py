"""MATLAB 5 files (.mat, what MATLAB's `save` writes up to -v7): structs as dicts, cells as lists, numbers as arrays.

A file is a header of 128 bytes and then elements: a type, a size, that many bytes, filled up to eight. A variable is an
element of elements (flags, sizes, name, data), and may be packed by zlib as a whole. Numbers keep the type they are
stored in, which MATLAB chooses as small as they allow, and their MATLAB shape of at least two axes.

Source: MAT-File Format (MathWorks, R2023b), chapter 1; the values are those of `scipy.io.loadmat`.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.readers.limits import Limits
from converters.readers.names import native
from converters.readers.unsafe_file import UnsafeFileError

_MATRIX, _PACKED, _PIECE = 14, 15, 2**20
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _OBJECT, _CHAR, _DENSE = 1, 2, 3, 4, range(6, 16)  # classes; 5 is sparse, 16 a function, 17 opaque
_COMPLEX = 0x800
MAX_AXES = 32


def read_mat(data: memoryview, limits: Limits) -> dict[str, Any]:
    """Every variable under its name; UnsafeFileError where it is damaged or inflates beyond what the file may ask for.

    Sparse and complex matrices, functions and objects that MATLAB keeps opaque are None.
    """
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None or len(data) < 136 or struct.unpack(f"{order}H", data[124:126])[0] != 0x100:
        raise UnsafeFileError("a damaged MATLAB file (no byte order, or another version)")
    reader, variables = _Reader(order, limits), {}
    for kind, content in reader.elements(data[128:]):
        if kind == _PACKED:
            (kind, content), *more = list(reader.elements(reader.inflated(content)))
            if more:
                raise UnsafeFileError("several variables packed as one")
        if kind != _MATRIX:
            raise UnsafeFileError(f"an element of type {kind} where a variable is due")
        name, value = reader.matrix(content, 0)
        if name in variables:
            raise UnsafeFileError(f"the variable {name!r:.60} twice")
        if name and not name.startswith("__"):  # MATLAB's own workspace has no name
            variables[name] = value
    return variables


class _Reader:
    def __init__(self, order: str, limits: Limits):
        self.order, self.limits = order, limits

    def elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """(type, content) of the elements that fill `data`."""
        at = 0
        while at < len(data):
            if at + 8 > len(data):
                raise UnsafeFileError("it ends inside an element: the file is truncated")
            kind, size = struct.unpack(f"{self.order}II", data[at:at + 8])
            if kind >> 16:  # a small one: its size in the upper half, its content where the size would be
                kind, size, start, filled = kind & 0xFFFF, kind >> 16, at + 4, 4
                if size > 4:
                    raise UnsafeFileError("a small element of more than four bytes")
            else:
                start, filled = at + 8, size if kind == _PACKED else -(-size // 8) * 8
            if start + size > len(data):
                raise UnsafeFileError("it ends inside an element: the file is truncated")
            yield kind, data[start:start + size]
            at = min(start + filled, len(data))  # the last may lack what fills it up

    def inflated(self, packed: memoryview) -> memoryview:
        """The bytes of a packed element, as far as the limits allow."""
        inflater, pieces, rest = zlib.decompressobj(), [], bytes(packed)
        while rest and not inflater.eof:
            pieces.append(inflater.decompress(rest, _PIECE))
            try:
                self.limits.take("a packed variable", len(pieces[-1]))
            except UnsafeFileError as refusal:
                raise UnsafeFileError(f"it inflates to more than {self.limits.allowed} bytes") from refusal
            rest = inflater.unconsumed_tail
        if not inflater.eof or inflater.unused_data:
            raise UnsafeFileError("a packed variable that is truncated, or has other bytes behind it")
        return memoryview(b"".join(pieces))

    def matrix(self, data: memoryview, depth: int) -> tuple[str, Any]:
        """(name, value) of one variable, cell or field; nothing in it makes an empty array."""
        self.limits.enter(depth)
        if not data:
            return "", np.zeros((0, 0))
        parts = self.elements(data)
        flags = self.integers(parts, kinds=(6,))
        if len(flags) != 2:
            raise UnsafeFileError("a variable without its flags")
        kind = flags[0] & 0xFF
        if kind == 17:
            return "", None
        sizes = self.integers(parts, kinds=(5, 6))
        if not 2 <= len(sizes) <= MAX_AXES or min(sizes) < 0 or math.prod(sizes) > 2**40:
            raise UnsafeFileError(f"a variable of {len(sizes)} axes, or of a size that is none")
        name = self.text(parts)
        if kind == _CELL:
            return name, [value for value in self.children(parts, math.prod(sizes), depth)]
        if kind in (_STRUCT, _OBJECT):
            return name, self.structs(parts, sizes, depth, named=kind == _OBJECT)
        if kind == _CHAR:
            return name, self.texts(parts, sizes)
        if kind in _DENSE:
            array = self.numbers(parts, sizes)
            return name, None if flags[0] & _COMPLEX else array
        return name, None

    def integers(self, parts: Iterator[tuple[int, memoryview]], *, kinds: tuple[int, ...]) -> tuple[int, ...]:
        kind, content = self.next(parts)
        if kind not in kinds or len(content) % 4 or len(content) > 4 * MAX_AXES:
            raise UnsafeFileError(f"an element of type {kind} and {len(content)} bytes where a few integers are due")
        return struct.unpack(f"{self.order}{len(content) // 4}{'i' if kind == 5 else 'I'}", content)

    def next(self, parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
        try:
            return next(parts)
        except StopIteration:
            raise UnsafeFileError("a variable that lacks some of its elements") from None

    def text(self, parts: Iterator[tuple[int, memoryview]]) -> str:
        kind, content = self.next(parts)
        if kind not in (1, 2, 16):
            raise UnsafeFileError(f"a name of type {kind}")
        return bytes(content).decode("latin-1")

    def children(self, parts: Iterator[tuple[int, memoryview]], count: int, depth: int) -> Iterator[Any]:
        """The values of `count` matrices, which are all that is left of a cell or struct."""
        for _ in range(count):
            kind, content = self.next(parts)
            if kind != _MATRIX:
                raise UnsafeFileError(f"an element of type {kind} in a cell or struct")
            yield self.matrix(content, depth + 1)[1]
        if next(parts, None) is not None:
            raise UnsafeFileError("a cell or struct of more values than its sizes say")

    def structs(self, parts: Iterator[tuple[int, memoryview]], sizes: tuple[int, ...], depth: int, *,
                named: bool) -> Any:
        """One struct as a dict, several as a list of them, the last axis running first as in numpy."""
        if named:
            self.text(parts)  # the class
        (width,), names = self.integers(parts, kinds=(5, 6)) or (0,), self.text(parts)
        if not 0 < width <= 2**16 or len(names) % width:
            raise UnsafeFileError("a struct with damaged names of its fields")
        fields = [names[at:at + width].split("\0")[0] for at in range(0, len(names), width)]
        if len(set(fields)) != len(fields):
            raise UnsafeFileError("a struct with two fields of one name")
        count = math.prod(sizes)
        values = list(self.children(parts, count * len(fields), depth))
        if not fields:
            return None
        items = [dict(zip(fields, values[at:at + len(fields)])) for at in range(0, len(values), len(fields))]
        turned = np.arange(count).reshape(sizes, order="F").ravel()
        return items[0] if count == 1 else [items[i] for i in turned]

    def texts(self, parts: Iterator[tuple[int, memoryview]], sizes: tuple[int, ...]) -> Any:
        """Rows of characters as texts, one row as one text."""
        kind, content = self.next(parts)
        if kind in _TEXTS:
            endian = {"<": "-le", ">": "-be"}[self.order] if kind > 16 else ""
            characters = bytes(content).decode(_TEXTS[kind] + endian, "replace")
        elif kind in (1, 2, 4):
            codes = np.frombuffer(content, self.order + _NUMBERS[2 if kind == 1 else kind])
            characters = codes.astype(np.uint16).tobytes().decode("utf-16-le", "replace")
        else:
            raise UnsafeFileError(f"text of type {kind}")
        if len(characters) != math.prod(sizes):
            raise UnsafeFileError(f"{len(characters)} characters where {math.prod(sizes)} are due")
        self.limits.enter(0, count=math.prod(sizes[:-1]))
        self.limits.take("text", 4 * len(characters))
        table = np.array(list(characters), "U1").reshape(sizes, order="F")
        rows = table.reshape(-1, sizes[-1]) if table.size else np.zeros((0, 0), "U1")
        found = ["".join(row).rstrip("\0") for row in rows]
        return found[0] if len(found) == 1 else found

    def numbers(self, parts: Iterator[tuple[int, memoryview]], sizes: tuple[int, ...]) -> np.ndarray:
        kind, content = self.next(parts)
        if kind not in _NUMBERS:
            raise UnsafeFileError(f"numbers of type {kind}")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if math.prod(sizes) * dtype.itemsize != len(content):
            raise UnsafeFileError(f"{len(content)} bytes of numbers where {list(sizes)} of {dtype} are due")
        flat = np.frombuffer(content, dtype) if len(content) else np.zeros(0, dtype)
        return native(flat.reshape(sizes, order="F"))
