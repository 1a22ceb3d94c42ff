"""How well a pack's generator gives a photo back, and so whose pixels an edit of it shows."""

from __future__ import annotations

from collections.abc import Mapping

from pie_jax.arrays import Absent
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import own_psnr_db
from pie_jax.portrait.embedding import Embedding

_FAIR, _POOR = 4.0, 8.0  # dB below what the pack's own people reach


def match(manifest: Mapping, numbers: Mapping) -> dict | None:
    """How well the pack can paint this photo: its PSNR beside the one of the pack's own held-out people.

    {"psnr_db", "own_psnr_db", "verdict": "good", "fair" or "poor"}; None where the pack records no figure of its own. A
    poor match is a picture outside of what the generator was trained on: its edits say little about the photo.
    """
    own = own_psnr_db(manifest)
    if own is None or numbers.get("psnr_db") is None:
        return None
    short = own - numbers["psnr_db"]
    verdict = "good" if short <= _FAIR else "fair" if short <= _POOR else "poor"
    return {"psnr_db": round(numbers["psnr_db"], 2), "own_psnr_db": round(own, 2), "verdict": verdict}


def start_params(manifest: Mapping, embedding: Embedding, detail: float | None) -> FaceParams | Absent:
    """The FaceParams [n] that edits start from: the fitted photo's where its pixels are shown, else the synthesis's."""
    shows_photo = embedding.photo is not None and photo_detail(manifest, embedding, detail) == 1.0
    return embedding.photo.params if shows_photo and embedding.photo is not None else embedding.params


def photo_detail(manifest: Mapping, embedding: Embedding, detail: float | None) -> float:
    """How much of an edit is the photo's own pixels, 0..1: `detail`, and where it is None what serves the photo best.

    That is 0 without a fitted photo and where the generator gives the photo back as it does its own people, else 1.
    """
    if embedding.photo is None:
        return 0.0
    if detail is not None:
        return detail
    found = match(manifest, embedding.report["metrics"])
    return 0.0 if found is not None and found["verdict"] == "good" else 1.0


def generator_trust(manifest: Mapping, embedding: Embedding) -> float:
    """How far the generator knows this photo: 1 where it gives it back as it does its own people, 0 where poorly."""
    found = match(manifest, embedding.report.get("metrics", {}))
    if found is None:
        return 0.0
    return min(max((_POOR - (found["own_psnr_db"] - found["psnr_db"])) / (_POOR - _FAIR), 0.0), 1.0)
