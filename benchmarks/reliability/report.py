"""What the commands of this room have in common: --out, --debug, and rows that say when and where they were taken."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import append_rows, describe_machine
from pie_jax.cli import command


def parser_of(name: str, *, description: str | None) -> command.Parser:
    """The parser of `python -m benchmarks.reliability.NAME`; a command adds its own options."""
    parser = command.Parser(module=f"benchmarks.reliability.{name}", description=description)
    command.add_debug(parser)
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="JSONL file to append the rows to")
    return parser


def circumstances(began: float) -> dict[str, Any]:
    """The end of a row: seconds since `time.monotonic()` gave `began`, and the machine."""
    return {"seconds": round(time.monotonic() - began), **describe_machine()}


def say(row: Mapping[str, Any], out: pathlib.Path | None) -> None:
    """Print a row, and append it to `out` where that is asked for."""
    print(json.dumps(row), flush=True)
    if out is not None:
        append_rows(out, [row])
