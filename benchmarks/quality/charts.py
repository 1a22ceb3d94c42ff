"""The rows as pictures: asked against obtained, gains by edit, the spread of the PSNR."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from benchmarks import chart
from benchmarks.chart import Figure
from benchmarks.quality.edits import EDITS
from benchmarks.quality.measure import SEEN
from benchmarks.quality.summary import FAR, QUANTITIES, accuracy, gains, of_visible, values


def asked_and_obtained(rows: Sequence[dict]) -> Figure:
    """A panel a quantity: what each edit asked, what the regressor reads, pale what it reads from the true edit."""
    columns = 4
    lines = -(-len(QUANTITIES) // columns)
    made = chart.figure(270 * columns, 290 * lines + 30)
    for i, name in enumerate(QUANTITIES):
        edits = [edit for edit in EDITS if edit.quantity == name]
        asked, got = values(rows, edits, "asked"), values(rows, edits, "obtained")
        far = max(abs(edit.asked) for edit in edits)
        ends = min(0.0, asked.min()) - 0.25 * far, asked.max() + 0.25 * far
        axes = chart.axes_of(made, lines, columns, i + 1)
        axes.set_title(f"{name}   slope {accuracy(rows, name)['slope']:.2f}", loc="left", color=chart.INK, fontsize=11)
        axes.plot(ends, ends, color=chart.SOFT_INK, linewidth=1)
        if "obtained_of_truth" in rows[0]["edits"][edits[0].name]:
            axes.plot(asked - 0.03 * far, values(rows, edits, "obtained_of_truth"), ".", color="#c8cbce")
        axes.plot(asked + 0.03 * far, got, ".", color=chart.COLOURS[0])
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.grid(axis="y", color=chart.RULE)
    made.supxlabel("across: asked (degrees, deviations)   up: read from the edit (blue), from the true edit (grey)   "
                   "line: equal", color=chart.SOFT_INK, fontsize=10)
    return made


def draw(rows: Sequence[dict], folder: pathlib.Path) -> list[pathlib.Path]:
    """accuracy.png and psnr.png, with a truth gains.png too; the files written."""
    pictures = {"accuracy": asked_and_obtained(rows),
                "psnr": chart.histogram([row["psnr_db"] for row in rows], title="Synthesis against portrait",
                                        unit="dB")}
    if "truth_db" in rows[0]["edits"][EDITS[0].name]:
        groups = {name: {region: of_visible(rows, edits, gains(rows, edits, key))
                         for region, key in (("whole image", "truth"), ("face", "face"), ("moved region", "region"))}
                  for name, edits in FAR.items() if (values(rows, edits, "moved") > SEEN).any()}
        pictures["gains"] = chart.grouped_bars(
            groups, title="Nearer to the true edited portrait than the unedited synthesis", unit="dB")
    files = [folder / f"{name}.png" for name in pictures]
    for file, picture in zip(files, pictures.values(), strict=True):
        chart.save(picture, file)
    return files
