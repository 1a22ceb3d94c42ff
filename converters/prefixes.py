"""Networks under a prefix: PyTorch Lightning and others keep several in one state dict ("generator.", "model.net.").

A file that is recognised as it is stays as it is. Else each dict in it, and the names in that share their first words,
are tried without the prefix; averaged networks (ema, running, avg) come first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from converters.readers import Checkpoint

_LEVELS, _WORDS, _FEWEST = 3, 3, 2  # of dicts in dicts; of a prefix; names that share one
_AVERAGED = ("ema", "running", "avg", "average")


def under_prefix(checkpoint: Checkpoint, recognise: Callable[[Checkpoint], Any]) -> Checkpoint:
    """`checkpoint` as it is, or the first part of it under a prefix that `recognise` knows; its `prefix` says so."""
    if recognise(checkpoint) is not None:
        return checkpoint
    return next((part for part in parts(checkpoint) if recognise(part) is not None), checkpoint)


def parts(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    """The parts of a file that may be networks, each a Checkpoint whose tree lacks its prefix."""
    found: dict[str, Mapping[str, Any]] = {}

    def visit(tree: Any, path: str, level: int) -> None:
        if not isinstance(tree, Mapping) or level > _LEVELS:
            return
        if path:
            found.setdefault(path, tree)
        groups: dict[str, dict[str, Any]] = {}
        for name, value in tree.items():
            words = name.split(".") if isinstance(name, str) and isinstance(value, np.ndarray) else []
            for count in range(1, min(_WORDS, len(words) - 1) + 1):
                groups.setdefault(".".join(words[:count]) + ".", {})[".".join(words[count:])] = value
        for prefix, group in groups.items():
            if len(group) >= _FEWEST:
                found.setdefault(path + prefix, group)
        for name, value in tree.items():
            if isinstance(name, str):
                visit(value, f"{path}{name}.", level + 1)

    visit(checkpoint.tree, "", 0)

    def rank(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, int]:
        words = item[0].lower().replace("_", ".").split(".")
        return not any(word in words for word in _AVERAGED), item[0].count(".")

    whole = _count(checkpoint.tree)
    for prefix, tree in sorted(found.items(), key=rank):
        yield dataclasses.replace(checkpoint, tree=dict(tree), prefix=prefix + checkpoint.prefix,
                                  aside=whole - _count(tree))


def _count(tree: Any, *, level: int = 0) -> int:
    """Arrays in a tree of dicts."""
    if isinstance(tree, np.ndarray):
        return 1
    if not isinstance(tree, Mapping) or level > _LEVELS + 1:
        return 0
    return sum(_count(value, level=level + 1) for value in tree.values())
