"""Accounts for every tensor of a file: which weight each became, which are left out and why, which are missing.

A converter states `Rule`s (what becomes which weight) and `Ignored`s (what is rightly left out); `map_tensors` applies
them. A tensor that no rule names, a rule without its tensor, and a shape that is not the expected one are errors.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from converters.readers.checkpoint import check_finite
from pie_jax.errors import PackError
from pie_jax.pack.schema import unflatten

USED, LEFT_OUT, UNKNOWN, MISSING, WRONG = "used", "left out", "unknown", "missing", "wrong"
_BAD = (UNKNOWN, MISSING, WRONG)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One weight of the pack: where it comes from and how its axes are laid out there.

    `layout` gets the source arrays, in order, and returns the weight; it only moves, joins or folds, so that nothing
    is lost. `shape` is what each source array must have (None: any length of that axis); None: not checked here.
    """

    target: str  # "synthesis/b4/const"
    source: str | tuple[str, ...]
    layout: Callable[..., np.ndarray] = lambda array: array
    shape: tuple[int | None, ...] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The tensors it needs, in the order `layout` gets them."""
        return (self.source,) if isinstance(self.source, str) else self.source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ignored:
    """Tensors that are rightly left out: a name or shell pattern, and why. `holds` may check their value."""

    pattern: str
    why: str
    holds: Callable[[np.ndarray], bool] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one tensor."""

    name: str
    shape: tuple[int, ...] | None  # None where it is missing
    status: str  # USED, LEFT_OUT, UNKNOWN, MISSING or WRONG
    note: str = ""  # the weight it became, or why not


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one conversion, in the file's order, then what is missing."""

    rows: tuple[Row, ...]
    prefix: str = ""  # what all names begin with in the file; the rows are without it

    @property
    def complete(self) -> bool:
        """No row is unknown, missing or wrong."""
        return not any(row.status in _BAD for row in self.rows)

    def count(self, status: str) -> int:
        """Rows of that status."""
        return sum(row.status == status for row in self.rows)

    def summary(self) -> str:
        """One line: how many of each status."""
        statuses = (USED, LEFT_OUT, *_BAD)
        return ", ".join(f"{self.count(s)} {s}" for s in statuses if self.count(s) or s == USED)

    def text(self) -> str:
        """The table for people: one line a tensor."""
        wide = max((len(row.name) for row in self.rows), default=4)
        lines = [f"{row.name:<{wide}}  {_shape(row.shape):<18} {row.status:<9} {row.note}".rstrip()
                 for row in self.rows]
        head = [f"all names begin with {self.prefix!r} in the file"] if self.prefix else []
        return "\n".join([*head, f"{'tensor':<{wide}}  {'shape':<18} status    became / why", *lines, self.summary()])

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as plain containers."""
        return [{"name": row.name, "shape": None if row.shape is None else list(row.shape), "status": row.status,
                 "note": row.note} for row in self.rows]


class Mismatch(PackError):
    """The file's tensors are not the ones its layout needs; `table` says which."""

    def __init__(self, message: str, table: Table):
        super().__init__(message)
        self.table = table


def map_tensors(tensors: Mapping[str, np.ndarray], rules: Iterable[Rule], *,
                known: Iterable[Ignored] = (), where: Any, layout: str) -> tuple[dict, Table]:
    """Apply `rules` to `tensors`: the nested float32 weights, and the table.

    Args:
      tensors: a state dict.
      rules: every weight; every tensor they name must be there, with its shape.
      known: what may be left out, in order of precedence.
      where, layout: the file and the layout's name, for the message.
    Errors: Mismatch (a PackError) that carries the table.
    """
    weights: dict = {}
    became: dict[str, list[str]] = {}
    bad: dict[str, tuple[str, str]] = {}
    missing: list[Row] = []
    for rule in rules:
        absent = [name for name in rule.sources if name not in tensors]
        missing += [Row(name=name, shape=None, status=MISSING, note=f"needed for {rule.target}") for name in absent]
        fits = not absent
        for name in rule.sources:
            if name in tensors:
                became.setdefault(name, []).append(rule.target)
                if rule.shape is not None and not _fits(tensors[name].shape, rule.shape):
                    bad[name] = (WRONG, f"shape {_shape(rule.shape)} is due for {rule.target}")
                    fits = False
        if fits:
            try:
                value = np.asarray(rule.layout(*(tensors[name] for name in rule.sources)))
            except (ValueError, IndexError, TypeError):  # another number of axes than the layout moves
                rest = {name: [other for other in rule.sources if other != name][:3] for name in rule.sources}
                bad |= {name: (WRONG, f"its axes do not fit {rule.target}"
                               f"{', or not those of ' + ', '.join(rest[name]) if rest[name] else ''}")
                        for name in rule.sources}
                continue
            with np.errstate(over="ignore"):
                weights[rule.target] = narrow = np.asarray(value, np.float32)
            if value.dtype == np.float64:
                check_finite(f"{rule.target} in float32", narrow, where=where)
    known = tuple(known)
    rows = []
    for name, array in tensors.items():
        status, note = bad.get(name, (USED, ", ".join(became.get(name, ()))))
        if name not in became:
            status, note = _left_out(name, array, known)
        rows.append(Row(name=name, shape=tuple(array.shape), status=status, note=note))
    table = Table(rows=(*rows, *missing))
    if not table.complete:
        first = next(row for row in (*missing, *rows) if row.status in _BAD)
        raise Mismatch(f"{where}: does not fit the layout {layout}: {table.summary()}; first {first.status}: "
                       f"{first.name}{f' ({first.note})' if first.note else ''}; "
                       "it is another network or another version of it", table)
    return unflatten(weights), table


def _left_out(name: str, array: np.ndarray, known: tuple[Ignored, ...]) -> tuple[str, str]:
    for entry in known:
        if fnmatch.fnmatchcase(name, entry.pattern):
            if entry.holds is None or entry.holds(array):
                return LEFT_OUT, entry.why
            return WRONG, f"not as it must be to be left out ({entry.why})"
    return UNKNOWN, "no rule for it"


def _fits(shape: tuple[int, ...], due: tuple[int | None, ...]) -> bool:
    return len(shape) == len(due) and all(d is None or n == d for n, d in zip(shape, due))


def _shape(shape: tuple[int | None, ...] | None) -> str:
    return "-" if shape is None else "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
