"""A pack made by one command after another: what is finished is skipped, what was stopped goes on."""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys
from collections.abc import Sequence

from pie_jax.errors import EXIT_OK, choose
from pie_jax.io import replace_file

Stage = tuple[str, str, list[str]]  # name, module below pie_jax, flags


def add_only(parser: argparse.ArgumentParser) -> None:
    """--only STAGE ..."""
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these stages only, again even where finished")


def check_only(only: Sequence[str] | None, todo: Sequence[Stage]) -> None:
    """UsageError unless every one of --only is a stage."""
    for name in only or ():
        choose("--only", name, [stage[0] for stage in todo])


def run_stages(name: str, runs: pathlib.Path, todo: Sequence[Stage], *, only: Sequence[str] | None = None) -> int:
    """Run what is not done; the exit code of the first command that fails, or 0.

    name: of the whole, for messages; the list of finished stages is `NAME.json` in the folder `runs`.
    """
    runs.mkdir(parents=True, exist_ok=True)
    ledger = runs / f"{name}.json"
    finished = json.loads(ledger.read_text()) if ledger.is_file() else []
    for number, (stage, module, flags) in enumerate(todo, 1):
        if stage not in only if only else stage in finished:
            continue
        print(f"{name}: {stage} ({number} of {len(todo)})", file=sys.stderr, flush=True)
        code = importlib.import_module(f"pie_jax.{module}").main(flags)
        if code != EXIT_OK:
            print(f"{name}: {stage} ended with {code}; run the same command again to go on", file=sys.stderr)
            return code
        finished = sorted({*finished, stage})
        replace_file(ledger, json.dumps(finished).encode())
    return EXIT_OK
