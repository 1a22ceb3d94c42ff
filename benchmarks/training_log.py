"""The log of a generator's adversarial training as committed rows and a chart.

    python -m benchmarks.training_log RUN [RUN ...] --out benchmarks/results/photographs --name long_run

RUN is a run folder of `pie_jax.training.generator`. NAME.jsonl gets a row for every evaluation and for every so many
lines of the terms, NAME.png the losses, scores, augmentation and distances over the images seen; up to four runs are
drawn over each other. The last line says how the distance falls: its slope on logarithmic axes over the last half.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks import chart
from benchmarks.growth import fit_slope
from benchmarks.harness import append_rows
from pie_jax.cli import command
from pie_jax.errors import InputError

PANELS = (("discriminator's scores", ("score_training", "score_held_out", "score_generated")),
          ("augmentation and overfitting", ("augment", "certainty", "overfitting")),
          ("losses", ("loss", "critic")),
          ("Frechet distance, perceptual network (not Inception)", ("distance_perceptual",)),
          ("Frechet distance, face descriptor (not Inception)", ("distance_face_descriptor",)),
          ("cosine to the nearest training picture", ("nearest_mean", "nearest_max", "held_out_nearest_max")))
_MOST = 120  # rows of terms
_FEW = 8  # points of a line that are marked


@command.guarded_main
def main(argv: Sequence[str]) -> int:
    options = command.Parser(module="benchmarks.training_log", description=__doc__)
    command.add_debug(options)
    options.add_argument("runs", nargs="+", metavar="RUN")
    options.add_argument("--out", required=True, metavar="DIR")
    options.add_argument("--name", default="training", help="of the files")
    arguments = options.parse_args(argv)
    rows = [row for run in arguments.runs for row in rows_of(pathlib.Path(run))]
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    lines = out / f"{arguments.name}.jsonl"
    lines.unlink(missing_ok=True)
    append_rows(lines, rows)
    draw(rows, out / f"{arguments.name}.png")
    print(json.dumps(summarise(rows)))
    return 0


def rows_of(run: pathlib.Path) -> Iterator[dict]:
    """Rows {"run", "images", "seconds", figures} of a run folder. InputError: it has no log."""
    try:
        batch = json.loads((run / "run.json").read_text())["batch"]
        logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run}: is not the run folder of a generator ({error})") from error
    terms = [row for row in logged if "terms" in row]
    thinned = {id(terms[i]) for i in np.unique(np.linspace(0, len(terms) - 1, _MOST).astype(int))} if terms else set()
    for row in logged:
        if "metrics" in row or id(row) in thinned:
            figures = row.get("metrics") or row["terms"]
            yield {"run": run.name, "images": row["step"] * batch, "seconds": row["seconds"],
                   **{name: float(f"{value:.5g}") for name, value in figures.items()}}


def summarise(rows: Sequence[dict]) -> dict:
    """By run: images seen, the last value of every figure, and how the distances fall."""
    found: dict = {}
    for run in dict.fromkeys(row["run"] for row in rows):
        own = [row for row in rows if row["run"] == run]
        found[run] = {key: value for row in own for key, value in row.items() if key != "run"}
        for name in (panel[1][0] for panel in PANELS if panel[1][0].startswith("distance")):
            points = [(row["images"], row[name]) for row in own if row.get(name, 0) > 0 and row["images"] > 0]
            late = points[len(points) // 2:]
            if len({images for images, _ in late}) > 1:
                found[run][f"{name}_slope"] = round(fit_slope(*map(list, zip(*late))), 3)
    return found


def draw(rows: Sequence[dict], path: pathlib.Path) -> None:
    """All panels over the thousands of images seen, a line style for each run."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    made = chart.figure(1200, 900, title=f"Training of a generator of photographs: {', '.join(runs)}")
    for place, (title, names) in enumerate(PANELS, 1):
        axes = chart.axes_of(made, 3, 2, place)
        axes.set_title(title, loc="left", color=chart.SOFT_INK, fontsize=9)
        for style, run in zip(("-", ":", "--", "-."), runs, strict=False):
            for colour, name in zip(chart.COLOURS, names, strict=False):
                points = [(row["images"] / 1000, row[name]) for row in rows if row["run"] == run and name in row]
                if points:
                    label = name.replace("_", " ") + (f", {run}" if len(runs) > 1 else "")
                    axes.plot(*zip(*points), style, color=colour, linewidth=1.4, label=label, markersize=4,
                              marker="o" if len(points) <= _FEW else "")
        axes.set_xscale("log")
        chart.mark_powers(axes.xaxis)
        if title.startswith("Frechet"):
            axes.set_yscale("log")
            chart.mark_powers(axes.yaxis)
        axes.grid(axis="y", color=chart.RULE)
        if axes.lines:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03), frameon=False, fontsize=8,
                        labelcolor=chart.SOFT_INK)
        axes.set_xlabel("thousand images seen", color=chart.SOFT_INK, fontsize=9)
    chart.save(made, path)


if __name__ == "__main__":
    raise SystemExit(main(None))
