"""Random changes of a file's bytes, as damage and malice make them."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
from collections.abc import Callable

_WHOLE = (0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**45, 2**63 - 1, 2**64 - 1)
# words of the containers: opcodes of pickles that call, fill, remember, repeat; marks of archives; JSON; MATLAB's tags
_WORDS = (*(bytes([opcode]) for opcode in b"(.02RbtsuaeQ]})N\x81\x94\x93-[{\""), b"q\0", b"h\0", b"h\1", b"2\x86",
          b"1,", b"null", b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"X\xff\xff\xff\x7f", b"\x8a\xff",
          b"U\x02os", *(b"PK" + mark for mark in (b"\1\2", b"\3\4", b"\5\6", b"\6\6", b"\7\x08")), b"\0" * 8,
          b"\xff" * 8, *(bytes([tag, 0, 0, 0]) for tag in (3, 4, 14, 15)), b"\1\0\4\0")


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One to three random changes of a file: bits, bytes, numbers, text, and pieces cut, moved, doubled or put in."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            data = rng.choice(_CHANGES)(rng, data)
    return data


def _bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.choice((0, 1, 10, 46, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def _number(rng: random.Random, data: bytes) -> bytes:
    kind, value = rng.choice("HIQ"), rng.choice((*_WHOLE, len(data), rng.randrange(2**20)))
    raw = struct.pack(rng.choice("<>") + kind, value % 2 ** (8 * struct.calcsize(f"<{kind}")))
    at = rng.randrange(len(data))
    return (data[:at] + raw + data[at + len(raw):])[:len(data)]


def _digits(rng: random.Random, data: bytes) -> bytes:
    if not (found := list(re.finditer(rb"-?\d+", data))):
        return _bytes(rng, data)
    place, value = rng.choice(found), rng.choice((*_WHOLE, -1, 10**20, rng.randrange(100)))
    return data[:place.start()] + str(value).encode() + data[place.end():]


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 16, 64, 1 + rng.randrange(len(data)))))


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, stop = _span(rng, data)
    return data[:start] if rng.random() < 0.5 else data[:start] + data[stop:]


def _put_in(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 8, 64))) + data[at:]


def _double(rng: random.Random, data: bytes) -> bytes:
    start, stop = _span(rng, data)
    times = min(rng.choice((1, 1, 2, 1000, 100_000)), 2**17 // (stop - start) + 1)
    at = rng.choice((stop, rng.randrange(len(data) + 1)))
    return data[:at] + data[start:stop] * times + data[at:]


def _word(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_WORDS) * rng.choice((1, 1, 1, 2, 300)) + data[at:]


def _over(rng: random.Random, data: bytes) -> bytes:
    (start, stop), at = _span(rng, data), rng.randrange(len(data))
    return data[:at] + data[start:stop] + data[at + stop - start:]


def _inside(rng: random.Random, data: bytes) -> bytes:
    """A member of a zip archive changed and packed again with right checksums; another change where it is no zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
    except Exception:  # it is none, or was damaged before
        return _bits(rng, data)
    if not members:
        return data
    chosen, made = rng.randrange(len(members)), io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number, (info, body) in enumerate(members):
            if number == chosen and body:
                body = rng.choice(_PLAIN)(rng, body)
            archive.writestr(info.filename, body, compress_type=info.compress_type)
    return made.getvalue()


_PLAIN: tuple[Callable[[random.Random, bytes], bytes], ...] = (_bits, _bytes, _number, _digits, _cut, _put_in, _double,
                                                               _word, _over)
_CHANGES = (*_PLAIN, _inside)
