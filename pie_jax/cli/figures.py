"""Pictures for people: labelled grids of portraits and the chart of an energy's terms. Pillow only, no JAX.

All functions return Pillow images in RGB on a light ground; `images.save_png` writes them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GROUND = (252, 252, 250)
_INK = (38, 42, 48)
_SOFT_INK = (110, 116, 124)
_RULE = (226, 228, 230)
_FAINT_RULE = (240, 241, 242)
# Okabe and Ito's colours, told apart by colour-blind readers; black stands for the total.
_SERIES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (128, 100, 60),
           (120, 120, 120), (150, 40, 60), (90, 90, 190))


_PLAIN = str.maketrans({"–": "-", "—": "-", "×": "x", "→": "->", "ß": "ss"})  # what Pillow's face lacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a grid with its label and a second, smaller line."""

    image: np.ndarray  # [H, W, 3] in 0..1
    label: str = ""
    detail: str = ""


@functools.lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable face at `size` pixels."""
    return ImageFont.load_default(size)


def to_pillow(image_01: np.ndarray) -> Image.Image:
    """[H, W, 3] in 0..1 (clipped) to 8 bits."""
    values = np.clip(np.nan_to_num(np.asarray(image_01, np.float32)), 0.0, 1.0)
    return Image.fromarray(np.round(values * 255.0).astype(np.uint8))


def grid(tiles: Sequence[Tile], *, columns: int, side: int | None = None, title: str = "") -> Image.Image:
    """Portraits in rows, each above its label, on a light ground.

    Args:
      tiles: pictures of one size; fewer than fill the last row is fine.
      columns: pictures in a row.
      side: width of a picture in the grid. Default: the picture's own, enlarged by a whole factor to at
        least 224 px (pixels stay crisp: nearest neighbour) so that labels can be read.
      title: a line above all.
    """
    if not tiles:
        raise ValueError("tiles: expected at least one")
    height, width = tiles[0].image.shape[:2]
    if side is None:
        side = int(width) * max(1, math.ceil(224 / width))
    tall = round(side * height / width)
    labels, details = any(t.label for t in tiles), any(t.detail for t in tiles)
    unit = max(11, round(side / 15))
    small = max(10, round(unit * 0.82))
    gap, margin = max(6, side // 22), max(12, side // 12)
    caption = (round(unit * 1.75) if labels else 0) + (round(small * 1.45) if details else 0)
    head = round(unit * 2.4) if title else 0
    rows = math.ceil(len(tiles) / columns)
    columns_used = min(columns, len(tiles))
    sheet = Image.new("RGB", (2 * margin + columns_used * side + (columns_used - 1) * gap,
                              2 * margin + head + rows * (tall + caption) + (rows - 1) * gap), _GROUND)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((margin, margin), shorten(title, sheet.width - 2 * margin, round(unit * 1.15)), fill=_INK,
                 font=font(round(unit * 1.15)))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = margin + column * (side + gap), margin + head + row * (tall + caption + gap)
        sheet.paste(enlarge(tile.image, side, tall), (left, top))
        centre = left + side // 2
        if tile.label:
            pen.text((centre, top + tall + round(unit * 0.45)), shorten(tile.label, side, unit), fill=_INK,
                     font=font(unit), anchor="ma")
        if tile.detail:
            pen.text((centre, top + tall + round(unit * 1.75)), shorten(tile.detail, side, small), fill=_SOFT_INK,
                     font=font(small), anchor="ma")
    return sheet


def enlarge(image_01: np.ndarray, width: int, height: int) -> Image.Image:
    """Whole factors keep their pixels crisp, other enlargements are bicubic, shrinking is Lanczos."""
    picture = to_pillow(image_01)
    if picture.size == (width, height):
        return picture
    if width % picture.width == 0 and height % picture.height == 0:
        return picture.resize((width, height), Image.Resampling.NEAREST)
    grow = width > picture.width
    return picture.resize((width, height), Image.Resampling.BICUBIC if grow else Image.Resampling.LANCZOS)


def shorten(text: str, width: int, size: int) -> str:
    """`text`, cut with an ellipsis so that it is at most `width` pixels wide; what the face lacks is escaped."""
    text = legible(text)
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def legible(text: str) -> str:
    """`text` as Pillow's own face can draw it: letters without their accents, others as escapes, such as \\u5199."""
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(c if _has_glyph(c) else c.encode("unicode_escape").decode()
                   for c in plain if not unicodedata.combining(c))


@functools.cache
def _has_glyph(character: str) -> bool:
    """Whether the face draws a character as other than one that no face has."""
    if character.isascii():
        return character.isprintable()
    return _drawn(character) != _drawn("\uffff")


def _drawn(character: str) -> bytes:
    picture = Image.new("L", (64, 64))
    ImageDraw.Draw(picture).text((8, 8), character, fill=255, font=font(32))
    return picture.tobytes()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Axes:
    """Pixel box of a chart and the values at its edges; y is a power of ten."""

    left: int
    top: int
    right: int
    bottom: int
    steps: float
    low: float
    high: float

    def x(self, step):
        return self.left + (self.right - self.left) * np.asarray(step, float) / max(self.steps, 1e-9)

    def y(self, exponent):
        fraction = (np.asarray(exponent, float) - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * fraction


def energy_chart(steps: Sequence[float] | np.ndarray, series: Mapping[str, Sequence[float] | np.ndarray], *,
                 total: str = "total",
                 marks: Mapping[float, str] | None = None, title: str = "Energy",
                 size: tuple[int, int] = (1200, 680)) -> Image.Image:
    """Terms over steps on a logarithmic axis.

    Args:
      steps: [N] step of each value.
      series: name to [N] values; not finite or not positive ones are gaps. The one called `total` is drawn
        black and thick. Each curve is its running median, the raw values (a new v each step makes them
        noisy) lie behind it, pale.
      marks: step to label of vertical rules (where a stage begins).
      title: heading.
      size: width and height in pixels.
    """
    over = 2  # drawn twice as large, then shrunk: smooth lines
    width, height = size[0] * over, size[1] * over
    sheet = Image.new("RGB", (width, height), _GROUND)
    pen = ImageDraw.Draw(sheet, "RGBA")
    text, small, head = (font(s * over) for s in (15, 14, 21))
    curves = {name: np.asarray(values, float) for name, values in series.items()}
    low, high = _decades(list(curves.values()))
    box = _Axes(left=92 * over, top=78 * over, right=width - 236 * over, bottom=height - 66 * over,
                steps=float(max(steps)) if len(steps) else 1.0, low=low, high=high)
    pen.text((box.left, 24 * over), title, fill=_INK, font=head)
    _draw_axes(pen, box, over, text, small)
    for step, label in (marks or {}).items():
        x = float(box.x(step))
        pen.line([(x, box.top), (x, box.bottom)], fill=(*_SOFT_INK, 160), width=over)
        pen.text((x + 6 * over, box.top + 4 * over), label, fill=_SOFT_INK, font=small)
    colours = {}
    for name in curves:
        colours[name] = _INK if name == total else _SERIES[len([n for n in colours if n != total]) % len(_SERIES)]
    for name in sorted(curves, key=lambda n: n == total):
        _draw_curve(pen, box, np.asarray(steps, float), curves[name], colours[name], over, thick=name == total)
    _draw_legend(pen, box, curves, colours, over, text, small)
    return sheet.resize(size, Image.Resampling.BOX)


def _decades(curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """Exponents of the axis ends: a little outside the values, at most 8 decades, room for labels on top."""
    good = [np.log10(v[np.isfinite(v) & (v > 0)]) for v in curves]
    good = [logs for logs in good if logs.size]
    if not good:
        return -1.0, 1.0
    high = max(float(logs.max()) for logs in good)
    low = max(min(float(np.quantile(logs, 0.01)) for logs in good), high - 8)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.45)  # about a decade at least: something to read off
    return middle - 1.06 * half, middle + 1.16 * half


def _draw_axes(pen, box: _Axes, over: int, text, small) -> None:
    for decade in range(math.floor(box.low), math.ceil(box.high) + 1):
        for digit in range(1, 10):
            exponent = decade + math.log10(digit)
            if not box.low <= exponent <= box.high:
                continue
            y = float(box.y(exponent))
            major = digit == 1 or (digit in (2, 5) and box.high - box.low < 2.2)
            pen.line([(box.left, y), (box.right, y)], fill=_RULE if major else _FAINT_RULE, width=over)
            if major:
                label = _number(10.0**decade * digit)
                pen.text((box.left - 10 * over, y), label, fill=_SOFT_INK, font=small, anchor="rm")
    for step in _nice_steps(box.steps):
        x = float(box.x(step))
        pen.line([(x, box.bottom), (x, box.bottom + 6 * over)], fill=_SOFT_INK, width=over)
        pen.text((x, box.bottom + 10 * over), f"{step:g}", fill=_SOFT_INK, font=small, anchor="ma")
    pen.line([(box.left, box.bottom), (box.right, box.bottom)], fill=_SOFT_INK, width=over)
    pen.text(((box.left + box.right) / 2, box.bottom + 34 * over), "step", fill=_INK, font=text, anchor="ma")
    pen.text((box.left, box.top - 22 * over), "weighted energy, log scale", fill=_SOFT_INK, font=small)


def _draw_curve(pen, box: _Axes, steps, values, colour, over: int, *, thick: bool) -> None:
    good = np.isfinite(values) & (values > 10.0**box.low) & np.isfinite(steps)
    if not good.any():
        return
    steps, logs = steps[good], np.log10(values[good])
    smooth = running_median(logs, max(1, len(logs) // 60))
    for data, ink, wide in ((logs, (*colour, 46), over), (smooth, (*colour, 255), (5 if thick else 4) * over // 2)):
        points = _thin(box.x(steps), np.clip(box.y(data), box.top, box.bottom))
        if len(points) > 1:
            pen.line(points, fill=ink, width=wide, joint="curve")
        else:
            x, y = points[0]
            pen.ellipse([x - 3 * over, y - 3 * over, x + 3 * over, y + 3 * over], fill=ink)


def running_median(values: np.ndarray, half: int) -> np.ndarray:
    """Median of up to 2 half + 1 values around each; shorter windows at the ends. [N] -> [N]"""
    if half < 1 or len(values) < 3:
        return values
    padded = np.concatenate([np.full(half, np.nan), values, np.full(half, np.nan)])
    return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def _thin(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """At most the lowest and the highest point in each pixel column."""
    points: list[tuple[float, float]] = []
    columns = np.floor(x).astype(int)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    for first, last in zip(starts, [*starts[1:], len(x)]):
        part = y[first:last]
        ends = sorted({int(first + part.argmin()), int(first + part.argmax())})
        points += [(float(x[i]), float(y[i])) for i in ends]
    return points


def _draw_legend(pen, box: _Axes, curves, colours, over: int, text, small) -> None:
    x, y = box.right + 26 * over, box.top + 2 * over
    pen.text((x + 188 * over, y), "last", fill=_SOFT_INK, font=small, anchor="ra")
    y += 26 * over
    def last(name):
        values = curves[name][np.isfinite(curves[name])]
        return float(running_median(values, max(1, len(values) // 60))[-1]) if len(values) else float("nan")
    for name in sorted(curves, key=lambda n: -np.nan_to_num(last(n))):
        pen.line([(x, y + 9 * over), (x + 20 * over, y + 9 * over)], fill=colours[name], width=3 * over)
        pen.text((x + 28 * over, y), shorten(name, 82 * over, 15 * over), fill=_INK, font=text)
        pen.text((x + 188 * over, y), legible(_number(last(name))), fill=_SOFT_INK, font=small, anchor="ra")
        y += 27 * over


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def _nice_steps(steps: float) -> list[float]:
    """About six round numbers from 0 to `steps`."""
    if steps <= 0:
        return [0]
    raw = steps / 6
    power = 10.0 ** math.floor(math.log10(raw))
    unit = next(u * power for u in (1, 2, 2.5, 5, 10) if u * power >= raw)
    return [k * unit for k in range(int(steps / unit + 1e-9) + 1)]
