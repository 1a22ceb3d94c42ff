"""The figures of `summary` as one table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.quality.edits import EDITS
from benchmarks.quality.measure import GROUPS
from benchmarks.quality.summary import CONTROLS, QUANTITIES

_UNITS = {"yaw": "deg", "pitch": "deg", "azimuth": "deg", "elevation": "deg"}
_SHOWN = {"yaw": "yaw", "azimuth": "light"}  # the row of the edits where the gains of a group stand
_FIDELITY = (("psnr_median", "PSNR", "dB"), ("ssim_median", "SSIM", ""), ("sharpness_median", "sharpness", "of 1"),
             ("perceptual_median", "perceptual distance", ""), ("identity_cosine_median", "identity cosine", ""),
             ("seconds_per_portrait", "to embed", "s"), ("seconds_per_edit_median", "to edit", "s"))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as aligned lines: the first column to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]


def number(value: float | None, form: str = ".2f") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def table(figures: dict, *, title: str) -> str:
    """Fidelity, edits, what moves unasked, and the generator's response, with a line of explanation each."""
    parts = [[title], _fidelity(figures), _edits(figures), _drift(figures)]
    if "response" in figures:
        parts.append(_response(figures))
    return "\n\n".join("\n".join(part) for part in parts)


def _fidelity(figures: dict) -> list[str]:
    rows = [(label, number(figures[key], ".3g" if figures[key] < 0.1 else ".2f"), unit)
            for key, label, unit in _FIDELITY if key in figures]
    if "identity_cosine_ratio" in figures:
        rows.append(("identity in edits", number(figures["identity_cosine_ratio"]), "of true edits"))
    return ["SYNTHESIS (median; identity by the judge, a network no energy has seen)",
            *("  " + line.rstrip() for line in columns(rows))]


def _edits(figures: dict) -> list[str]:
    with_truth = "truth_gain_db" in figures
    head = ["  edit", "asked", "slope", "corr", "error", ""]
    head += ["dB", "gain", "face", "region", "px", "unedited", "mouth"] if with_truth else []
    rows = [head]
    for name in QUANTITIES:
        found, asked = figures["accuracy"][name], [edit.asked for edit in EDITS if edit.quantity == name]
        row = ["  " + name, f"{min(asked):g}..{max(asked):g}", number(found["slope"]), number(found["correlation"]),
               number(found["mae"]), _UNITS.get(name, "sd")]
        if with_truth:
            group = _SHOWN.get(name, name)
            row += [number(figures["truth_db"].get(group), ".1f")]
            row += [number(figures[key].get(group), "+.1f") for key in ("truth_gain_db", "face_gain_db",
                                                                        "region_gain_db")]
            row += [number(figures[key].get(group)) for key in ("landmark_px128", "landmark_unedited_px128",
                                                                "mouth_error_ratio")]
        rows.append(row)
    lines = ["EDITS (slope, correlation and mean error of what the regressor reads on what was asked)"]
    if with_truth:
        lines += ["  dB: to the true edited portrait; gain: over the unedited synthesis, in the face, where it moves",
                  "  px: error of landmarks, at 128 px, and of the unedited; mouth: its error, of the unedited"]
    return lines + columns(rows)


def _drift(figures: dict) -> list[str]:
    rows = [["  edits of", *GROUPS]]
    for control in CONTROLS:
        own, true = figures["drift"][control], figures.get("drift_of_truth", {}).get(control, {})
        rows.append(["  " + control, *(number(own.get(group)) + (f" ({number(true[group])})" if group in true else "")
                                       for group in GROUPS)])
    of = "; in brackets what the regressor reads from the true edits" if "drift_of_truth" in figures else ""
    return [f"WHAT MOVES UNASKED (deviations of the regressor, median{of})", *columns(rows)]


def _response(figures: dict) -> list[str]:
    response = figures["response"]
    rows = [["  factor", "cosine", "gain"]]
    rows += [["  " + name, number(found["cosine"]), number(found["gain"])] for name, found in response.items()]
    return [f"GENERATOR ({figures['generator_psnr_db']:.1f} dB on scenes it never saw; its change against the true "
            "one, one factor moved end to end)", *columns(rows)]
