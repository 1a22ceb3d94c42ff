"""The one way to write a file: beside its place first, then renamed over it, so that it is never half there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

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


def _shortened(name: str) -> str:
    """The start of a name, cut by bytes: file systems limit bytes, and a character may have four."""
    return os.fsencode(name)[:_LONGEST_PREFIX].decode("utf-8", "ignore")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
