"""Advisory locks: one writer at a time where the file system has them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike) -> Iterator[None]:
    """One process at a time inside the block, see `take_lock`; the others wait. Raises OSError."""
    if os.name == "nt":  # a folder cannot be opened there, and there is no flock
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        take_lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def take_lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed; a process that dies lets go of it.

    Args:
      descriptor: of the file.
      shared: let others in who ask for a shared lock too.
      wait: until it can be had, instead of giving up at once.

    Returns:
      True: it is ours. False: another process has it. None: the system or this file system (a network's, often) has
      no locks; then one writer at a time is up to the user.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # ENOLCK, EOPNOTSUPP and the like
        return None
    return True
