"""Members of a zip archive in memory: names, sizes and places are checked, nothing is extracted."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from converters.readers.limits import Limits
from converters.readers.unsafe_file import UnsafeFileError

MAX_MEMBERS = 100_000


class _Window(io.RawIOBase):
    """The mapped bytes as a file, without a copy, for zipfile to read the directory from."""

    def __init__(self, data: memoryview):
        self._data, self._at = data, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size is None or size < 0 else self._at + size
        piece = bytes(self._data[self._at:end])
        self._at += len(piece)
        return piece


class Archive:
    """A zip archive whose directory has been checked: plain relative names and honest sizes.

    The members fill the file end to end up to the directory, so none is hidden, shared, or left out of it.

    Errors (of the constructor and of `read`): UnsafeFileError.
    """

    def __init__(self, data: memoryview, limits: Limits):
        self._data = data
        try:
            with zipfile.ZipFile(_Window(data)) as archive:
                infos = archive.infolist()
                end, comment = archive.start_dir, len(archive.comment)
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError) as error:
            raise UnsafeFileError(f"a damaged or truncated zip archive ({error})") from error
        if len(infos) > MAX_MEMBERS:
            raise UnsafeFileError(f"an archive of {len(infos)} members")
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise UnsafeFileError("an archive with two members of one name")
        self._places: dict[str, tuple[int, int]] = {}
        at = 0  # where the next member is due
        for info in sorted(infos, key=lambda info: info.header_offset):
            self._check_name(info)
            limits.take(f"the member {info.filename}", info.file_size)
            start, stop = self._place(info)
            if info.header_offset != at:
                raise UnsafeFileError(self._gap(at, info.header_offset, f"the member {info.filename}"))
            self._places[info.filename] = start, stop
            at = stop + self._descriptor(info, stop)
        if at != end:
            raise UnsafeFileError(self._gap(at, end, "the directory"))
        if bytes(data[len(data) - comment - 22:len(data) - comment - 18]) != b"PK\5\6":
            raise UnsafeFileError("a zip archive with other bytes behind it")

    @property
    def names(self) -> list[str]:
        """Members, in the order of the directory."""
        return list(self._infos)

    def size(self, name: str) -> int:
        """Bytes of a member once inflated, as declared and checked."""
        return self._infos[name].file_size

    def read(self, name: str, *, expected: int | None = None) -> memoryview:
        """A member's bytes: a view of the file where it is stored as it is; `expected` is the size it must have."""
        info = self._infos.get(name)
        if info is None:
            raise UnsafeFileError(f"no member {name} in the archive: it is incomplete")
        if expected is not None and info.file_size != expected:
            raise UnsafeFileError(f"the member {name} has {info.file_size} bytes, {expected} are declared")
        start, stop = self._places[name]
        piece = self._data[start:stop]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            inflater = zlib.decompressobj(-15)
            try:
                piece = memoryview(inflater.decompress(piece, info.file_size + 1))
            except zlib.error as error:
                raise UnsafeFileError(f"the member {name} is damaged ({error})") from error
        if len(piece) != info.file_size:
            raise UnsafeFileError(f"the member {name} is not of the size it declares")
        if info.CRC and zlib.crc32(piece) != info.CRC:  # 0: torch was told to compute none
            raise UnsafeFileError(f"the member {name} is damaged: its checksum is another")
        return piece

    def _gap(self, due: int, found: int, what: str) -> str:
        if found < due:
            return f"{what} overlaps another member"
        if due == 0 and b"PK\5\6" in bytes(self._data[:found]):
            return "two zip archives, one behind the other: cut them apart, and give one"
        return f"{found - due} bytes before {what} that are not in the archive's directory: it is damaged"

    def _descriptor(self, info: zipfile.ZipInfo, stop: int) -> int:
        """Bytes of the sizes repeated behind a member, where its flag says that they are there."""
        if not info.flag_bits & 0x8:
            return 0
        for kind in ("<III", "<IQQ"):
            told = struct.pack(kind, info.CRC, info.compress_size, info.file_size) if kind == "<IQQ" or \
                max(info.compress_size, info.file_size) < 2**32 else b""
            for whole in (b"PK\7\x08" + told, told):
                if told and bytes(self._data[stop:stop + len(whole)]) == whole:
                    return len(whole)
        if info.file_size:
            raise UnsafeFileError(f"the member {info.filename} has other sizes behind it than in the directory")
        return 0  # torch's writer sets the flag of an empty member and repeats nothing

    def _check_name(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in name.split("/") or "\\" in name or ":" in name or "\0" in name:
            raise UnsafeFileError(f"a member named {name!r:.80}, which points out of the archive")
        if info.flag_bits & 0x1:
            raise UnsafeFileError(f"the member {name} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeFileError(f"the member {name} is packed by method {info.compress_type}")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise UnsafeFileError(f"the member {name} has two sizes")

    def _place(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        header = bytes(self._data[info.header_offset:info.header_offset + 30])
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise UnsafeFileError(f"the member {info.filename} has no header")
        name_size, extra_size = struct.unpack("<HH", header[26:30])
        start = info.header_offset + 30 + name_size + extra_size
        name = bytes(self._data[info.header_offset + 30:info.header_offset + 30 + name_size])
        if name.decode("utf-8", "replace") != info.orig_filename and name.decode("cp437") != info.orig_filename:
            raise UnsafeFileError(f"the member {info.filename} has two names")
        stop = start + info.compress_size
        if stop > len(self._data):
            raise UnsafeFileError(f"it ends inside the member {info.filename}: the file is truncated")
        return start, stop
