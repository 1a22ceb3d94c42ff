"""Errors a user can mend, and the exit code each one ends a command with.

Every message is one line: the file or argument, the cause, the next step.
"""

import difflib
import errno
from collections.abc import Iterable


class PieError(Exception):
    """A failure with a cause and a next step; `exit_code` is what a command returns for it."""

    exit_code = 1


class UsageError(PieError):
    """The command line asks for something that does not exist (unknown control, component, preset)."""

    exit_code = 2


class InputError(PieError):
    """A photo, embedding or folder cannot be used."""

    exit_code = 3


class PackError(PieError):
    """A pack, or a part of it, is missing, damaged or of another kind."""

    exit_code = 4


class NoFaceError(InputError):
    """No face where one is needed."""

    exit_code = 5


class NumericsError(PieError):
    """A term or a gradient stopped being finite and could not be recovered."""

    exit_code = 6


class ResourceError(PieError):
    """Not enough memory, disk or permission to go on."""

    exit_code = 7


def printable(text: str, *, longest: int = 4000) -> str:
    """Text of a file that nobody vouches for, as one line of bearable length that a terminal only shows."""
    if len(text) > longest:
        text = text[:longest - 1] + "\u2026"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def of_the_whole_run(error: BaseException) -> bool:
    """Whether an error of one file is one of the disk that all are written to: full, broken, or read-only."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _OF_THE_DISK


EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_INTERRUPTED = 130


def nearest(name: str, names: Iterable[str], *, count: int = 4) -> list[str]:
    """Up to `count` of `names` that resemble `name`, the most similar first."""
    names = list(dict.fromkeys(names))
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)
    inside = [n for n in lowered if len(name) > 2 and (name.lower() in n or n in name.lower())]
    return [lowered[n] for n in dict.fromkeys([*near, *inside])][:count]


def choose(what: str, name: str, names: Iterable[str]) -> str:
    """`name` if it is one of `names`; UsageError with the nearest (or with all, where they are few)."""
    names = list(names)
    if name in names:
        return name
    near = nearest(name, names)
    hint = f"did you mean {', '.join(near)}?" if near else f"expected one of {', '.join(names[:12])}"
    more = f" ({len(names)} in all)" if len(names) > 12 else ""
    raise UsageError(f"{what}: unknown {name!r}; {hint}{more}")
