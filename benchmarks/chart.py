"""Bars and log-log lines for benchmark rows, as Pillow pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from benchmarks.harness import plain
from pie_jax.cli.figures import font

_GROUND, _INK, _SOFT_INK, _RULE = (252, 252, 250), (38, 42, 48), (110, 116, 124), (226, 228, 230)
_COLOURS = {"ours": (0, 114, 178), "peer": (213, 94, 0), "part": (0, 158, 115)}
_LINE, _LABEL, _VALUE, _MARGIN = 30, 300, 190, 24


def bars(entries: Sequence[tuple[str, float, float, float, str]], *, title: str, unit: str = "ms",
         width: int = 900) -> Image.Image:
    """Horizontal bars of (label, value, low, high, kind), the spread as a thin line; kind is a key of the colours.

    ValueError: no entries, or an unknown kind.
    """
    if not entries or any(entry[4] not in _COLOURS for entry in entries):
        raise ValueError(f"entries: expected at least one, of the kinds {tuple(_COLOURS)}")
    longest = max(max(entry[1], entry[3]) for entry in entries) or 1.0
    room = width - 2 * _MARGIN - _LABEL - _VALUE
    sheet = Image.new("RGB", (width, 2 * _MARGIN + 44 + _LINE * len(entries)), _GROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, fill=_INK, font=font(20))
    left = _MARGIN + _LABEL
    for i, (label, value, low, high, kind) in enumerate(entries):
        top = _MARGIN + 44 + _LINE * i
        middle = top + _LINE // 2 - 2
        pen.text((left - 10, middle), label, fill=_INK, font=font(15), anchor="rm")
        end = left + room * value / longest
        pen.rectangle((left, top + 3, max(end, left + 1), top + _LINE - 8), fill=_COLOURS[kind])
        pen.line((left + room * low / longest, middle, left + room * high / longest, middle), fill=_INK, width=2)
        pen.text((max(end, left + room * high / longest) + 10, middle), f"{plain(value)} {unit}", fill=_SOFT_INK,
                 font=font(15), anchor="lm")
    return sheet


def log_log(x: Sequence[float], y: Sequence[float], *, slope: float, title: str, x_label: str, y_label: str,
            size: tuple[int, int] = (640, 460)) -> Image.Image:
    """Points on two logarithmic axes with the line of `slope` through their middle; dashed: proportional to x.

    ValueError: fewer than two points, or one that is not positive.
    """
    if len(x) < 2 or len(x) != len(y) or min(*x, *y) <= 0:
        raise ValueError("x, y: expected two or more points, all positive")
    over = 2  # drawn twice as large, then shrunk: smooth lines
    sheet = Image.new("RGB", (size[0] * over, size[1] * over), _GROUND)
    pen = ImageDraw.Draw(sheet)
    small, text, head = (font(s * over) for s in (13, 14, 19))
    left, top, right, bottom = (v * over for v in (78, 92, size[0] - 34, size[1] - 62))
    across, along = [math.log10(v) for v in x], [math.log10(v) for v in y]
    middle = (sum(across) / len(x), sum(along) / len(y))

    def on_line(k, steepness):
        return middle[1] + steepness * (across[k] - middle[0])

    reached = [*along, *(on_line(k, 1.0) for k in (0, -1))]
    room = 0.1 * (max(reached) - min(reached))  # for a label below the lowest point and above the highest
    low, high = min(reached) - max(0.06, room), max(reached) + max(0.1, room)
    low, high = (low, high) if high - low > 0.5 else (middle[1] - 0.25, middle[1] + 0.25)
    margin = 0.12 * (across[-1] - across[0])

    def place(a, b):
        return (left + (right - left) * (a - across[0] + margin) / (across[-1] - across[0] + 2 * margin),
                bottom - (bottom - top) * (b - low) / (high - low))

    digits = (1, 2, 5) if high - low > 0.9 else (1, 1.5, 2, 3, 4, 5, 7)
    for value in (d * 10.0**k for k in range(math.floor(low), math.ceil(high)) for d in digits):
        if low <= math.log10(value) <= high:
            row = place(across[0], math.log10(value))[1]
            pen.line((left, row, right, row), fill=_RULE, width=over)
            pen.text((left - 8 * over, row), f"{value:g}", fill=_SOFT_INK, font=small, anchor="rm")
    for value, a in zip(x, across):
        pen.text((place(a, low)[0], bottom + 8 * over), f"{value:g}", fill=_SOFT_INK, font=small, anchor="ma")
    pen.line((left, bottom, right, bottom), fill=_SOFT_INK, width=over)
    ends = [place(across[k], on_line(k, 1.0)) for k in (0, -1)]
    for k in range(0, 60, 2):  # dashes
        pen.line([tuple(a + (b - a) * j / 60 for a, b in zip(*ends)) for j in (k, k + 1)], fill=_SOFT_INK, width=over)
    pen.line([place(across[k], on_line(k, slope)) for k in (0, -1)], fill=_COLOURS["ours"], width=2 * over)
    for k, (a, b, value) in enumerate(zip(across, along, y)):
        px, py = place(a, b)
        pen.ellipse((px - 5 * over, py - 5 * over, px + 5 * over, py + 5 * over), fill=_COLOURS["ours"])
        number = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        side = -1 if b >= on_line(k, slope) else 1  # away from the line
        pen.text((px + 4 * over * side, py + 7 * over * side), number, fill=_INK, font=small,
                 anchor="rb" if side < 0 else "lt")
    pen.text((_MARGIN * over, 20 * over), title, fill=_INK, font=head)
    pen.text((_MARGIN * over, 50 * over), f"{y_label}, log scales; line: slope {slope:.2f}; dashed: proportional",
             fill=_SOFT_INK, font=small)
    pen.text(((left + right) / 2, bottom + 32 * over), x_label, fill=_INK, font=text, anchor="ma")
    return sheet.resize(size, Image.Resampling.BOX)
