"""A pickle machine that calls nothing: opcodes build containers, names stay names, a table says what they build.

Python's own Unpickler calls what a file names and sets attributes of what it finds; here a global is a `Name`, REDUCE
looks it up in a table of builders that we wrote, and BUILD fills only our own objects. Keys of dicts and members of
sets are scalars, so that nothing hostile is hashed.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any

from converters.readers.limits import Limits
from converters.readers.unsafe_file import STATE_DICT_ALONE, UnsafeFileError

_LARGE = 4096  # longer bytes are not copied but stay views of the file
_MARK = object()
_STOP = ord(".")


@dataclasses.dataclass(frozen=True)
class Name:
    """A global that the file mentions and the table knows; it is never imported."""

    name: str


class Buildable:
    """What BUILD may fill. `build(state)` stores it."""

    def build(self, state: Any) -> None:
        """Take the state; UnsafeFileError where it is not one of this object."""
        raise UnsafeFileError(f"state for {type(self).__name__}, which takes none")


Builder = Callable[[tuple], Any]


class Machine:
    """Runs one pickle: `Machine(data, limits, table).run()` -> (object, offset behind it).

    Args:
      data: the bytes; values longer than 4 kB are views of it.
      limits: of the file; operations, and what calls may copy, are counted there.
      table: what each known global builds from its arguments; None for a name that is only ever an argument.
      prefixes: builders for whole families of names ("__torch__."), which get the name too.
      persistent: what a persistent id stands for; None refuses them.
    Errors: UnsafeFileError naming the global, opcode or place.
    """

    def __init__(self, data: memoryview, limits: Limits, table: Mapping[str, Builder | None], *, start: int = 0,
                 prefixes: Mapping[str, Callable[[str, tuple], Any]] | None = None,
                 persistent: Callable[[Any], Any] | None = None):
        self._data, self._at, self._limits, self._table = data, start, limits, table
        self._prefixes, self._persistent = prefixes or {}, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> tuple[Any, int]:
        """The object, and where the pickle ends."""
        data, size, step, operations = self._data, len(self._data), self._limits.step, _BY_CODE
        while True:
            step()
            at = self._at
            if at >= size:
                raise _truncated(size)
            self._at = at + 1
            code = data[at]
            operation = operations[code]
            if operation is not None:
                operation(self)
            elif code == _STOP:
                return self._pop(), self._at
            else:
                raise UnsafeFileError(f"opcode {bytes([code])!r} at byte {at} is not one that weights need")

    # ---------------------------------------------------------------------------------- reading
    def _take(self, count: int) -> memoryview:
        if count < 0 or self._at + count > len(self._data):
            raise _truncated(len(self._data))
        piece = self._data[self._at:self._at + count]
        self._at += count
        return piece

    def _number(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self._take(struct.calcsize("<" + kind)))[0]

    def _line(self) -> bytes:
        rest = bytes(self._data[self._at:self._at + 65536])
        end = rest.find(b"\n")
        if end < 0:
            raise UnsafeFileError(f"a line without end at byte {self._at}")
        self._at += end + 1
        return rest[:end]

    # ---------------------------------------------------------------------------------- the stack
    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise UnsafeFileError(f"a damaged pickle: nothing on the stack at byte {self._at}")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._push(value)
        return value

    def _pop_to_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                items = self._stack[i + 1:]
                del self._stack[i:]
                return items
        raise UnsafeFileError(f"a damaged pickle: no mark on the stack at byte {self._at}")

    def _pop_tuple(self, count: int) -> None:
        self._push(tuple(reversed([self._pop() for _ in range(count)])))

    # ---------------------------------------------------------------------------------- values
    def _bytes(self, kind: str) -> None:
        piece = self._take(self._number(kind))
        self._push(piece if len(piece) > _LARGE else bytes(piece))

    def _text(self, kind: str, encoding: str) -> None:
        self._push(str(self._take(self._number(kind)), encoding, "surrogatepass" if encoding == "utf-8" else "strict"))

    def _long(self, kind: str) -> None:
        size = self._number(kind)
        if size > 64:
            raise UnsafeFileError(f"an integer of {size} bytes at byte {self._at}")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _decimal(self) -> None:
        text = self._line()
        if text in (b"00", b"01"):
            self._push(text == b"01")
        elif len(text) > 64:
            raise UnsafeFileError(f"an integer of {len(text)} digits at byte {self._at}")
        else:
            self._push(int(text.rstrip(b"L") or b"0"))

    def _quoted(self) -> None:
        text = self._line().strip()
        if len(text) < 2 or text[:1] not in b"\"'" or text[-1:] != text[:1]:
            raise UnsafeFileError(f"a damaged string at byte {self._at}")
        self._push(text[1:-1].decode("unicode_escape"))

    # ---------------------------------------------------------------------------------- containers
    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise UnsafeFileError(f"list items for a {type(target).__name__}")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            raise UnsafeFileError(f"dict items for a {type(target).__name__}")
        store(target, items)

    def _add_items(self) -> None:
        items, target = self._pop_to_mark(), self._top()
        if not isinstance(target, set):
            raise UnsafeFileError(f"set items for a {type(target).__name__}")
        for item in items:
            target.add(scalar_key(item))

    def _dict(self) -> None:
        items, target = self._pop_to_mark(), {}
        store(target, items)
        self._push(target)

    # ---------------------------------------------------------------------------------- names
    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafeFileError("a global whose name is not text")
        full = canonical(f"{module}.{name}")
        if full not in self._table and not any(full.startswith(p) for p in self._prefixes):
            shown = full if full.isprintable() and len(full) < 200 else repr(full[:200])
            raise UnsafeFileError(f"it names {shown}, which weights do not need; nothing in it was run",
                                  advice=STATE_DICT_ALONE)
        self._push(Name(full))

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise UnsafeFileError(f"a call of a {type(function).__name__} at byte {self._at}; nothing in it was run")
        self._limits.take(f"a call of {function.name}", sum(_size(argument) for argument in arguments))
        builder = self._table.get(function.name)
        if builder is not None:
            self._push(builder(arguments))
            return
        for prefix, build in self._prefixes.items():
            if function.name.startswith(prefix):
                self._push(build(function.name, arguments))
                return
        raise UnsafeFileError(f"a call of {function.name}, which is no constructor of weights; nothing in it was run",
                              advice=STATE_DICT_ALONE)

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._call(function, arguments)

    def _new_with_keywords(self) -> None:
        keywords, arguments, cls = self._pop(), self._pop(), self._pop()
        if keywords != {}:
            raise UnsafeFileError("a constructor with keywords")
        self._call(cls, arguments)

    def _instance(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        arguments = tuple(self._pop_to_mark())
        self._global(module, name)
        self._call(self._pop(), arguments)

    def _object(self) -> None:
        items = self._pop_to_mark()
        self._call(items[0] if items else None, tuple(items[1:]))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        parts = state if isinstance(state, tuple) else ()
        self._limits.take("a state", _size(state) + sum(_size(part) for part in parts))
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict):  # an OrderedDict's own attributes (torch's _metadata) are of no use here
            raise UnsafeFileError(f"state for a {type(target).__name__} at byte {self._at}; nothing in it was run")

    def _persist(self, identity: Any) -> None:
        if self._persistent is None:
            raise UnsafeFileError("a persistent id, which only torch archives may hold; nothing in it was run")
        self._push(self._persistent(identity))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    # ---------------------------------------------------------------------------------- memo
    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise UnsafeFileError(f"a damaged pickle: memo {index} is not there")
        self._push(self._memo[index])


def _truncated(size: int) -> UnsafeFileError:
    return UnsafeFileError(f"it ends in the middle of a value (at byte {size}): the file is truncated")


def _size(argument: Any) -> int:
    """Bytes that a builder may copy of one of its arguments."""
    if isinstance(argument, str | bytes | memoryview):
        return len(argument)
    return 8 * len(argument) if isinstance(argument, list | tuple | dict | set) else 0


def scalar_key(key: Any) -> Any:
    """`key`, if it is a number, text or None, a class's name as text; UnsafeFileError otherwise."""
    if isinstance(key, Name):  # an older Lightning keys its callbacks by their classes
        return key.name
    if not isinstance(key, str | int | float | bool | bytes | None):
        raise UnsafeFileError(f"a dict or set keyed by a {type(key).__name__}")
    return key


def store(target: dict, items: list[Any]) -> None:
    """Put [key, value, key, value, ...] into `target`; UnsafeFileError."""
    if len(items) % 2:
        raise UnsafeFileError("a dict with a key and no value")
    for key, value in zip(items[::2], items[1::2]):
        target[scalar_key(key)] = value


def canonical(name: str) -> str:
    """Today's spelling of a global that Python 2 or an older numpy spelt otherwise."""
    for old, new in (("__builtin__.", "builtins."), ("copy_reg.", "copyreg."), ("numpy.core.", "numpy._core.")):
        if name.startswith(old):
            return new + name[len(old):]
    return name


M = Machine
_OPERATIONS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda m: m._take(1), b"\x95": lambda m: m._take(8),  # protocol, frame
    b"(": lambda m: m._push(_MARK), b"0": lambda m: m._stack.pop() if m._stack else None,
    b"1": M._pop_to_mark, b"2": lambda m: m._push(m._top()),
    b"N": lambda m: m._push(None), b"\x88": lambda m: m._push(True), b"\x89": lambda m: m._push(False),
    b"I": M._decimal, b"L": M._decimal, b"J": lambda m: m._push(m._number("i")),
    b"K": lambda m: m._push(m._number("B")), b"M": lambda m: m._push(m._number("H")),
    b"\x8a": lambda m: m._long("B"), b"\x8b": lambda m: m._long("i"),
    b"F": lambda m: m._push(float(m._line()[:64])), b"G": lambda m: m._push(struct.unpack(">d", m._take(8))[0]),
    b"S": M._quoted, b"T": lambda m: m._text("i", "latin-1"), b"U": lambda m: m._text("B", "latin-1"),
    b"B": lambda m: m._bytes("I"), b"C": lambda m: m._bytes("B"), b"\x8e": lambda m: m._bytes("Q"),
    b"\x96": lambda m: m._bytes("Q"),
    b"V": lambda m: m._push(m._line().decode("raw-unicode-escape")), b"X": lambda m: m._text("I", "utf-8"),
    b"\x8c": lambda m: m._text("B", "utf-8"), b"\x8d": lambda m: m._text("Q", "utf-8"),
    b")": lambda m: m._push(()), b"t": lambda m: m._push(tuple(m._pop_to_mark())),
    b"\x85": lambda m: m._pop_tuple(1), b"\x86": lambda m: m._pop_tuple(2), b"\x87": lambda m: m._pop_tuple(3),
    b"]": lambda m: m._push([]), b"l": lambda m: m._push(m._pop_to_mark()),
    b"a": lambda m: m._append([m._pop()]), b"e": lambda m: m._append(m._pop_to_mark()),
    b"}": lambda m: m._push({}), b"d": M._dict,
    b"s": lambda m: m._set_items([m._pop(), m._pop()][::-1]), b"u": lambda m: m._set_items(m._pop_to_mark()),
    b"\x8f": lambda m: m._push(set()), b"\x90": M._add_items,
    b"\x91": lambda m: m._push({scalar_key(item) for item in m._pop_to_mark()}),
    b"c": lambda m: m._global(m._line().decode(), m._line().decode()), b"\x93": M._stack_global,
    b"R": M._reduce, b"\x81": M._reduce, b"\x92": M._new_with_keywords, b"i": M._instance, b"o": M._object,
    b"b": M._build, b"P": lambda m: m._persist(m._line().decode()), b"Q": lambda m: m._persist(m._pop()),
    b"p": lambda m: m._put(int(m._line()[:20])), b"q": lambda m: m._put(m._number("B")),
    b"r": lambda m: m._put(m._number("I")), b"\x94": lambda m: m._put(len(m._memo)),
    b"g": lambda m: m._get(int(m._line()[:20])), b"h": lambda m: m._get(m._number("B")),
    b"j": lambda m: m._get(m._number("I")),
}
_BY_CODE = [_OPERATIONS.get(bytes([code])) for code in range(256)]
