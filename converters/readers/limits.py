"""What one file may ask for: bytes, values, levels and steps, in one place for every container.

    limits = Limits(stored=len(data))
    limits.take("the member a", declared)        # before memory is taken, a member inflated, a view made, or copied
    limits.enter(depth)                          # for every value that a reader makes of the file
    limits.check_tree(tree)                      # what the file became: shared values count as often as they stand

The bytes allowed are `MAX_RATIO` times the file's own, so that a small file cannot cost much time or memory. Reading,
views and repetitions all draw on that one sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.readers.unsafe_file import UnsafeFileError

MAX_BYTES = 8 * 2**30  # that one file may ask for, whatever its size
MAX_RATIO = 50  # of bytes asked for to bytes stored; weights are packed by 1.1, tables of zeros by more
SMALL = 16 * 2**20  # any file may ask for these
MAX_DEPTH = 200  # of nested containers
MAX_NODES = 200_000  # containers of one tree, entries of one list of tables
MAX_STEPS = 2_000_000  # operations of a file's pickles, and values of its tree with all repetitions


class Limits:
    """What is left of what a file of `stored` bytes may ask for; every method raises UnsafeFileError beyond it."""

    def __init__(self, *, stored: int):
        self.stored = stored
        self.taken = self.values = self.steps = 0

    @property
    def allowed(self) -> int:
        """Bytes that may be asked for in all."""
        return min(MAX_BYTES, max(SMALL, MAX_RATIO * self.stored))

    def add(self, stored: int) -> None:
        """Another file of `stored` bytes belongs to this one."""
        self.stored += stored

    def take(self, what: str, count: int) -> None:
        """Count `count` bytes that `what` declares, unfolds to or copies."""
        if count < 0 or self.taken + count > self.allowed:
            raise UnsafeFileError(f"{what} declares {count} bytes beside {self.taken} others; a file of {self.stored} "
                                  f"bytes may ask for {self.allowed}")
        self.taken += count

    def enter(self, depth: int, *, count: int = 1) -> None:
        """Count `count` values of the file that stand `depth` levels deep."""
        self.values += count
        if depth > MAX_DEPTH or self.values > MAX_NODES:
            raise UnsafeFileError(f"more than {MAX_DEPTH} levels or {MAX_NODES} values")

    def step(self) -> None:
        """Count one operation of a pickle."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise UnsafeFileError(f"pickles of more than {MAX_STEPS} operations")

    def check_tree(self, tree: Any) -> None:
        """Refuse a tree of containers, Nodes and arrays that is too large once all that it shares is unfolded."""
        sizes: dict[int, tuple[int, int]] = {}

        def measure(value: Any, depth: int) -> tuple[int, int]:
            """(values, bytes of arrays) below and with `value`."""
            if isinstance(value, np.ndarray):
                return 1, value.nbytes
            if isinstance(value, dict):
                children = value.values()
            elif isinstance(value, list | tuple | set | frozenset):
                children = value
            elif isinstance(getattr(value, "state", None), dict):
                children = value.state.values()
            else:
                return 1, 0
            if id(value) in sizes:
                return sizes[id(value)]
            if depth > MAX_DEPTH:
                raise UnsafeFileError(f"values nested more than {MAX_DEPTH} levels deep")
            count, size = 1, 0
            for child in children:
                more = measure(child, depth + 1)
                count, size = count + more[0], size + more[1]
            if count > MAX_STEPS or size > self.allowed:
                raise UnsafeFileError(f"values that repeat to more than {MAX_STEPS}, or to more than {self.allowed} "
                                      f"bytes in a file of {self.stored}")
            sizes[id(value)] = count, size
            return count, size

        _, size = measure(tree, 0)
        if size > self.allowed:
            raise UnsafeFileError(f"an array of {size} bytes in a file of {self.stored}")
