"""Untrusted text in messages: paths and causes as one printable line."""

from __future__ import annotations

import os

from pie_jax.errors import printable

_LONGEST_CAUSE = 120  # characters
_LONGEST_PATH = 400


def shown(path: str | os.PathLike) -> str:
    """A path as messages show it: control characters escaped, so that one message stays one line."""
    return printable(os.fspath(path), longest=_LONGEST_PATH)


def cause_of(error: BaseException) -> str:
    """What went wrong, as one short line: the system's words for an OSError, else the error's own or its name."""
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
    text = " ".join(text.split()) or type(error).__name__
    return text[:_LONGEST_CAUSE]
