"""Edits that arrive where they were asked to: a pack's measured response inverted, then corrected by looking.

A rig weakens edits (it answers a request of 15 degrees with 10), so a request first goes backwards through the curve
asked -> obtained that `tuning.calibrate` measured on samples of v and left in the pack. What is then left is this
portrait's own: the edited image is synthesised, the regressor reads it, and as much more is asked as is missing. That
is done for pose and light, which the regressor reads well, through all rigs of the edit together, so that a turned
face stays turned when its mouth opens; among 64 expression components most of what it reads is noise, and correcting
it makes edits worse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pie_jax.arrays import Array
from pie_jax.face3d.morphable import FaceParams, control_field, control_vector, with_control
from pie_jax.pack import Pack, inference
from pie_jax.portrait.reading import read_codes
from pie_jax.programs import kept

FEEDBACK_CONTROLS = ("pose", "illumination")
FEEDBACK_ROUNDS = 3
FEEDBACK_GAIN = 0.8  # of what is missing, asked again
MAX_EXTRAPOLATION = 1.25  # of the largest change measured: what a rig is asked for at most
_FAR = 2.0  # deviations by which corrections may go beyond the inverted request


def part_hashes(pack: Pack) -> dict[str, str]:
    """Hashes of the parts that a calibration holds for; it is void once one of them is another."""
    parts = pack.manifest.get("parts", {})
    names = ("generator", "regressor", *sorted(name for name in parts if name.startswith("rignet_")))
    return {name: parts[name]["sha256"] for name in names if name in parts}


def calibration(pack: Pack) -> Mapping:
    """What `tuning.calibrate` left in the pack's manifest; empty where it did not run on these very networks."""
    found = pack.manifest.get("calibration", {})
    return found if found.get("parts") == part_hashes(pack) else {}


def curves(pack: Pack, control: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Component of `control` -> (asked, got), both rising: changes from what the portrait has, in its own unit.

    Only components whose answer follows the request are in there.
    """
    found = calibration(pack).get("curves", {}).get(control, {})
    return {int(index): (np.asarray(curve["asked"]), np.asarray(curve["got"])) for index, curve in found.items()}


def range_warnings(pack: Pack, *, expression: Mapping[str, float] | None = None,
           light: Sequence[float] | None = None, **angles: float | None) -> list[str]:
    """One line for each number of a request that lies outside the range where edits were measured to arrive."""
    asked = {name: value for name, value in angles.items() if value is not None} | dict(expression or {})
    if light is not None:
        asked |= dict(zip(("azimuth", "elevation", "intensity"), light))
    reach = calibration(pack).get("reach", {})
    return [f"{name} {asked[name]:g}: edits of this pack were measured to arrive from {low:.3g} to {high:.3g}"
            for name, (low, high) in sorted(reach.items()) if name in asked and not low <= asked[name] <= high]


def invert(pack: Pack, source: FaceParams, wanted: FaceParams, *, control: str) -> FaceParams:
    """What to ask the rig of `control` for so that `wanted` [B, n] comes out: its change sent back through the curve.

    Components without a curve are left alone; beyond the ends of a curve its last slope goes on for a little.
    """
    known = curves(pack, control)
    if not known:
        return wanted
    before, after = np.asarray(control_vector(source, control)), np.asarray(control_vector(wanted, control))
    request = np.array(after, np.float32)
    for index, (asked, got) in known.items():
        change = after[:, index] - before[:, index]
        request[:, index] = before[:, index] + _backwards(change, asked, got)
    request = np.where(after == before, after, request)
    return dataclasses.replace(wanted, **{control_field(control): request.astype(np.float32)})


def _backwards(change: np.ndarray, asked: np.ndarray, got: np.ndarray) -> np.ndarray:
    """The request that a rising curve answers with `change`, at most MAX_EXTRAPOLATION of the largest one measured.

    Beyond that a rig and a generator leave what they know: a wrong face is worse than a weak edit.
    """
    low, high = ((asked[j] - asked[i]) / (got[j] - got[i]) for i, j in ((0, 1), (-2, -1)))
    inside = np.interp(change, got, asked)
    request = inside + low * np.minimum(change - got[0], 0.0) + high * np.maximum(change - got[-1], 0.0)
    return np.clip(request, MAX_EXTRAPOLATION * asked[0], MAX_EXTRAPOLATION * asked[-1])


def solve_edit(pack: Pack, w_plus: Array, source: FaceParams, wanted: FaceParams, *, order: Sequence[str],
               corrections: int = FEEDBACK_ROUNDS) -> np.ndarray:
    """The code w_plus [B, L, D] moved through the rigs of `order` so that its image shows what `wanted` [B, n] says.

    source: the FaceParams [B, n] of w_plus itself. Of the answers to the inverted request and to its corrections each
    row keeps the one whose image comes nearest, so a correction never makes it worse in the regressor's eyes.
    """
    w_plus, source, wanted = jax.tree.map(np.asarray, (w_plus, source, wanted))  # a first edit compiles no operation
    requests = {control: invert(pack, source, wanted, control=control) for control in order}
    first = {control: control_vector(asked, control) for control, asked in requests.items()}
    moved = best = _through(pack, w_plus, source, wanted, requests)
    looked = [control for control in order if control in FEEDBACK_CONTROLS and curves(pack, control)]
    if not looked or not corrections or "regressor" not in pack.weights:
        return moved
    spread = FaceParams.from_vector(np.asarray(pack.weights["regressor"]["output_std"]))
    units = {control: control_vector(spread, control)[None] for control in looked}
    known = {control: np.isin(np.arange(units[control].shape[-1]), list(curves(pack, control)))[None]
             for control in looked}
    nearest = np.full(len(w_plus), np.inf, np.float32)
    for round_ in range(corrections + 1):
        seen, error = jax.tree.map(np.asarray, read_codes(pack, moved)), np.zeros(len(w_plus), np.float32)
        missing = {}
        for control in looked:
            lacking = control_vector(wanted, control) - control_vector(seen, control)
            missing[control] = np.where(known[control], lacking, np.float32(0.0))
            error += np.square(missing[control] / units[control]).sum(axis=-1)
        best = np.where((error < nearest)[:, None, None], moved, best)
        nearest = np.minimum(error, nearest)
        if round_ == corrections:
            break
        for control in looked:
            far = _FAR * units[control]
            request = control_vector(requests[control], control) + FEEDBACK_GAIN * missing[control]
            request = np.clip(request, first[control] - far, first[control] + far)
            requests[control] = dataclasses.replace(requests[control], **{control_field(control): request})
        moved = _through(pack, w_plus, source, wanted, requests)
    return best


def _through(pack: Pack, w_plus: Array, source: FaceParams, wanted: FaceParams,
             requests: Mapping[str, FaceParams]) -> np.ndarray:
    """w_plus through the rigs, one after the other; a later one takes it that the earlier ones gave what was wanted."""
    for control, asked in requests.items():
        w_plus = apply_rig(pack, w_plus, source, with_control(source, asked, control), control=control)
        source = with_control(source, wanted, control)
    return np.asarray(w_plus)


@kept(static_argnames="control", level=3)
def apply_rig(pack: Pack, w_plus: Array, source: FaceParams, target: FaceParams, *, control: str) -> jax.Array:
    """w_plus [B, L, D] whose parameters are `source` [B, n] to the code whose `control` is the target's."""
    return inference.rig(pack.configs, pack.weights, w_plus, source, target, control=control)
