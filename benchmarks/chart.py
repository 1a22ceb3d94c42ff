"""Bars, log-log lines and histograms of benchmark rows, by matplotlib."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.harness import plain
from pie_jax.errors import PackError

try:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter
except ModuleNotFoundError:
    raise PackError("charts need matplotlib; install it with: pip install 'pie_jax[bench]'") from None

GROUND, INK, SOFT_INK, RULE = "#fcfcfa", "#262a30", "#6e747c", "#e2e4e6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_KINDS = {"pie_jax": COLOURS[0], "peer": COLOURS[1], "part": COLOURS[2]}


def figure(width: float, height: float, *, title: str = "") -> Figure:
    """A sheet of width x height pixels for charts in the project's colours."""
    made = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=GROUND, layout="constrained")
    if title:
        made.suptitle(title, x=0.02, ha="left", color=INK, fontsize=13)
    return made


def axes_of(made: Figure, *place: int) -> Axes:
    """New axes at `place` (as matplotlib's add_subplot) with nothing but soft rules."""
    axes = made.add_subplot(*place, facecolor=GROUND)
    axes.tick_params(which="both", colors=SOFT_INK, labelsize=9, length=0)
    for side in axes.spines.values():
        side.set_color(RULE)
    axes.set_axisbelow(True)
    return axes


def mark_powers(axis: Axis) -> None:
    """Mark 1, 2 and 5 of every power of ten on a logarithmic axis, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(made: Figure, path: pathlib.Path) -> None:
    """Write the chart as PNG."""
    made.savefig(path, metadata={"Software": None})


def bars(entries: Sequence[tuple[str, float, float, float, str]], *, title: str, unit: str = "ms",
         width: int = 900) -> Figure:
    """Horizontal bars of (label, value, low, high, kind), the spread as a thin line; kind: "pie_jax", "peer", "part".

    ValueError: no entries, or an unknown kind.
    """
    if not entries or any(entry[4] not in _KINDS for entry in entries):
        raise ValueError(f"entries: expected at least one, of the kinds {tuple(_KINDS)}")
    labels, values, low, high, kinds = zip(*entries)
    made = figure(width, 90 + 30 * len(entries), title=title)
    axes = axes_of(made)
    rows = np.arange(len(entries))
    axes.barh(rows, values, height=0.62, color=[_KINDS[kind] for kind in kinds])
    axes.hlines(rows, low, high, color=INK, linewidth=1.5)
    for row, value, end in zip(rows, values, high):
        axes.annotate(f"{plain(value)} {unit}", (max(value, end), row), xytext=(8, 0), textcoords="offset points",
                      va="center", color=SOFT_INK, fontsize=9)
    axes.set_yticks(rows, labels, color=INK, fontsize=10)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.16 * max(*values, *high))
    axes.xaxis.set_major_locator(NullLocator())
    axes.spines[:].set_visible(False)
    return made


def log_log(x: Sequence[float], y: Sequence[float], *, slope: float, title: str, x_label: str, y_label: str,
            size: tuple[int, int] = (640, 460)) -> Figure:
    """Points on two logarithmic axes with the line of `slope` through their middle; dashed: proportional to x.

    ValueError: fewer than two points, or one that is not positive.
    """
    if len(x) < 2 or len(x) != len(y) or min(*x, *y) <= 0:
        raise ValueError("x, y: expected two or more points, all positive")
    made = figure(*size, title=title)
    axes = axes_of(made)
    axes.set_title(f"{y_label}, log scales; line: slope {slope:.2f}; dashed: proportional", loc="left",
                   color=SOFT_INK, fontsize=9)
    ends = np.asarray([min(x), max(x)], float)
    middle_x, middle_y = np.exp(np.mean(np.log(x))), np.exp(np.mean(np.log(y)))
    axes.loglog(ends, middle_y * (ends / middle_x), "--", color=SOFT_INK, linewidth=1)
    axes.loglog(ends, middle_y * (ends / middle_x) ** slope, color=COLOURS[0], linewidth=1.5)
    axes.loglog(x, y, "o", color=COLOURS[0], markersize=6)
    for a, b in zip(x, y):
        axes.annotate(f"{b:.0f}" if b >= 100 else f"{b:.3g}", (a, b), xytext=(5, -12), textcoords="offset points",
                      color=INK, fontsize=9)
    axes.margins(0.12, 0.2)
    axes.set_xticks(list(x), [f"{value:g}" for value in x])
    axes.xaxis.set_minor_locator(NullLocator())
    mark_powers(axes.yaxis)
    axes.grid(axis="y", color=RULE)
    axes.set_xlabel(x_label, color=INK)
    return made


def grouped_bars(groups: Mapping[str, Mapping[str, float]], *, title: str, unit: str) -> Figure:
    """Upright bars of group -> series -> value, which may be negative; at least one group, the same series in each."""
    series = list(next(iter(groups.values())))
    wide = 22 * len(series) + 34
    made = figure(max(120 + wide * len(groups), 640), 400, title=title)
    axes, middle = axes_of(made), np.arange(len(groups))
    for j, name in enumerate(series):
        axes.bar(middle + 0.76 * ((j + 0.5) / len(series) - 0.5), [group[name] for group in groups.values()],
                 width=0.7 / len(series), color=COLOURS[j % len(COLOURS)], label=name)
    axes.axhline(0.0, color=INK, linewidth=1)
    axes.set_xticks(middle, list(groups), color=INK)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylabel(unit, color=SOFT_INK)
    axes.grid(axis="y", color=RULE)
    made.legend(loc="outside upper right", ncols=len(series), frameon=False, fontsize=9, labelcolor=INK)
    return made


def histogram(numbers: Sequence[float], *, title: str, unit: str, bins: int = 12) -> Figure:
    """How often which value, the median marked."""
    made = figure(640, 320, title=f"{title}: median {np.median(numbers):.2f} {unit}")
    axes = axes_of(made)
    axes.hist(np.asarray(numbers, float), bins=bins, color=COLOURS[0], rwidth=0.88)
    axes.axvline(float(np.median(numbers)), color=COLOURS[1], linewidth=2)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=RULE)
    axes.set_xlabel(unit, color=SOFT_INK)
    return made
