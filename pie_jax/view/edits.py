"""The list of edits of a page: applied one after the other, and said as one `pie edit` command."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pie_jax.config import CONTROLS
from pie_jax.errors import UsageError
from pie_jax.face3d.morphable import FaceParams, with_control
from pie_jax.face3d.render import light_ambient, light_direction
from pie_jax.portrait.request import AXES, expression_names, photo_params_of, target_params
from pie_jax.view.gallery import Gallery, Portrait

MOST_EDITS = 200
ANGLES = ("yaw", "pitch", "roll")


def applied(gallery: Gallery, portrait: Portrait, edits: object) -> FaceParams:
    """The FaceParams [n] of a portrait after its edits, as the page sends them.

    Each edit is {"set": {"yaw", "pitch", "roll", "expression", "light"}}, some of them, or {"take": {"from": the key of
    a portrait, "controls": names}}. UsageError: it is anything else.
    """
    params = gallery.start(portrait)
    for edit in checked(edits):
        if "take" in edit:
            other = _params_for(gallery, portrait, edit["take"]["from"])
            for control in edit["take"]["controls"]:
                params = with_control(params, other, control)
        else:
            params, _ = target_params(gallery.pack, params, **edit["set"])
    return params


def checked(edits: object) -> list[dict[str, Any]]:
    """The edits, of the right shape. UsageError: they are not."""
    if not isinstance(edits, list) or len(edits) > MOST_EDITS:
        raise UsageError(f"edits: expected a list of at most {MOST_EDITS}")
    return [_checked(edit) for edit in edits]


def _checked(edit: object) -> dict[str, Any]:
    if isinstance(edit, Mapping) and isinstance(edit.get("take"), Mapping):
        controls = edit["take"].get("controls")
        if not isinstance(controls, list) or not controls or any(c not in CONTROLS for c in controls):
            raise UsageError(f"take: expected controls, some of {', '.join(CONTROLS)}")
        return {"take": {"from": edit["take"].get("from"), "controls": tuple(controls)}}
    if not isinstance(edit, Mapping) or not isinstance(edit.get("set"), Mapping):
        raise UsageError("edit: expected set or take")
    wanted, request = edit["set"], {}
    for name in ANGLES:
        if name in wanted:
            request[name] = _number(name, wanted[name])
    if "light" in wanted:
        if not isinstance(wanted["light"], list) or len(wanted["light"]) != 4:
            raise UsageError("light: expected azimuth, elevation, intensity and ambient")
        request["light"] = tuple(_number("light", value) for value in wanted["light"])
    if "expression" in wanted:
        if not isinstance(wanted["expression"], Mapping):
            raise UsageError("expression: expected names and values")
        request["expression"] = {str(k): _number(str(k), v) for k, v in wanted["expression"].items()}
    return {"set": request}


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise UsageError(f"{name}: expected a number, got {value!r:.40}")
    return float(value)


def _params_for(gallery: Gallery, portrait: Portrait, key: object) -> FaceParams:
    other = gallery.of(key)
    if other.fitted is not None and portrait.fitted is not None:
        return photo_params_of(gallery.pack, other.fitted, own=portrait.fitted)
    return gallery.start(other)


def values_of(gallery: Gallery, params: FaceParams) -> dict[str, Any]:
    """What the sliders show of FaceParams [n]: degrees, deviations by component, light, and its 27 coefficients."""
    gamma = np.asarray(params.illumination, np.float32)
    azimuth, elevation, intensity = (float(v) for v in light_direction(gamma))
    angles = np.degrees(np.asarray(params.rotation, np.float64))
    return {**{name: round(float(angles[AXES.index(name)]), 3) for name in ANGLES},
            "expression": {name: round(float(v), 3) for name, v in zip(
                expression_names(gallery.pack), np.asarray(params.expression), strict=True)},
            "light": [round(v, 3) for v in (azimuth, elevation, intensity, float(light_ambient(gamma)))],
            "illumination": [round(float(v), 5) for v in gamma]}


@dataclasses.dataclass
class _Words:
    """What is left of a list of edits when it is said as one request."""

    numbers: dict[str, Any]
    taken: dict[str, object]  # control -> key of the portrait it is taken from


def command_of(gallery: Gallery, portrait: Portrait, edits: object, *, out: str) -> str:
    """The `pie edit` command that gives the same picture. UsageError: no single one does."""
    left = _Words({}, {})
    for edit in checked(edits):
        if "take" in edit:
            for control in edit["take"]["controls"]:
                left.taken[control] = edit["take"]["from"]
                for name in _names_of(control):
                    left.numbers.pop(name, None)
        else:
            expression = {**left.numbers.get("expression", {}), **edit["set"].get("expression", {})}
            left.numbers |= edit["set"] | ({"expression": expression} if expression else {})
            if "light" in edit["set"]:
                left.taken.pop("illumination", None)
    if len(set(map(str, left.taken.values()))) > 1:
        raise UsageError("one command takes from one other portrait; switch the others off")
    words = []
    if left.taken:
        other = gallery.of(next(iter(left.taken.values())))
        words += ["--like", _file_of(other)]
        words += ["--control", ",".join(sorted(left.taken))]
    words += [f"--{name}={left.numbers[name]:g}" for name in ANGLES if name in left.numbers]
    for name, value in left.numbers.get("expression", {}).items():
        words += ["--expression", f"{name}={value:g}"]
    if "light" in left.numbers:
        words.append("--light=" + ",".join(f"{v:g}" for v in left.numbers["light"]))
    if portrait.folder is None:
        folder = f"{out}/{portrait.name.rsplit('.', 1)[0]}"
        which = ["--face", str(portrait.face)] if portrait.face > 1 else []
        embed = shlex.join(["pie", "embed", _file_of(portrait), *which, "-o", out])
        return f"{embed} && {shlex.join(['pie', 'edit', folder, *words])}"
    return shlex.join(["pie", "edit", str(portrait.folder), *words])


def _file_of(portrait: Portrait) -> str:
    """How a command names a portrait: by its folder or photo; one that was dropped on the page by its name alone."""
    return str(portrait.folder or (portrait.name if portrait.dropped else portrait.photo_path) or portrait.name)


def _names_of(control: str) -> Sequence[str]:
    return {"pose": ANGLES, "expression": ("expression",), "illumination": ("light",)}[control]
