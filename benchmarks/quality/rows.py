"""Rows of JSON, one a line, that several runs and processes may add to."""

from __future__ import annotations

import hashlib
import json
import math
import pathlib

from pie_jax.pack import Pack
from pie_jax.portrait.calibration import calibration


def key_of(pack: Pack, preset: str) -> dict:
    """The fields that say what a row is of: networks, how their response is inverted ("none": not), and the preset."""
    measured = json.dumps(calibration(pack), sort_keys=True).encode()
    return {"pack": pack.hash[:12], "preset": preset,
            "calibration": hashlib.sha256(measured).hexdigest()[:8] if calibration(pack) else "none"}


def rows(path: pathlib.Path, **key) -> list[dict]:
    """The rows of `path` whose fields equal `key`: others belong to another pack, preset or variant."""
    if not path.is_file():
        return []
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in found if all(row.get(name) == value for name, value in key.items())]


def add(path: pathlib.Path, row: dict) -> None:
    """One row more, its numbers to four digits after the point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(rounded(row)) + "\n")


def rounded(value):
    """Numbers to four digits after the point, through dicts and lists; None for what is not finite."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
