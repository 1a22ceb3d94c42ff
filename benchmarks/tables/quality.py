"""Tables of what embeddings and edits are worth."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence

from benchmarks.tables.markdown import RESULTS, markdown, rows_of

_QUANTITY_NAMES = {"azimuth": "light azimuth", "elevation": "light elevation"}


@functools.cache
def _summary() -> dict:
    return json.loads((RESULTS / "quality" / "summary.json").read_text())


def _of_last_pack(rows: Sequence[dict]) -> list[dict]:
    """Of rows in the order in which they were measured, those of the last one's pack."""
    return [row for row in rows if row["pack"] == rows[-1]["pack"]]


def presets(first: str, second: str) -> str:
    """Two presets side by side, over the people that both embedded, of the last pack that both were measured on."""
    from benchmarks.quality.presets import compare

    measured: dict[str, dict[str, dict[int, dict]]] = {}  # pack -> preset -> seed -> row
    for row in rows_of("quality/portraits.jsonl"):
        if row["preset"] in (first, second) and row["of"] == "studio":
            measured.setdefault(row["pack"], {}).setdefault(row["preset"], {})[row["seed"]] = row
    of_both = [found for found in measured.values() if len(found) == 2]
    return _side_by_side(compare(of_both[-1], (first, second)), first, second)


def _three_digits(value: float) -> str:
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1}f}"


def _side_by_side(compared: dict, first: str, second: str) -> str:
    from benchmarks.quality.presets import COMPARED

    rows = []
    for name, (unit, _) in COMPARED.items():
        if name not in compared:
            continue
        each = compared[name]
        medians = [_three_digits(each[preset]["median"]) for preset in (first, second)]
        lead, error = each[first]["lead"], each[first]["error"]
        digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 2  # two digits of the error
        rows.append((f"{name}, {unit}" if unit else name, *medians, f"{lead:+.{digits}f} ± {error:.{digits}f}"))
    return markdown((f"median of {len(compared['people'])} people", first, second, f"{first} - {second}"), rows)


def fidelity() -> str:
    """Synthesis, likeness and seconds of the default preset."""
    found = _summary()
    rows = (("synthesis against the portrait, PSNR", f"{found['psnr_median']:.1f} dB"),
            ("synthesis against the portrait, SSIM", f"{found['ssim_median']:.2f}"),
            ("sharpness of the face, of the portrait's", f"{found['sharpness_median']:.2f}"),
            ("identity cosine of the synthesis, by a network that no energy has seen",
             f"{found['identity_cosine_median']:.3f}"),
            ("identity cosine of edits, of that of the true edits", f"{found['identity_cosine_ratio']:.2f}"),
            ("yaw of the edits to -15, 0 and 15 degrees in order", f"{found['yaw_in_order']} of {found['count']}"),
            ("landmarks of an edit off the true ones, of 128 px", f"{found['landmark_px128_median']:.1f} px"),
            ("to embed a portrait", f"{found['seconds_per_portrait']:.0f} s"),
            ("to edit it", f"{found['seconds_per_edit_median']:.2f} s"))
    return markdown((f"median of {found['count']} people", ""), rows)


def edits() -> str:
    """What was asked against what came, and how near edits are to the true edited portraits."""
    found, rows = _summary(), []
    for name, accuracy in found["accuracy"].items():
        group = "light" if name == "azimuth" else name
        angle = name in ("yaw", "pitch", "azimuth", "elevation")
        rows.append((_QUANTITY_NAMES.get(name, name), f"{accuracy['slope']:.2f}",
                     f"{accuracy['mae']:.2f}{' degrees' if angle else ''}", *(
            f"{found[key][group]:{form}}" if group in found[key] else ""
            for key, form in (("truth_db", ".1f"), ("truth_gain_db", "+.1f"), ("face_gain_db", "+.1f"),
                              ("region_gain_db", "+.1f")))))
    head = ("edit", "slope", "mean error", "dB to the truth", "gain, dB", "in the face", "where it moves")
    return markdown(head, rows)


def mouth() -> str:
    """The mouth region: how many people an edit brings nearer to the truth, and the error left."""
    found, rows = _summary(), []
    for name, count in found["mouth_closer"].items():
        own = found["mouth_farther"][name]
        rows.append((name, f"{count} of {found['count']}", f"{found['mouth_error_ratio'][name]:.2f}",
                     f"{own['closer']} of {found['count']}", f"{own['error_ratio']:.2f}"))
    error = "error, of the unedited"
    return markdown(("edit", "to 2: nearer", error, "own edit: nearer", error), rows)


def response() -> str:
    """How the generator's change compares with the true rendering's, one factor moved."""
    rows = [(name, f"{one['cosine']:.2f}", f"{one['gain']:.2f}") for name, one in _summary()["response"].items()]
    return markdown(("factor", "cosine", "gain"), rows)


def ablation() -> str:
    """The paper's claims, asked of the rows of the shipped pack."""
    from benchmarks.ablation.claims import claims

    rows = _of_last_pack(rows_of("ablation/ablation.jsonl"))
    return markdown(("claim", "verdict", "mean", "spread", "agree"), [
        (one["says"], one["verdict"], f"{one['difference']:+.2g}", f"{one['spread']:.2g}",
         f"{one['agree']} of {one['portraits']}") for one in claims(rows).values()])


def joint() -> str:
    """One embedding for all controls beside one for a control alone, gain over the unedited where the edit moves."""
    from benchmarks.joint import summary

    found = summary(_of_last_pack(rows_of("joint/joint.jsonl")))
    names = list(found["psnr_db"])
    rows = [("synthesis, dB", *(f"{value:.1f}" for value in found["psnr_db"].values()))]
    rows += [(f"{edit}, gain in dB", *(f"{gains[name]:+.1f}" if name in gains else "" for name in names))
             for edit, gains in found["gain_db"].items()]
    rows += [(f"{edit}, yaw off by, degrees", *(f"{off[name]:.2f}" if name in off else "" for name in names))
             for edit, off in found["yaw_off_deg"].items()]
    return markdown((f"median of {found['count']} people", *names), rows)


def precision() -> str:
    """bfloat16 beside float32, on the same people."""
    from benchmarks.precision.__main__ import summary

    lines, networks = (_of_last_pack([row for row in rows_of(f"precision/{name}.jsonl") if row["preset"] == "search"])
                       for name in ("embeddings", "networks"))
    found = summary(lines, networks)
    rows = [(name, f"{found[name]['psnr_db']:.2f}", f"{found[name]['truth_error']:.4f}",
             f"{found[name]['ms_step']:.0f}") for name in ("float32", "bfloat16")]
    return markdown((f"median of {found['count']} people", "PSNR, dB", "error of edits to the truth, of 1",
                     f"ms a step, {lines[-1]['cores']} core, {lines[-1]['device']}"), rows)
