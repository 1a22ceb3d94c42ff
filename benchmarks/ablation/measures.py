"""What is measured of one embedding: its fidelity, and its edits by the rig alone and corrected by looking."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality.edits import EDITS, Edit
from benchmarks.quality.measure import SEEN, Edited, decibels, edit_all, measure
from benchmarks.quality.portraits import Portrait, Truth
from pie_jax.config import CONTROLS
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, synthesise
from pie_jax.portrait.calibration import apply_rig

# The controls the paper edits; an expression is asked away as well as for, because some portraits have it already.
ASKED: tuple[Edit, ...] = tuple(edit for edit in EDITS if edit.name in (
    "yaw-15", "yaw+0", "yaw+15", "azimuth-45", "azimuth+45", "smile+0", "smile+2", "jaw_open+0", "jaw_open+2"))
MODES = {"rig": "edits by the rig alone, as StyleRig and PIE make them",
         "corrected": "edits through the pack's measured response, corrected by looking (this project's default)"}
_WHOLE = {"yaw": 15.0, "azimuth": 45.0, "smile": 2.0, "jaw_open": 2.0}  # the request that an error is a share of


def row_of(pack: Pack, embedding: Embedding, portrait: Portrait, truths: Mapping[str, Truth]) -> dict:
    """Fidelity of the synthesis, `still_db`, and for each of MODES the figures of ASKED by name."""
    found = {mode: measure(pack, embedding, portrait, edits_of(pack, embedding, mode), truths, edits=ASKED)
             for mode in MODES}
    row = {name: found["rig"][name] for name in ("psnr_db", "ssim", "sharpness", "identity_cosine", "outcome")}
    return row | {"still_db": still_db(pack, embedding)} | {mode: each["edits"] for mode, each in found.items()}


def edits_of(pack: Pack, embedding: Embedding, mode: str) -> Edited:
    """The pictures of ASKED in one of MODES."""
    return edit_all(pack, embedding, ASKED, corrected=mode == "corrected")


def still_db(pack: Pack, embedding: Embedding) -> float:
    """PSNR of the code rigged with its own parameters, by each rig, to the synthesis; mean of the rigs in dB."""
    own = jax.tree.map(lambda x: jnp.asarray(x)[None], embedding.params)
    w_plus = jnp.asarray(embedding.w_plus)[None]
    rigged = [apply_rig(pack, w_plus, own, own, control=control)
              for control in CONTROLS if f"rignet_{control}" in pack.weights]
    synthesis, *others = (np.clip(np.asarray(synthesise(pack, code)[0]), 0, 1) for code in (w_plus, *rigged))
    return float(np.mean([decibels(image, synthesis) for image in others]))


def editability(edits: Mapping[str, dict]) -> float:
    """PSNR in dB to the true edited portrait over the region that the edit moves, mean of the edits that move one."""
    return float(np.mean([found["region_db"] for found in edits.values() if found["moved"] > SEEN]))


def error(edits: Mapping[str, dict]) -> float:
    """How far what the regressor reads lies from what was asked, in shares of a whole request, mean."""
    return float(np.mean([abs(edits[edit.name]["obtained"] - edit.asked) / _WHOLE[edit.quantity] for edit in ASKED]))


def unasked(edits: Mapping[str, dict]) -> float:
    """How much moves unasked, in deviations of the regressor: mean of the edits and of the groups of parameters."""
    return float(np.mean([np.mean(list(found["drift"].values())) for found in edits.values()]))


def likeness(edits: Mapping[str, dict]) -> float:
    """Cosine of edits and portrait by the judge, mean."""
    return float(np.mean([found["identity_cosine"] for found in edits.values()]))
