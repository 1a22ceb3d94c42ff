"""JSON files: small records that a run leaves beside its arrays."""

from __future__ import annotations

import json
import pathlib

from pie_jax.io.atomic import replace_file

_MAX_BYTES = 16 * 2**20


def read_json(path: pathlib.Path) -> dict:
    """A JSON object, or {} where there is none that can be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        data = json.loads(path.read_text())
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def write_json(path: pathlib.Path, data: dict) -> None:
    """Whole or not at all; raises ResourceError."""
    replace_file(path, (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
