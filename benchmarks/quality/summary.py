"""The figures of all rows: medians, slopes, counts and gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.edits import EDITS, EXPRESSIONS, MOUTH, Edit
from benchmarks.quality.measure import GROUPS, SEEN

QUANTITIES = tuple(dict.fromkeys(edit.quantity for edit in EDITS))
CONTROLS = ("pose", "expression", "illumination")
_NAMED = {edit.name: edit for edit in EDITS}
# The edits whose truth is compared: far enough from what portraits have that a picture must change
FAR = {"yaw": ("yaw-15", "yaw+15"), "light": ("azimuth-45", "azimuth+45")} | {
    name: (f"{name}+2",) for name in EXPRESSIONS}
FAR = {name: tuple(_NAMED[edit] for edit in edits) for name, edits in FAR.items()}
WHO = (*FAR["yaw"], *FAR["light"], *FAR["smile"], *FAR["jaw_open"])  # the edits that must leave a person who he is
_MEDIANS = {"psnr_db": "psnr_median", "ssim": "ssim_median", "perceptual": "perceptual_median",
            "sharpness": "sharpness_median", "identity_cosine": "identity_cosine_median",
            "seconds": "seconds_per_portrait", "seconds_per_edit": "seconds_per_edit_median"}


def values(rows: Sequence[dict], edits: Sequence[Edit], key: str) -> np.ndarray:
    """[rows x edits] of a figure of the edits."""
    return np.asarray([row["edits"][edit.name][key] for edit in edits for row in rows], float)


def accuracy(rows: Sequence[dict], quantity: str, edits: Sequence[Edit] = EDITS) -> dict[str, float]:
    """Slope, correlation and mean absolute error of obtained on asked, over those of `edits` that ask for it."""
    edits = [edit for edit in edits if edit.quantity == quantity]
    asked, got = values(rows, edits, "asked"), values(rows, edits, "obtained")
    return {"slope": float(np.polyfit(asked, got, 1)[0]), "correlation": float(np.corrcoef(asked, got)[0, 1]),
            "mae": float(np.mean(np.abs(got - asked)))}


def gains(rows: Sequence[dict], edits: Sequence[Edit], region: str) -> np.ndarray:
    """dB by which an edited synthesis is nearer to the true edited portrait than the unedited one, all rows."""
    return values(rows, edits, f"{region}_db") - values(rows, edits, f"{region}_unedited_db")


def drifts(rows: Sequence[dict], control: str, key: str = "drift") -> dict[str, float]:
    """Median change of every group of FaceParams by edits of `control`, what they ask for left out."""
    edits = [edit for edit in EDITS if edit.control == control]
    found = {group: [row["edits"][edit.name][key][group] for row in rows for edit in edits
                     if group in row["edits"][edit.name][key]] for group in GROUPS}
    return {group: float(np.median(part)) for group, part in found.items() if part}


def summary(rows: Sequence[dict]) -> dict:
    """The figures of portraits measured by `measure`; those that need a truth are left out where there is none."""
    out = {"count": len(rows)}
    for name, key in _MEDIANS.items():
        found = [row[name] for row in rows if row.get(name) is not None]
        if found:
            out[key] = float(np.median(found))
    out["accuracy"] = {name: accuracy(rows, name) for name in QUANTITIES}
    yaw = out["accuracy"]["yaw"]
    out |= {"yaw_slope": yaw["slope"], "yaw_mae_deg": yaw["mae"]}
    order = [[row["edits"][f"yaw{a}"]["obtained"] for a in ("-15", "+0", "+15")] for row in rows]
    out["yaw_in_order"] = int(sum(a < b < c for a, b, c in order))
    out["drift"] = {control: drifts(rows, control) for control in CONTROLS}
    out["identity_cosine_of_edits"] = float(np.median(values(rows, WHO, "identity_cosine")))
    if "truth_db" in rows[0]["edits"][EDITS[0].name]:
        out |= _against_truth(rows)
    return out


def _farther(rows: Sequence[dict], edits: Sequence[Edit]) -> dict:
    """Mouth figures of each portrait's own edit: of the two requests the one farther from what it has.

    A portrait that smiles already is hardly edited by a smile; its edit is to take the smile away.
    """
    away = np.stack([np.abs(values(rows, [edit], "before") - edit.asked) for edit in edits])
    gain = np.stack([gains(rows, [edit], "mouth") for edit in edits])
    gain = gain[away.argmax(axis=0), np.arange(len(rows))]
    return {"closer": int((gain > 0).sum()), "error_ratio": float(np.median(10 ** (-gain / 20)))}


def of_visible(rows: Sequence[dict], edits: Sequence[Edit], figure: np.ndarray) -> float:
    """Median of a figure [rows x edits] over the edits whose truth moves something; NaN where none does."""
    seen = values(rows, edits, "moved") > SEEN
    return float(np.median(figure[seen])) if seen.any() else float("nan")


def _against_truth(rows: Sequence[dict]) -> dict:
    out = {f"{region}_gain_db": {name: of_visible(rows, edits, gains(rows, edits, region))
                                 for name, edits in FAR.items()} for region in ("truth", "face", "region")}
    out |= {key: {name: of_visible(rows, edits, values(rows, edits, key)) for name, edits in FAR.items()}
            for key in ("truth_db", "landmark_px128", "landmark_unedited_px128")}
    out |= {"mouth_error_ratio": {}, "mouth_closer": {}, "mouth_farther": {}}
    for name in MOUTH:
        gain = gains(rows, FAR[name], "mouth")
        out["mouth_error_ratio"][name] = float(np.median(10 ** (-gain / 20)))
        out["mouth_closer"][name] = int((gain > 0).sum())
        out["mouth_farther"][name] = _farther(rows, [_NAMED[f"{name}+0"], _NAMED[f"{name}+2"]])
    out["landmark_px128_median"] = float(np.median(values(rows, EDITS, "landmark_px128")))
    out["drift_of_truth"] = {control: drifts(rows, control, "drift_of_truth") for control in CONTROLS}
    out["identity_cosine_of_truth"] = float(np.median(values(rows, WHO, "identity_cosine_of_truth")))
    out["identity_cosine_ratio"] = identity_ratio(rows)
    return out


def identity_ratio(rows: Sequence[dict], edits: Sequence[Edit] = WHO) -> float:
    """Likeness of edits and input, against that of true renderings of the same edits and input (sums of cosines).

    A ratio of sums: a person whom the judge loses under some light must not divide by next to nothing.
    """
    return float(values(rows, edits, "identity_cosine").sum() / values(rows, edits, "identity_cosine_of_truth").sum())
