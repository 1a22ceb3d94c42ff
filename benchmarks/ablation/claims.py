"""What the paper claims of its energy, asked of the rows: paired differences over portraits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.ablation.measures import editability, error, likeness, unasked

SURE = 2.0  # standard errors that a mean difference must be away from zero


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """`better` does better than `worse` in a measure of one row; `larger` says which direction is good."""

    says: str
    better: str
    worse: str
    measure: Callable[[dict], float]
    larger: bool = True


def _rig(measure: Callable[[dict], float]) -> Callable[[dict], float]:
    return lambda row: measure(row["rig"])


def _corrected(measure: Callable[[dict], float]) -> Callable[[dict], float]:
    return lambda row: measure(row["corrected"])


CLAIMS = {
    "full_over_synthesis": Claim(
        says="all terms edit better than E_synthesis alone (dB in the moved region)", better="full",
        worse="synthesis", measure=_rig(editability)),
    "full_over_synthesis_corrected": Claim(
        says="and still so where edits are corrected by looking (dB)", better="full", worse="synthesis",
        measure=_corrected(editability)),
    "full_over_image2stylegan": Claim(
        says="PIE edits better than a direct rig on Image2StyleGAN (dB)", better="full", worse="image2stylegan",
        measure=_rig(editability)),
    "full_over_image2stylegan_corrected": Claim(
        says="and still so where edits are corrected by looking (dB)", better="full", worse="image2stylegan",
        measure=_corrected(editability)),
    "staged_over_w_plus": Claim(
        says="W then W+ edits better than W+ from the start (dB)", better="full", worse="w_plus",
        measure=_rig(editability)),
    "staged_over_w": Claim(
        says="W then W+ is more faithful than W only (dB of the synthesis)", better="full", worse="w",
        measure=lambda row: row["psnr_db"]),
    "identity_term": Claim(
        says="E_identity: own parameters rig a code to itself (dB)", better="full", worse="no_identity",
        measure=lambda row: row["still_db"]),
    "edit_term": Claim(
        says="E_edit: edits carry what was asked (share of it missed)", better="full", worse="no_edit",
        measure=_rig(error), larger=False),
    "edit_term_truth": Claim(
        says="and come nearer to the truth for it (dB)", better="full", worse="no_edit", measure=_rig(editability)),
    "invariance_term": Claim(
        says="E_invariance: edits carry nothing else (deviations)", better="full", worse="no_invariance",
        measure=_rig(unasked), larger=False),
    "recognition_term": Claim(
        says="E_recognition: edits show the same person (cosine)", better="full", worse="no_recognition",
        measure=_rig(likeness)),
    # what the levers of speed cost; positive: the slow form is ahead
    "every_step": Claim(
        says="all terms in every step are more faithful (dB of the synthesis)", better="full", worse="lazy",
        measure=lambda row: row["psnr_db"]),
    "every_step_edits": Claim(
        says="and edit better, corrected (dB)", better="full", worse="lazy", measure=_corrected(editability)),
    "detail": Claim(
        says="portraits painted as far as they are read are more faithful than to half of it (dB)", better="full",
        worse="half_detail", measure=lambda row: row["psnr_db"]),
    "detail_edits": Claim(
        says="and edit better, corrected (dB)", better="full", worse="half_detail", measure=_corrected(editability)),
}


def differences(rows: Sequence[dict], claim: Claim) -> np.ndarray:
    """[portraits] by how much `better` is ahead, of every portrait that has both rows; positive: as claimed."""
    found = {(row["variant"], row["seed"]): claim.measure(row) for row in rows
             if row["variant"] in (claim.better, claim.worse)}
    seeds = sorted(seed for name, seed in found if name == claim.better and (claim.worse, seed) in found)
    ahead = np.asarray([found[claim.better, seed] - found[claim.worse, seed] for seed in seeds], float)
    return ahead if claim.larger else -ahead


def verdict(ahead: np.ndarray) -> dict[str, float | int | str]:
    """Mean, spread (standard deviation over portraits), how many agree, and whether the claim "holds".

    "holds" and "fails": the mean is `SURE` standard errors to that side of zero; else "undecided".
    """
    mean, spread = float(ahead.mean()), float(ahead.std(ddof=1)) if len(ahead) > 1 else float("inf")
    sure = abs(mean) > SURE * spread / np.sqrt(len(ahead))
    return {"difference": mean, "spread": spread, "agree": int((ahead > 0).sum()), "portraits": len(ahead),
            "verdict": ("holds" if mean > 0 else "fails") if sure else "undecided"}


def claims(rows: Sequence[dict]) -> dict[str, Mapping]:
    """The verdict of every claim whose two variants have portraits in common."""
    found = {name: (claim, differences(rows, claim)) for name, claim in CLAIMS.items()}
    return {name: {"says": claim.says, **verdict(ahead)}
            for name, (claim, ahead) in found.items() if len(ahead)}

