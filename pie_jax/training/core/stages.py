"""A pack made by one command after another: what is finished is skipped, what was stopped goes on."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
from collections.abc import Sequence

from pie_jax.config import CONTROLS
from pie_jax.errors import EXIT_OK, choose
from pie_jax.io import replace_file

Stage = tuple[str, str, list[str]]  # name, module below pie_jax, flags
KEEP = {"pose": "0.05", "expression": "0.2", "illumination": "1"}  # weight by which a rig prefers small edits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What the flags of all stages follow from. Budgets and counts are those of `scale` 1."""

    pack: str  # the pack that is made
    runs: pathlib.Path  # run folders and data
    scale: float  # factor of every budget
    seed: int

    def run(self, name: str) -> list[str]:
        """The flags that every training has."""
        return ["--pack", self.pack, "--run", str(self.runs / name), "--seed", str(self.seed)]

    def minutes(self, value: float) -> list[str]:
        """--minutes: `value` of one core."""
        return ["--minutes", f"{value * self.scale:.4g}"]

    def count(self, value: int, *, least: int, multiple: int = 1) -> str:
        """`value` things, a multiple of `multiple`, never fewer than `least`."""
        return str(max(round(value * self.scale / multiple) * multiple, least))

    def rigs(self, pool: Sequence[str]) -> list[Stage]:
        """DFR and the rigs. pool: flags of the codes that they are trained on."""
        return [("dfr", "training.dfr", [*self.run("dfr"), *pool, "--hidden", "512,512", *self.minutes(3)]),
                *((f"rignet_{control}", "training.rignet", [
                    *self.run(f"rignet_{control}"), "--control", control, *pool, "--weight-keep", KEEP[control],
                    "--weight-background", "30", *self.minutes(4)])
                  for control in CONTROLS)]

    def calibrate(self) -> Stage:
        """How edits of the finished pack answer."""
        return ("calibrate", "tuning.calibrate", [
            "--pack", self.pack, "--samples", self.count(256, least=16, multiple=8),
            "--checked", self.count(24, least=8, multiple=8)])


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
