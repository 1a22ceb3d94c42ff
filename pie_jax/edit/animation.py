"""Keyframes of an animation: numbers at times, from a small JSON or CSV file, and what lies between them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pie_jax.errors import InputError, UsageError, nearest
from pie_jax.io import cause_of, shown

EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x, "smooth": lambda x: x * x * (3.0 - 2.0 * x), "in": lambda x: x * x,
    "out": lambda x: x * (2.0 - x), "step": lambda x: float(x >= 1.0)}
LOOPS = ("repeat", "back", "once")
MOST_FRAMES = 10_000
_MOST_BYTES = 2**20
_LONGEST_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Key:
    """One number at one time, and how it is moved towards from the one before."""

    at: float  # seconds
    value: float
    easing: str


@dataclasses.dataclass(frozen=True)
class Track:
    """The keys of one number, in time."""

    name: str
    keys: tuple[Key, ...]

    def value(self, at: float, *, own: float) -> float:
        """The number at a time; before its first key it goes there from the portrait's `own`."""
        before = Key(0.0, own, "linear")
        for key in self.keys:
            if at < key.at:
                share = EASINGS[key.easing]((at - before.at) / (key.at - before.at))
                return before.value + share * (key.value - before.value)
            before = key
        return before.value


@dataclasses.dataclass(frozen=True)
class Animation:
    """Tracks, and how long they last."""

    tracks: tuple[Track, ...]
    seconds: float
    loop: str = "repeat"

    def frames(self, *, rate: float, own: Mapping[str, float]) -> list[dict[str, float]]:
        """The numbers of the frames from start to end: own[name] is what the portrait has. UsageError: too many."""
        count = max(round(self.seconds * rate), 1) + (self.loop != "repeat")
        if count > MOST_FRAMES:
            raise UsageError(f"--rate: {count} frames, at most {MOST_FRAMES}; give a lower rate or a shorter animation")
        return [{track.name: track.value(i / rate, own=own[track.name]) for track in self.tracks}
                for i in range(count)]

    def order(self, count: int) -> list[int]:
        """The numbers of the frames as they are shown, of `count` from start to end."""
        there = list(range(count))
        return there + there[-2:0:-1] if self.loop == "back" else there


def sweep(name: str, first: float, last: float, count: int, *, rate: float) -> Animation:
    """`count` frames from one value to another, and back."""
    seconds = (count - 1) / rate
    return Animation((Track(name, (Key(0.0, first, "linear"), Key(seconds, last, "linear"))),), seconds, "back")


def read_keyframes(path: pathlib.Path) -> Animation:
    """The animation of a file. InputError: it cannot be read, or is none.

    JSON: {"keys": [{"at": 0, "yaw": -15}, {"at": 1.5, "yaw": 15, "smile": 1.2, "easing": "smooth"}], "loop": "back"}.
    CSV: a column `at`, one for each number, and `easing` if you like; an empty cell is no key.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{shown(path)}: more than {_MOST_BYTES // 2**20} MiB; keyframes are small")
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        cause = cause_of(error) if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{shown(path)}: cannot be read as keyframes ({cause}); check it") from None
    try:
        rows, loop = _from_csv(text) if path.suffix.lower() == ".csv" else _from_json(text)
        return _animation(rows, loop)
    except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
        cause = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(f"{shown(path)}: no keyframes ({cause}); see the example in docs/view.md") from None


def _from_json(text: str) -> tuple[Sequence[Mapping[str, Any]], str]:
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(data.get("keys"), list):
        raise ValueError("expected an object with a list of keys")
    unknown = set(data) - {"keys", "loop"}
    if unknown:
        raise ValueError(f"unknown {min(unknown)!r}")
    return data["keys"], data.get("loop", "repeat")


def _from_csv(text: str) -> tuple[Sequence[Mapping[str, Any]], str]:
    rows = list(csv.DictReader(io.StringIO(text), strict=True))
    return [{name.strip(): value.strip() for name, value in row.items() if name and value and value.strip()}
            for row in rows], "repeat"


def _animation(rows: Sequence[Mapping[str, Any]], loop: Any) -> Animation:
    if loop not in LOOPS:
        raise ValueError(f"loop {loop!r:.30}: expected one of {', '.join(LOOPS)}")
    found: dict[str, list[Key]] = {}
    last = 0.0
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or "at" not in row:
            raise ValueError(f"key {number}: expected at, in seconds")
        at = _number("at", row["at"], number)
        if at < last or at > _LONGEST_SECONDS:
            raise ValueError(f"key {number}: at {at:g} s, expected {last:g} to {_LONGEST_SECONDS:g}, in order")
        last = at
        easing = row.get("easing", "smooth")
        if easing not in EASINGS:
            near = nearest(str(easing), EASINGS)
            raise ValueError(f"key {number}: easing {easing!r:.30}, expected "
                             f"{near[0] if near else 'one of ' + ', '.join(EASINGS)}")
        for name, value in row.items():
            if name not in ("at", "easing"):
                found.setdefault(str(name), []).append(Key(at, _number(str(name), value, number), easing))
    if not found or last <= 0.0:
        raise ValueError("expected at least one number after 0 s")
    return Animation(tuple(Track(name, tuple(keys)) for name, keys in found.items()), last, loop)


def _number(name: str, value: Any, number: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"key {number}: {name}: expected a number")
    try:
        found = float(value)
    except ValueError:
        raise ValueError(f"key {number}: {name}: expected a number, got {value!r:.30}") from None
    if not math.isfinite(found) or abs(found) > 1e6:
        raise ValueError(f"key {number}: {name}: expected a finite number, got {value!r:.30}")
    return found
