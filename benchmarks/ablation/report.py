"""The rows as figures of each variant, a table and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from benchmarks import chart
from benchmarks.ablation.measures import ASKED, MODES, editability, error, likeness, unasked
from benchmarks.ablation.variants import VARIANTS
from benchmarks.chart import Figure
from benchmarks.quality.edits import MOUTH
from benchmarks.quality.measure import Edited
from benchmarks.quality.portraits import Portrait, Truth
from benchmarks.quality.summary import accuracy, gains, identity_ratio, of_visible
from benchmarks.quality.table import columns, number
from pie_jax.cli.figures import Tile, grid

_GROUPS = {"yaw": ("yaw-15", "yaw+15"), "light": ("azimuth-45", "azimuth+45"), "smile": ("smile+2",),
           "jaw": ("jaw_open+2",)}
_GROUPS = {group: tuple(edit for edit in ASKED if edit.name in names) for group, names in _GROUPS.items()}
_SHOWN = ("yaw-15", "yaw+15", "azimuth+45", "smile+2")


def figures(rows: Sequence[dict]) -> dict[str, dict]:
    """Variant -> its figures: medians over portraits, and for each of MODES those of its edits."""
    found = {}
    for variant in VARIANTS:
        own = [row for row in rows if row["variant"] == variant.name]
        if own:
            medians = {name: float(np.median([row[name] for row in own]))
                       for name in ("psnr_db", "ssim", "sharpness", "identity_cosine", "still_db", "seconds")}
            found[variant.name] = {"portraits": len(own)} | medians | {
                mode: _of_edits([{"edits": row[mode]} for row in own]) for mode in MODES}
    return found


def _of_edits(rows: Sequence[dict]) -> dict:
    def median(measure):
        return float(np.median([measure(row["edits"]) for row in rows]))

    yaw = accuracy(rows, "yaw", ASKED)
    mouth = {name: [edit for edit in ASKED if edit.quantity == name and edit.asked > 0] for name in MOUTH}
    return {"yaw_slope": yaw["slope"], "yaw_mae_deg": yaw["mae"], "region_db": median(editability),
            "truth_gain_db": {name: of_visible(rows, edits, gains(rows, edits, "truth"))
                              for name, edits in _GROUPS.items()},
            "mouth_error_ratio": {name: of_visible(rows, edits, 10 ** (-gains(rows, edits, "mouth") / 20))
                                  for name, edits in mouth.items()},
            "error": median(error), "drift": median(unasked), "identity_cosine": median(likeness),
            "identity_cosine_ratio": identity_ratio(rows, ASKED)}


def table(found: Mapping[str, dict], claims: Mapping[str, Mapping], *, title: str) -> str:
    """Fidelity of every variant, its edits in both modes, and what becomes of the paper's claims."""
    says = {variant.name: variant.says for variant in VARIANTS}
    rows = [["  ", "PSNR dB", "SSIM", "sharp", "identity", "still dB", "s"]]
    rows += [["  " + says[name], *(number(each[key]) for key in ("psnr_db", "ssim", "sharpness", "identity_cosine")),
              number(each["still_db"], ".1f"), number(each["seconds"], ".0f")] for name, each in found.items()]
    parts = [[title], ["SYNTHESIS (medians; still: between the code rigged with its own parameters and the code)",
                       *columns(rows)]]
    for mode, what in MODES.items():
        rows = [["  ", "yaw", "error", "yaw dB", "light", "smile", "jaw", "mouth", "jaw", "region", "missed", "drift",
                 "cosine", "ratio"]]
        for name, each in found.items():
            own = each[mode]
            rows.append(["  " + says[name], number(own["yaw_slope"]), number(own["yaw_mae_deg"]),
                         *(number(value, "+.1f") for value in own["truth_gain_db"].values()),
                         *(number(own["mouth_error_ratio"][m]) for m in ("smile", "jaw_open")),
                         number(own["region_db"], ".1f"), *(number(own[key]) for key in (
                             "error", "drift", "identity_cosine", "identity_cosine_ratio"))])
        parts.append([f"{mode.upper()}: {what}", *columns(rows)])
    parts.append([
        "  yaw: slope, mean error in degrees; dB: gained towards the true edited portrait over the unedited synthesis;",
        "  mouth: its error over that of the unedited, smile and jaw; region: dB to the truth where it moves; missed:",
        "  share of a request; drift: deviations moved unasked; cosine: of edits and portrait by the judge; ratio: of",
        "  it to that of the true edits"])
    rows = [[f"  {claim['verdict']:9s} {claim['says']}", f"{claim['difference']:+.3g}", f"{claim['spread']:.2g}",
             f"{claim['agree']}/{claim['portraits']}"] for claim in claims.values()]
    if rows:
        parts.append(["CLAIMS (paired differences over portraits, positive: as claimed; spread: standard deviation)",
                      *columns([["  ", "mean", "spread", "agree"], *rows])])
    return "\n\n".join("\n".join(part) for part in parts)


def gains_chart(found: Mapping[str, dict], mode: str) -> Figure:
    """The gains of every variant as bars."""
    return chart.grouped_bars({name: each[mode]["truth_gain_db"] for name, each in found.items()}, unit="dB",
                              title=f"Nearer to the true edited portrait than the unedited synthesis ({mode})")


def strip(portrait: Portrait, truths: Mapping[str, Truth], edited: Mapping[str, Edited]) -> Image.Image:
    """One portrait: the truth, then every variant's synthesis and edits."""
    tiles = [Tile(image=portrait.image, label="portrait"),
             *(Tile(image=truths[name].image, label=f"true {name}") for name in _SHOWN)]
    for variant, own in edited.items():
        tiles += [Tile(image=own.synthesis, label=variant),
                  *(Tile(image=own.images[name], label=name) for name in _SHOWN)]
    return grid(tiles, columns=1 + len(_SHOWN), side=160)
