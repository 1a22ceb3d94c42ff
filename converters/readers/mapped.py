"""A file's bytes as a read-only map: what is not looked at costs no memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from converters.readers.unsafe_file import UnsafeFileError, brief


def mapped(path: Path) -> memoryview:
    """All bytes of a file; UnsafeFileError where it has none."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise UnsafeFileError("the file is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def beside(path: Path, name: object) -> Path:
    """The file `name` in the folder of `path`; UnsafeFileError for another place, a link out, or no file."""
    if not isinstance(name, str) or name != Path(name).name or name in ("", ".", "..") or "\0" in name:
        raise UnsafeFileError(f"a part of it is said to lie at {brief(name)}, not beside it")
    file = path.parent / name
    if file.exists() and not file.is_file():
        raise UnsafeFileError(f"{brief(name)} beside it is no file")
    return file
