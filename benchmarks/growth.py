"""How steeply cost grows: slopes on logarithmic axes, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

SUPERLINEAR = 1.1  # slopes above this are more than proportional, noise allowed for


def fit_slope(work: Sequence[float], cost: Sequence[float]) -> float:
    """The least-squares slope of log cost over log work. ValueError: fewer than two different sizes."""
    x, y = [math.log(value) for value in work], [math.log(value) for value in cost]
    middle, height = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    if spread == 0:
        raise ValueError("work: expected two or more different sizes")
    return sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / spread


def verdict(rows: Sequence[dict]) -> dict:
    """How the cost of one quantity's rows grows."""
    work, cost = [row["work"] for row in rows], [row["cpu_ms"] for row in rows]
    slopes = {"slope": round(fit_slope(work, cost), 3), "slope_last": round(fit_slope(work[-2:], cost[-2:]), 3)}
    return {"quantity": rows[0]["quantity"], **slopes,
            "verdict": "SUPERLINEAR" if max(slopes.values()) > SUPERLINEAR else "linear or less"}


def growth(rows: Sequence[dict], column: str) -> float | None:
    """The last row's `column` less the first one's; None where either has none."""
    ends = [row.get(column) for row in (rows[0], rows[-1])] if rows else [None]
    return None if None in ends else round(ends[1] - ends[0], 3)
