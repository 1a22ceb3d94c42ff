"""The figures of all rows: medians, slopes, counts and gains."""

from __future__ import annotations

import numpy as np

from benchmarks.quality.edits import EDITS, EXPRESSIONS, MOUTH


def _values(rows, edit, key) -> np.ndarray:
    return np.asarray([row["edits"][edit.name][key] for row in rows], float)


def accuracy(rows: list[dict], quantity: str, *, limit: float = np.inf) -> dict:
    """Slope, correlation and mean absolute error of obtained on asked, |asked| <= limit."""
    edits = [edit for edit in EDITS if edit.quantity == quantity and abs(edit.asked) <= limit]
    asked = np.concatenate([_values(rows, edit, "asked") for edit in edits])
    got = np.concatenate([_values(rows, edit, "obtained") for edit in edits])
    return {"slope": float(np.polyfit(asked, got, 1)[0]), "correlation": float(np.corrcoef(asked, got)[0, 1]),
            "mae": float(np.mean(np.abs(got - asked)))}


def gains(rows: list[dict], edits, region: str) -> np.ndarray:
    """dB by which an edited synthesis is nearer to the true edited portrait than the unedited one, all rows."""
    return np.concatenate([_values(rows, edit, f"{region}_db") - _values(rows, edit, f"{region}_unedited_db")
                           for edit in edits])


def summary(rows: list[dict]) -> dict:
    """The figures of portraits measured by `measure`; those that need a truth are left out where there is none."""
    out = {"count": len(rows)}
    for name in ("psnr_db", "ssim", "perceptual", "sharpness", "seconds", "seconds_per_edit"):
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            key = {"psnr_db": "psnr_median", "seconds": "seconds_per_portrait"}.get(name, f"{name}_median")
            out[key] = float(np.median(values))
    quantities = list(dict.fromkeys(edit.quantity for edit in EDITS))
    out["accuracy"] = {name: accuracy(rows, name) for name in quantities}
    yaw = out["accuracy"]["yaw"]
    out |= {"yaw_slope": yaw["slope"], "yaw_mae_deg": yaw["mae"]}
    order = [[row["edits"][f"yaw{a}"]["obtained"] for a in ("-15", "+0", "+15")] for row in rows]
    out["yaw_in_order"] = int(sum(a < b < c for a, b, c in order))
    out["drift"] = {control: float(np.median(np.concatenate(
        [_values(rows, edit, "drift") for edit in EDITS if edit.control == control])))
        for control in ("pose", "expression", "illumination")}
    if "truth_db" in rows[0]["edits"][EDITS[0].name]:
        out |= _against_truth(rows)
    return out


def _farther(rows: list[dict], edits) -> dict:
    """Mouth figures of each portrait's own edit: of the two requests the one farther from what it has.

    A portrait that smiles already is hardly edited by a smile; its edit is to take the smile away.
    """
    away = np.stack([np.abs(_values(rows, edit, "before") - edit.asked) for edit in edits])
    gain = np.stack([gains(rows, [edit], "mouth") for edit in edits])
    gain = gain[away.argmax(axis=0), np.arange(len(rows))]
    return {"closer": int((gain > 0).sum()), "error_ratio": float(np.median(10 ** (-gain / 20)))}


def _against_truth(rows: list[dict]) -> dict:
    named = {edit.name: edit for edit in EDITS}
    turned, lit = [named["yaw-15"], named["yaw+15"]], [named["azimuth-45"], named["azimuth+45"]]
    groups = {"yaw": turned, "light": lit} | {name: [named[f"{name}+2"]] for name in EXPRESSIONS}
    out = {"truth_gain_db": {k: float(np.median(gains(rows, g, "truth"))) for k, g in groups.items()},
           "region_gain_db": {k: float(np.median(gains(rows, g, "region"))) for k, g in groups.items()},
           "truth_db": {k: float(np.median(np.concatenate([_values(rows, e, "truth_db") for e in g])))
                        for k, g in groups.items()},
           "mouth_error_ratio": {}, "mouth_closer": {}, "mouth_farther": {}}
    for name in MOUTH:
        gain = gains(rows, groups[name], "mouth")
        out["mouth_error_ratio"][name] = float(np.median(10 ** (-gain / 20)))
        out["mouth_closer"][name] = int((gain > 0).sum())
        out["mouth_farther"][name] = _farther(rows, [named[f"{name}+0"], named[f"{name}+2"]])
    out["landmark_px128"] = float(np.median(np.concatenate([_values(rows, edit, "landmark_px128") for edit in EDITS])))
    if "identity_cosine" in rows[0]["edits"]["yaw+15"]:
        ratio = np.concatenate([_values(rows, e, "identity_cosine") / _values(rows, e, "identity_cosine_of_truth")
                                for e in (*turned, *lit, named["smile+2"], named["jaw_open+2"])])
        out["identity_cosine_ratio"] = float(np.median(ratio))
    return out
