"""TensorFlow Lite files: the tables of a flatbuffer, read field by field. Nothing in them is run.

Field numbers are those of tensorflow/lite/schema/schema.fbs. A claimed length is compared with the file's size before
anything is made of it, so a hostile file costs no more memory than it has bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from converters.readers.limits import Limits
from converters.readers.unsafe_file import UnsafeFileError

MAGIC = b"TFL3"  # at byte 4
MAX_SETTINGS = 1000  # of a custom operator, and numbers in one of them
_DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8"}
# builtin operators that feed-forward face networks are made of: number -> (name, {option: (field, kind, default)})
_STRIDES = {"padding": (0, "b", 0), "stride_x": (1, "i", 0), "stride_y": (2, "i", 0)}
_OPERATORS: dict[int, tuple[str, dict[str, tuple[int, str, Any]]]] = {
    0: ("add", {"activation": (0, "b", 0)}),
    1: ("mean_pool", {**_STRIDES, "width": (3, "i", 0), "height": (4, "i", 0), "activation": (5, "b", 0)}),
    2: ("concatenate", {"axis": (0, "i", 0), "activation": (1, "b", 0)}),
    3: ("conv", {**_STRIDES, "activation": (3, "b", 0), "dilation_x": (4, "i", 1), "dilation_y": (5, "i", 1)}),
    4: ("depthwise", {**_STRIDES, "multiplier": (3, "i", 0), "activation": (4, "b", 0), "dilation_x": (5, "i", 1),
                      "dilation_y": (6, "i", 1)}),
    6: ("dequantize", {}),
    14: ("sigmoid", {}),
    17: ("max_pool", {**_STRIDES, "width": (3, "i", 0), "height": (4, "i", 0), "activation": (5, "b", 0)}),
    18: ("multiply", {"activation": (0, "b", 0)}),
    19: ("relu", {}),
    22: ("reshape", {}),
    23: ("resize", {"align_corners": (2, "b", 0), "half_pixel": (3, "b", 0)}),
    34: ("pad", {}),
    45: ("slice", {}),
    54: ("prelu", {}),
    117: ("hard_swish", {}),
}


def read_tflite(data: memoryview, limits: Limits) -> dict[str, Any]:
    """{"operators": [{"kind", "inputs", "outputs", options...}], "shapes", "names", "arrays", "inputs", "outputs"}.

    Tensors are told by number; "arrays" are the constant ones. float16 weights stay float16, their dequantize operator
    is in the list. Errors: UnsafeFileError (an operator that is not known here, a length beyond the file).
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise UnsafeFileError("a TensorFlow Lite file, which needs flatbuffers: "
                              "pip install 'pie_jax[convert]'") from None
    buffer = bytes(data)
    model = _Table(buffer, struct.unpack_from("<I", buffer)[0], limits)
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise UnsafeFileError(f"{len(graphs)} graphs in one file; one is expected")
    graph, codes = graphs[0], [_code(table) for table in model.tables(1)]
    buffers = model.tables(4)
    shapes, names, arrays = [], [], {}
    for number, tensor in enumerate(graph.tables(0)):
        shape = tuple(tensor.integers(0))
        shapes.append(shape)
        names.append(tensor.text(3))
        content = buffers[tensor.scalar(2, "I", 0)].octets(0)
        if content:
            kind = tensor.scalar(1, "b", 0)
            if kind not in _DTYPES:
                raise UnsafeFileError(f"the tensor {names[-1]!r:.80} has a number type ({kind}) that is not known here")
            arrays[number] = np.frombuffer(content, _DTYPES[kind]).reshape(shape)
    operators = [_operator(table, codes) for table in graph.tables(3)]
    return {"operators": operators, "shapes": shapes, "names": names, "arrays": arrays,
            "inputs": list(graph.integers(1)), "outputs": list(graph.integers(2))}


def _code(table: _Table) -> tuple[int, str]:
    return max(table.scalar(3, "i", 0), table.scalar(0, "b", 0)), table.text(1)


def _operator(table: _Table, codes: list[tuple[int, str]]) -> dict[str, Any]:
    number, custom = codes[table.scalar(0, "I", 0)]
    found: dict[str, Any] = {"inputs": list(table.integers(1)), "outputs": list(table.integers(2))}
    if number == 32:
        return found | {"kind": custom, "options": table.octets(5)}
    if number not in _OPERATORS:
        raise UnsafeFileError(f"the operator {number} is not known here; face networks of MediaPipe are")
    kind, options = _OPERATORS[number]
    settings = table.table(4)
    return found | {"kind": kind} | {
        name: settings.scalar(field, form, default) if settings is not None else default
        for name, (field, form, default) in options.items()}


def read_options(octets: bytes) -> dict[str, Any]:
    """The settings of a custom operator, a FlexBuffer map of numbers and lists of numbers; UnsafeFileError for others.

    What is nested deeper is not followed: it may share its parts, and unfold without end.
    """
    from flatbuffers import flexbuffers

    def plain(value: Any) -> Any:
        if not (value.IsInt or value.IsFloat or value.IsBool or value.IsString):
            raise UnsafeFileError("settings of an operator that are neither numbers nor lists of numbers")
        return value.Value

    root: Any = flexbuffers.GetRoot(octets)
    if not root.IsMap or len(root.AsMap) > MAX_SETTINGS:
        raise UnsafeFileError("settings of an operator that are no map")
    found: dict[str, Any] = {}
    for key, value in zip(root.AsMap.Keys, root.AsMap.Values):
        vector = value.IsVector or value.IsTypedVector or value.IsFixedTypedVector
        items = (value.AsVector if value.IsVector else value.AsTypedVector if value.IsTypedVector else
                 value.AsFixedTypedVector) if vector else ()
        if len(items) > MAX_SETTINGS:
            raise UnsafeFileError("settings of an operator that do not end")
        found[str(key.AsKey)] = [plain(items[i]) for i in range(len(items))] if vector else plain(value)
    return found


class _Table:
    """A flatbuffer table: fields by number, absent ones with their default."""

    def __init__(self, buffer: bytes, position: int, limits: Limits):
        import flatbuffers.table

        self.limits = limits
        self.buffer, self._table = buffer, flatbuffers.table.Table(buffer, position)

    def _place(self, field: int) -> int:
        offset = self._table.Offset(4 + 2 * field)
        return self._table.Pos + offset if offset else 0

    def scalar(self, field: int, form: str, default: Any) -> Any:
        place = self._place(field)
        return struct.unpack_from(f"<{form}", self.buffer, place)[0] if place else default

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self.buffer, self._target(place), self.limits) if place else None

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field, size=4)
        self.limits.enter(0, count=count)
        return [_Table(self.buffer, self._target(start + 4 * i), self.limits) for i in range(count)]

    def integers(self, field: int) -> tuple[int, ...]:
        start, count = self._vector(field, size=4)
        return struct.unpack_from(f"<{count}i", self.buffer, start)

    def octets(self, field: int) -> bytes:
        start, count = self._vector(field, size=1)
        return self.buffer[start:start + count]

    def text(self, field: int) -> str:
        return self.octets(field).decode("utf-8", "replace")

    def _target(self, place: int) -> int:
        return place + struct.unpack_from("<I", self.buffer, place)[0]

    def _vector(self, field: int, *, size: int) -> tuple[int, int]:
        place = self._place(field)
        if not place:
            return 0, 0
        start = self._target(place)
        count = struct.unpack_from("<I", self.buffer, start)[0]
        if start + 4 + size * count > len(self.buffer):
            raise UnsafeFileError("a list that is longer than the file")
        self.limits.take("a list", size * count)
        return start + 4, count
