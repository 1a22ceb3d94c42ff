"""The rows as pictures: asked against obtained, gains by edit, the spread of the PSNR. Pillow only."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.quality.edits import EDITS
from benchmarks.quality.measure import SEEN
from benchmarks.quality.summary import FAR, QUANTITIES, accuracy, gains, of_visible, values
from pie_jax.cli.figures import font

_GROUND, _INK, _SOFT, _RULE = (252, 252, 250), (38, 42, 48), (110, 116, 124), (222, 224, 226)
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
_OVER = 2  # drawn so many times too large, then shrunk: smooth lines


class Panel:
    """One plot on a sheet: a pixel box and the values at its edges. All lengths in final pixels."""

    def __init__(self, pen: ImageDraw.ImageDraw, box: Sequence[float], x: Sequence[float], y: Sequence[float], *,
                 title: str):
        self.pen, self.box, self.x, self.y = pen, box, x, y
        left, top, right, bottom = (v * _OVER for v in box)
        pen.rectangle((left, top, right, bottom), outline=_RULE, width=_OVER)
        self.text((box[0], box[1] - 8), title, size=15, anchor="ls", ink=_INK)

    def place(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + (right - left) * (x - self.x[0]) / (self.x[1] - self.x[0]),
                bottom - (bottom - top) * (y - self.y[0]) / (self.y[1] - self.y[0]))

    def text(self, at, text: str, *, size: int = 12, anchor: str = "mm", ink=_SOFT) -> None:
        self.pen.text((at[0] * _OVER, at[1] * _OVER), text, fill=ink, font=font(size * _OVER), anchor=anchor)

    def line(self, a, b, *, ink=_RULE, width: float = 1) -> None:
        points = [tuple(v * _OVER for v in self.place(*p)) for p in (a, b)]
        self.pen.line(points, fill=ink, width=round(width * _OVER))

    def dot(self, x: float, y: float, *, ink, radius: float = 3) -> None:
        px, py = (v * _OVER for v in self.place(np.clip(x, *self.x), np.clip(y, *self.y)))
        self.pen.ellipse((px - radius * _OVER, py - radius * _OVER, px + radius * _OVER, py + radius * _OVER), fill=ink)

    def bar(self, x0: float, x1: float, y0: float, y1: float, *, ink) -> None:
        a, b = self.place(x0, y0), self.place(x1, y1)
        left, right, top, bottom = min(a[0], b[0]), max(a[0], b[0]), min(a[1], b[1]), max(a[1], b[1])
        self.pen.rectangle(tuple(v * _OVER for v in (left, top, right, bottom)), fill=ink)

    def ticks(self, at: Sequence[float], *, axis: str, form: str = "g") -> None:
        for value in at:
            if axis == "x":
                x, _ = self.place(value, self.y[0])
                self.text((x, self.box[3] + 10), format(value, form))
            else:
                _, y = self.place(self.x[0], value)
                self.line((self.x[0], value), (self.x[1], value))
                self.text((self.box[0] - 6, y), format(value, form), anchor="rm")


def _sheet(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width * _OVER, height * _OVER), _GROUND)
    return sheet, ImageDraw.Draw(sheet)


def _done(sheet: Image.Image) -> Image.Image:
    return sheet.resize((sheet.width // _OVER, sheet.height // _OVER), Image.Resampling.BOX)


def round_steps(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    power = 10.0 ** np.floor(np.log10((high - low) / count))
    unit = next(u * power for u in (1, 2, 2.5, 5, 10) if u * power >= (high - low) / count)
    return [k * unit for k in range(int(np.ceil(low / unit - 1e-9)), int(np.floor(high / unit + 1e-9)) + 1)]


def asked_and_obtained(rows: Sequence[dict]) -> Image.Image:
    """A panel a quantity: what each edit asked, what the regressor reads, pale what it reads from the true edit."""
    side, gap, columns = 210, 58, 4
    lines = -(-len(QUANTITIES) // columns)
    sheet, pen = _sheet(columns * (side + gap) + gap, lines * (side + gap) + gap + 6)
    for i, name in enumerate(QUANTITIES):
        edits = [edit for edit in EDITS if edit.quantity == name]
        asked, got = values(rows, edits, "asked"), values(rows, edits, "obtained")
        far = max(abs(edit.asked) for edit in edits)
        low, high = min(0.0, asked.min()) - 0.25 * far, asked.max() + 0.25 * far
        left, top = gap + (i % columns) * (side + gap), gap + (i // columns) * (side + gap)
        panel = Panel(pen, (left, top, left + side, top + side), (low, high), (low, high),
                      title=f"{name}   slope {accuracy(rows, name)['slope']:.2f}")
        steps = round_steps(low, high, 4)
        panel.ticks(steps, axis="y")
        panel.ticks(steps, axis="x")
        panel.line((low, low), (high, high), ink=_SOFT)
        if "obtained_of_truth" in rows[0]["edits"][edits[0].name]:
            for x, y in zip(asked, values(rows, edits, "obtained_of_truth"), strict=True):
                panel.dot(x - 0.03 * far, y, ink=(200, 203, 206), radius=2.5)
        for x, y in zip(asked, got, strict=True):
            panel.dot(x + 0.03 * far, y, ink=_COLOURS[0], radius=2.5)
    pen.text((gap * _OVER, (sheet.height // _OVER - 30) * _OVER), "across: asked (degrees, deviations)   up: read from "
             "the edit (blue) and from the true edit (grey)   line: equal", fill=_SOFT, font=font(13 * _OVER))
    return _done(sheet)


def grouped_bars(groups: Mapping[str, Mapping[str, float]], *, title: str, unit: str) -> Image.Image:
    """Upright bars of group -> series -> value, which may be negative; at least one group, the same series in each."""
    series = list(next(iter(groups.values())))
    wide = 22 * len(series) + 34
    width, height = max(90 + wide * len(groups) + 30, 640), 400
    numbers = [value for group in groups.values() for value in group.values()]
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    room = 0.08 * max(high - low, 1e-9)
    sheet, pen = _sheet(width, height)
    panel = Panel(pen, (70, 80, width - 30, height - 50), (0, len(groups)), (low - room * (low < 0), high + room),
                  title="")
    panel.text((70, 28), title, size=18, anchor="lm", ink=_INK)
    panel.ticks(round_steps(low, high), axis="y")
    panel.text((64, 66), unit, anchor="rm")
    for j, name in enumerate(series):
        x = 80 + 150 * j
        pen.rectangle((x * _OVER, 54 * _OVER, (x + 12) * _OVER, 66 * _OVER), fill=_COLOURS[j % len(_COLOURS)])
        panel.text((x + 18, 60), name, anchor="lm", size=13)
    for i, (label, group) in enumerate(groups.items()):
        for j, name in enumerate(series):
            start = i + 0.12 + 0.76 * j / len(series)
            panel.bar(start, start + 0.7 / len(series), 0.0, group[name], ink=_COLOURS[j % len(_COLOURS)])
        panel.text((panel.place(i + 0.5, 0)[0], height - 36), label, size=12, ink=_INK)
    panel.line((0, 0), (len(groups), 0), ink=_INK)
    return _done(sheet)


def histogram(numbers: Sequence[float], *, title: str, unit: str, bins: int = 12) -> Image.Image:
    """How often which value, the median marked."""
    numbers = np.asarray(numbers, float)
    low, high = numbers.min(), numbers.max()
    margin = 0.05 * (high - low) or 0.5
    counts, edges = np.histogram(numbers, bins=bins, range=(low - margin, high + margin))
    sheet, pen = _sheet(640, 320)
    panel = Panel(pen, (60, 70, 610, 270), (edges[0], edges[-1]), (0, counts.max() * 1.1), title="")
    panel.text((60, 28), f"{title}: median {np.median(numbers):.2f} {unit}", size=18, anchor="lm", ink=_INK)
    panel.ticks([k for k in round_steps(0, counts.max()) if k == int(k)], axis="y")
    panel.ticks(round_steps(edges[0], edges[-1]), axis="x")
    for count, start, end in zip(counts, edges, edges[1:]):
        panel.bar(start + 0.06 * (end - start), end - 0.06 * (end - start), 0, count, ink=_COLOURS[0])
    panel.line((np.median(numbers), 0), (np.median(numbers), counts.max() * 1.1), ink=_COLOURS[1], width=2)
    panel.text((335, 304), unit, size=13)
    return _done(sheet)


def draw(rows: Sequence[dict], folder: pathlib.Path) -> list[pathlib.Path]:
    """accuracy.png and psnr.png, with a truth gains.png too; the files written."""
    pictures = {"accuracy": asked_and_obtained(rows),
                "psnr": histogram([row["psnr_db"] for row in rows], title="Synthesis against portrait", unit="dB")}
    if "truth_db" in rows[0]["edits"][EDITS[0].name]:
        groups = {name: {region: of_visible(rows, edits, gains(rows, edits, key))
                         for region, key in (("whole image", "truth"), ("face", "face"), ("moved region", "region"))}
                  for name, edits in FAR.items() if (values(rows, edits, "moved") > SEEN).any()}
        pictures["gains"] = grouped_bars(groups, title="Nearer to the true edited portrait than the unedited synthesis",
                                         unit="dB")
    files = [folder / f"{name}.png" for name in pictures]
    for file, picture in zip(files, pictures.values(), strict=True):
        picture.save(file)
    return files
