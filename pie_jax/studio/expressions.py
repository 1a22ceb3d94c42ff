"""What a face does: 64 named displacement fields, and the coefficient at which each is complete.

`_left` and `_right` are the person's own: the left half of the face is at x > 0 (right in the image of a
frontal face). The two halves of an expression add up to it. Coefficients are in standard deviations of the
scenes' prior; `FULL[name]` is the coefficient of the complete expression, 2.0 for all of them:
`blink` at FULL closes the lids exactly, `jaw_open` at FULL is a wide open mouth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pie_jax.studio.surface import (
    EYE_X,
    EYE_Y,
    HINGE,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    Places,
    front,
    gauss,
    lens,
    pair,
    smooth,
)

SIDED = (
    "smile",
    "frown",
    "mouth_press",
    "mouth_stretch",
    "upper_lip_raise",
    "lower_lip_down",
    "dimple",
    "blink",
    "squint",
    "eye_wide",
    "brow_raise",
    "brow_inner_raise",
    "brow_outer_raise",
    "brow_furrow",
    "cheek_puff",
    "cheek_raise",
    "sneer",
)
WHOLE = (
    "jaw_open",
    "jaw_forward",
    "jaw_left",
    "jaw_right",
    "pucker",
    "lips_part",
    "funnel",
    "mouth_left",
    "mouth_right",
    "lip_bite",
    "chin_raise",
    "lip_roll",
    "nostril_flare",
)
FULL_VALUE = 2.0


def jaw_weight(p: Places) -> np.ndarray:
    """How much a place belongs to the lower jaw, 0..1: a step across the lips, gradual on the cheeks."""
    inside = np.sqrt(1.0 - np.clip(np.abs(p.x) / MOUTH_HALF_WIDTH, 0.0, 1.0) ** 2)
    width = 0.085 + 0.16 * smooth(np.abs(p.x), 0.20, 0.60)
    gradual = 0.5 - 0.5 * np.tanh((p.y - MOUTH_Y) / width)
    step = 0.5 - 0.5 * np.sign(p.mouth_side) * np.abs(p.mouth_side)
    near = np.exp(-0.5 * ((p.y - MOUTH_Y) / 0.16) ** 2)
    weight = gradual + inside * near * (step - gradual)
    back = smooth(p.z, -0.35, 0.10)
    return weight * back


def _corner(p: Places, sx=0.075, sy=0.085):
    """1 at the corners of the mouth, quadratic along the lips, fading outside."""
    inside = np.minimum((np.abs(p.x) / MOUTH_HALF_WIDTH) ** 2, 1.0)
    outside = np.exp(-0.5 * (np.maximum(np.abs(p.x) - MOUTH_HALF_WIDTH, 0.0) / sx) ** 2)
    return inside * outside * np.exp(-0.5 * ((p.y - MOUTH_Y) / sy) ** 2)


def _inner(p: Places):
    """1 along the lips, 0 at the corners."""
    return np.sqrt(np.clip(1.0 - (p.x / MOUTH_HALF_WIDTH) ** 2, 0.0, 1.0))


def _lips(p: Places, reach=0.05):
    return _inner(p) * np.exp(-0.5 * ((p.y - MOUTH_Y) / reach) ** 2)


def _expression(name, p: Places):
    """The complete expression `name` (both sides), displacement [N, 3]."""
    x, y, z = p.x, p.y, p.z
    s, f, zero = np.sign(x), front(z), np.zeros_like(x)
    soft = np.tanh(x / 0.05)  # a sign without a seam in the middle
    up, down = (p.mouth_side + 1) / 2, (1 - p.mouth_side) / 2
    v = lambda dx=zero, dy=zero, dz=zero: np.stack([dx + zero, dy + zero, dz + zero], -1)  # noqa: E731
    if name == "jaw_open":
        w, angle = jaw_weight(p), 0.36
        dy = -angle * w * (z - HINGE[2]) * 0.92
        dz = angle * w * (y - HINGE[1]) * 0.85
        pull = f * _corner(p, 0.09, 0.14)
        return v(-0.035 * s * pull - 0.05 * x * f * gauss(x, y, 0, -0.4, 0.4, 0.2), dy, dz)
    if name == "jaw_forward":
        return v(dz=0.11 * jaw_weight(p) * smooth(y, 0.0, -0.5), dy=0.012 * jaw_weight(p))
    if name in ("jaw_left", "jaw_right"):
        return v((1 if name == "jaw_left" else -1) * 0.11 * jaw_weight(p) * smooth(y, -0.1, -0.4))
    if name == "smile":
        c = f * _corner(p, 0.10, 0.10)
        dx = 0.085 * s * c
        dy = 0.085 * c + f * _lips(p, 0.045) * (0.030 * up - 0.028 * down)
        dz = -0.05 * c + 0.045 * f * pair(x, y, 0.36, -0.07, 0.12, 0.10)
        dx += 0.020 * s * f * pair(x, y, 0.42, -0.12, 0.14, 0.12)
        dy += 0.045 * f * pair(x, y, 0.34, -0.10, 0.13, 0.10)
        dy += 0.014 * (1 - p.eye_side) / 2 * f * lens(x) * np.exp(-0.5 * ((y - EYE_Y) / 0.05) ** 2)
        dz += -0.02 * f * pair(x, y, 0.235, -0.20, 0.03, 0.07)
        return v(dx, dy, dz)
    if name == "frown":
        c = f * _corner(p, 0.085, 0.08)
        return v(
            0.012 * s * c,
            -0.085 * c + 0.020 * f * gauss(x, y, 0, -0.37, 0.12, 0.05),
            0.02 * f * gauss(x, y, 0, -0.66, 0.15, 0.07),
        )
    if name == "pucker":
        g = f * gauss(x, y, 0, MOUTH_Y, 0.24, 0.12)
        return v(
            -0.42 * x * g,
            f * _lips(p, 0.04) * (0.006 * up - 0.006 * down),
            0.105 * f * gauss(x, y, 0, MOUTH_Y, 0.13, 0.08),
        )
    if name == "lips_part":
        return v(dy=f * _lips(p, 0.05) * (0.030 * up - 0.055 * down))
    if name == "funnel":
        g = f * gauss(x, y, 0, MOUTH_Y, 0.24, 0.13)
        return v(
            -0.34 * x * g,
            f * _lips(p, 0.06) * (0.060 * up - 0.075 * down),
            0.075 * f * gauss(x, y, 0, MOUTH_Y, 0.15, 0.11),
        )
    if name in ("mouth_left", "mouth_right"):
        sign = 1 if name == "mouth_left" else -1
        return v(sign * 0.10 * f * gauss(x, y, 0, MOUTH_Y, 0.24, 0.11))
    if name == "lip_bite":
        g = f * _inner(p) * gauss(x, y, 0, -0.38, 0.16, 0.045) * down
        return v(dy=0.045 * g, dz=-0.070 * g)
    if name == "chin_raise":
        return v(
            dy=0.05 * f * gauss(x, y, 0, -0.58, 0.20, 0.14) + 0.022 * f * gauss(x, y, 0, MOUTH_Y, 0.13, 0.06),
            dz=0.03 * f * gauss(x, y, 0, -0.62, 0.13, 0.07),
        )
    if name == "lip_roll":
        g = f * _inner(p) * np.exp(-0.5 * ((y - MOUTH_Y) / 0.05) ** 2)
        return v(
            dy=g * (-0.028 * up * smooth(y, MOUTH_Y, -0.26) + 0.032 * down * smooth(y, MOUTH_Y, -0.37)), dz=-0.045 * g
        )
    if name == "nostril_flare":
        g = f * pair(x, y, 0.105, -0.075, 0.045, 0.045)
        return v(0.042 * s * g, 0.012 * g)
    if name == "mouth_press":
        g = f * gauss(x, y, 0, MOUTH_Y, 0.20, 0.05)
        return v(0.02 * s * f * _corner(p), 0.32 * (MOUTH_Y - y) * g, -0.025 * g)
    if name == "mouth_stretch":
        c = f * _corner(p, 0.10, 0.12)
        return v(0.085 * s * c, -0.035 * c, -0.03 * c)
    if name == "upper_lip_raise":
        g = f * pair(x, y, 0.10, -0.24, 0.10, 0.09) * np.where(p.mouth_side > 0, 1.0, 0.0 + 0.5 * (1 + p.mouth_side))
        return v(
            0.006 * s * g,
            0.065 * g * np.where(np.abs(x) < MOUTH_HALF_WIDTH, np.maximum(_inner(p), 0.0), 0.0)
            + 0.03 * f * pair(x, y, 0.13, -0.10, 0.05, 0.05),
            0.012 * g,
        )
    if name == "lower_lip_down":
        g = f * pair(x, y, 0.09, -0.37, 0.10, 0.08) * (1 - p.mouth_side) / 2
        return v(dy=-0.075 * g * _inner(p))
    if name == "dimple":
        c = f * _corner(p, 0.055, 0.06)
        return v(0.040 * s * c, 0.012 * c, -0.07 * c)
    if name == "blink":
        d = p.closed - p.position
        return d
    if name == "squint":
        d = p.closed - p.position
        amount = np.where(p.eye_side > 0, 0.38, 0.75)[:, None]
        return amount * d + v(
            dy=0.022 * f * pair(x, y, EYE_X, 0.16, 0.16, 0.05) - 0.022 * f * pair(x, y, 0.28, 0.44, 0.18, 0.05)
        )
    if name == "eye_wide":
        d = p.position - p.closed
        amount = np.where(p.eye_side > 0, 0.62, 0.30)[:, None]
        return amount * d + v(dy=0.030 * f * pair(x, y, 0.29, 0.45, 0.18, 0.06))
    if name == "brow_raise":
        return (
            v(
                dy=0.100 * f * pair(x, y, 0.27, 0.47, 0.21, 0.085) + 0.045 * f * gauss(x, y, 0, 0.60, 0.40, 0.13),
                dz=0.012 * f * pair(x, y, 0.27, 0.50, 0.20, 0.05),
            )
            + 0.16 * (p.position - p.closed) * (p.eye_side > 0)[:, None]
        )
    if name == "brow_inner_raise":
        return v(dy=0.095 * f * pair(x, y, 0.13, 0.46, 0.085, 0.075))
    if name == "brow_outer_raise":
        return v(dy=0.095 * f * pair(x, y, 0.40, 0.47, 0.11, 0.075))
    if name == "brow_furrow":
        g = f * pair(x, y, 0.17, 0.42, 0.11, 0.065)
        return v(-0.050 * soft * g, -0.075 * g, 0.022 * g - 0.02 * f * gauss(x, y, 0, 0.42, 0.03, 0.05))
    if name == "cheek_puff":
        g = pair(x, y, 0.40, -0.28, 0.15, 0.16)
        return v(0.085 * s * g, 0 * g, 0.105 * g * f)
    if name == "cheek_raise":
        g = f * pair(x, y, 0.37, 0.02, 0.14, 0.10)
        d = (p.closed - p.position) * np.where(p.eye_side > 0, 0.0, 0.5)[:, None]
        return d + v(0.012 * s * g, 0.050 * g, 0.035 * g)
    if name == "sneer":
        g = f * pair(x, y, 0.105, -0.08, 0.06, 0.08)
        lip = (
            f
            * pair(x, y, 0.12, -0.26, 0.08, 0.05)
            * np.where(p.mouth_side > 0, 1.0, 0.5 * (1 + p.mouth_side))
            * _inner(p)
        )
        return v(0.012 * s * g, 0.045 * g + 0.035 * lip - 0.035 * f * pair(x, y, 0.14, 0.40, 0.08, 0.06), 0.012 * g)
    raise KeyError(name)


def expression_fields() -> dict[str, Callable[[Places], np.ndarray]]:
    """dict of 64 fields, name -> function(Places) -> [N, 3] at one standard deviation."""
    fields = {}

    def half(name, side):
        def evaluate(p):
            weight = smooth(side * p.x, -0.06, 0.06)[:, None]
            return _expression(name, p) * weight / FULL_VALUE

        return evaluate

    for name in WHOLE:
        fields[name] = lambda p, name=name: _expression(name, p) / FULL_VALUE
    for name in SIDED:
        fields[name] = lambda p, name=name: _expression(name, p) / FULL_VALUE
        fields[name + "_left"], fields[name + "_right"] = half(name, 1), half(name, -1)
    order = sorted(fields, key=lambda n: (n not in ("jaw_open", "smile", "blink", "brow_raise"),))
    return {name: fields[name] for name in order}


EXPRESSION_NAMES = tuple(expression_fields())
FULL = {name: FULL_VALUE for name in EXPRESSION_NAMES}
