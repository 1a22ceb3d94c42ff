"""Presets side by side, over the people that all of them were measured on.

    python -m benchmarks.quality.presets benchmarks/results/quality [--presets instant fast search paper]

Reads the rows that `python -m benchmarks.quality --out FOLDER` left there, embeds nothing, and prints a table: medians
of each preset, and by how much it leads the last one, mean over people with its standard error. `presets.txt` in the
folder is the same table; the last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.quality.rows import rounded, rows
from benchmarks.quality.summary import FAR
from benchmarks.quality.table import columns, number
from pie_jax.cli import command
from pie_jax.config import PRESETS


def _truth(control: str, key: str) -> Callable[[dict], float]:
    """dB of a row's edits of `control` to the true edited portrait, their mean."""
    return lambda row: float(np.mean([row["edits"][edit.name][key] for edit in FAR[control]]))


def _of(name: str) -> Callable[[dict], float | None]:
    return lambda row: row.get(name)


# what is compared: a name, its unit, and the figure of one row, None in rows from before it was measured
COMPARED = {
    "final energy": ("", _of("energy")),
    "PSNR": ("dB", _of("psnr_db")), "SSIM": ("", _of("ssim")), "sharpness": ("of 1", _of("sharpness")),
    "perceptual distance": ("", _of("perceptual")), "identity cosine": ("", _of("identity_cosine")),
    **{f"{control} {where}": ("dB", _truth(control, key)) for where, key in (
        ("to the truth", "truth_db"), ("where it moves", "region_db"))
       for control in ("yaw", "light", "jaw_open", "smile", "blink", "brow_raise")},
    "to embed": ("s", _of("seconds")),
}


def compare(found: dict[str, dict[int, dict]], names: Sequence[str]) -> dict:
    """preset -> seed -> row, to {"people": seeds, figure: {preset: {"median", "lead", "error"}}}.

    A figure that a row lacks is left out. "lead" is over the last of `names`: mean of the paired differences, with its
    standard error. ValueError: fewer than two people in common.
    """
    seeds = sorted(set.intersection(*(set(found[name]) for name in names)))
    if len(seeds) < 2:
        raise ValueError(f"presets {', '.join(names)} have {len(seeds)} people in common; at least 2 are needed")
    out: dict = {"people": seeds}
    for figure, (_, value) in COMPARED.items():
        values = {name: [value(found[name][seed]) for seed in seeds] for name in names}
        if any(None in each for each in values.values()):
            continue
        values = {name: np.asarray(each, float) for name, each in values.items()}
        last = values[names[-1]]
        out[figure] = {name: {"median": float(np.median(each)), "lead": float(np.mean(each - last)),
                              "error": float(np.std(each - last, ddof=1) / np.sqrt(len(seeds)))}
                       for name, each in values.items()}
    return out


def table(compared: dict, names: Sequence[str]) -> str:
    """The comparison as lines of text."""
    last = names[-1]
    lines = [("", *names, *(f"{name} - {last}" for name in names[:-1]), "")]
    for figure, (unit, _) in COMPARED.items():
        if figure not in compared:
            continue
        each = compared[figure]
        leads = (f"{each[name]['lead']:+.3g} +- {each[name]['error']:.2g}" for name in names[:-1])
        shown = (number(each[name]["median"], ".3g" if abs(each[name]["median"]) < 1 else ".2f") for name in names)
        lines.append((figure, *shown, *leads, unit))
    return "\n".join(columns(lines))


@command.guarded_main
def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    options = command.Parser(module="benchmarks.quality.presets", description=__doc__)
    command.add_debug(options)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--presets", nargs="+", choices=tuple(PRESETS), default=("instant", "fast", "search", "paper"),
                         help="the last one is what the others are compared with (default: %(default)s)")
    arguments = options.parse_args(argv)
    measured = rows(arguments.folder / "portraits.jsonl", of="studio")
    there = [row for row in measured if row["preset"] in arguments.presets]
    if not there:
        raise SystemExit(f"{arguments.folder}: no rows of {', '.join(arguments.presets)}; run: python -m "
                         f"benchmarks.quality --preset NAME --out {arguments.folder}")
    pack, calibration = there[-1]["pack"], there[-1]["calibration"]  # the latest; rows of others are not compared
    found = {name: {row["seed"]: row for row in there if (row["preset"], row["pack"], row["calibration"])
                    == (name, pack, calibration)} for name in arguments.presets}
    try:
        compared = compare(found, arguments.presets)
    except ValueError as error:
        raise SystemExit(f"{arguments.folder}: {error}") from None
    title = f"Pack {pack}, calibration {calibration}: {len(compared['people'])} people; medians, and paired differences"
    said = f"{title}\n\n{table(compared, arguments.presets)}"
    (arguments.folder / "presets.txt").write_text(said + "\n")
    print(said)
    print(json.dumps(rounded({"pack": pack, "calibration": calibration} | compared)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
