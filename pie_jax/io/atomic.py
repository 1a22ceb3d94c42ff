"""The one way to write a file: beside its place first, then renamed over it, so that it is never half there.

Arrays too large for that, which a run fills for hours, are reserved on the disk and filled in place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from pie_jax.errors import ResourceError
from pie_jax.io.text import cause_of, shown

_LONGEST_PREFIX = 80  # bytes of the file's own name in its temporary one


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file to write to, which replaces `path` when the block ends well; otherwise `path` stays as it was.

    Raises:
      ResourceError: no permission, no space, no such folder.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{_shortened(path.name)}.",
                                                 suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be written ({cause_of(error)}); free space or choose another "
                            "place") from error
    finally:
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)


def replace_file(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one. Raises ResourceError."""
    with replacing(path) as file:
        file.write(data)


def clear_unfinished(folder: str | os.PathLike, *, of: Sequence[str] = ("*",)) -> None:
    """Remove from a folder the temporary files that `replacing` left there in processes that were killed.

    of: patterns of the names that were to be replaced. Call it where no other process writes those. Raises OSError.
    """
    for name in of:
        for path in pathlib.Path(folder).glob(f".{name}.part"):
            path.unlink(missing_ok=True)


def reserve_space(folder: str | os.PathLike, size: int) -> None:
    """Be sure that so many bytes can be written to a folder, before a library does that cannot tell a full disk well.

    Raises OSError.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        _allocate(file.fileno(), max(size, 1))


def reserve_array(path: str | os.PathLike, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.memmap:
    """A new `.npy` file of an array to write to in place, with all of its space on the disk.

    Without the space a write to the mapped pages of a full disk would end the process by a signal (SIGBUS).

    Raises:
      ResourceError: no permission, no space, no such folder.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        with open(path, "r+b") as file:
            _allocate(file.fileno(), os.path.getsize(path))
        return array
    except OSError as error:
        pathlib.Path(path).unlink(missing_ok=True)
        raise ResourceError(f"{shown(path)}: cannot be written ({cause_of(error)}); free space or choose another "
                            "place") from error


def _allocate(descriptor: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # the file system has no such call
            raise


def _shortened(name: str) -> str:
    """The start of a name, cut by bytes: file systems limit bytes, and a character may have four."""
    return os.fsencode(name)[:_LONGEST_PREFIX].decode("utf-8", "ignore")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
