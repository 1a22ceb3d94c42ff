"""Bars for benchmark rows, as a Pillow picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from pie_jax.figures import font

_GROUND, _INK, _SOFT_INK = (252, 252, 250), (38, 42, 48), (110, 116, 124)
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
        pen.text((max(end, left + room * high / longest) + 10, middle), f"{value:.4g} {unit}", fill=_SOFT_INK,
                 font=font(15), anchor="lm")
    return sheet
