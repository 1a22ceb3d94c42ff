"""Who a head is: 80 displacement fields of the head, each scaled to one standard deviation.

A field maps `Places` to displacements [N, 3]. It is smooth in space, so eyeballs, teeth, hair and clothes
that evaluate it at their own place move with the skin.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pie_jax.studio.surface import EYE_X, EYE_Y, MOUTH_Y, Places, front, gauss, nose_profile, pair, smooth

IDENTITY_COUNT = 80


def _vector(x=None, y=None, z=None, n=0):
    return np.stack([np.zeros(n) if v is None else v for v in (x, y, z)], -1)


def _semantic():
    """name -> field of what has a name; the order is roughly by the size of what changes."""
    fields = {}

    def simple(name, function):
        fields[name] = function

    def along(axis, function):
        def evaluate(p):
            out = np.zeros((len(p.x), 3))
            out[:, axis] = function(p.x, p.y, np.sign(p.x), front(p.z))
            return out

        return evaluate

    low = lambda y: smooth(y, 0.05, -0.55)  # noqa: E731
    simple("face_width", along(0, lambda x, y, s, f: 0.050 * x))
    simple("face_length", along(1, lambda x, y, s, f: np.where(y < EYE_Y, 0.060 * (y - EYE_Y), 0.03 * (y - EYE_Y))))
    simple("jaw_width", along(0, lambda x, y, s, f: 0.105 * x * low(y)))
    simple("forehead_height", along(1, lambda x, y, s, f: 0.055 * smooth(y, 0.45, 1.1)))
    simple("chin_length", along(1, lambda x, y, s, f: -0.042 * smooth(y, -0.40, -0.85) * f))
    simple(
        "cheek_fullness",
        lambda p: np.stack(
            [
                0.035 * np.sign(p.x) * pair(p.x, p.y, 0.50, -0.30, 0.20, 0.22),
                0 * p.x,
                0.045 * front(p.z) * pair(p.x, p.y, 0.38, -0.28, 0.15, 0.17),
            ],
            -1,
        ),
    )
    simple("nose_length", along(1, lambda x, y, s, f: -0.034 * f * gauss(x, y, 0, -0.09, 0.15, 0.11)))
    simple("nose_width", along(0, lambda x, y, s, f: 0.24 * x * f * pair(x, y, 0.07, -0.07, 0.07, 0.085)))
    simple("nose_projection", along(2, lambda x, y, s, f: 0.21 * f * nose_profile(y) * np.exp(-0.5 * (x / 0.085) ** 2)))
    simple(
        "eye_distance",
        along(
            0, lambda x, y, s, f: 0.015 * s * f * smooth(np.abs(x), 0.03, 0.2) * np.exp(-0.5 * ((y - 0.30) / 0.17) ** 2)
        ),
    )
    simple("eye_size", lambda p: _around_eye(p, 0.11))
    simple("lip_fullness", along(1, lambda x, y, s, f: 0.30 * (y - MOUTH_Y) * f * gauss(x, y, 0, MOUTH_Y, 0.17, 0.065)))
    simple("mouth_width", along(0, lambda x, y, s, f: 0.12 * x * f * gauss(x, y, 0, MOUTH_Y, 0.22, 0.10)))
    simple("brow_height", along(1, lambda x, y, s, f: 0.026 * f * pair(x, y, 0.28, 0.45, 0.20, 0.06)))
    simple(
        "cheekbones",
        lambda p: np.stack(
            [
                0.032 * np.sign(p.x) * pair(p.x, p.y, 0.62, 0.05, 0.2, 0.14),
                0 * p.x,
                0.03 * front(p.z) * pair(p.x, p.y, 0.45, 0.03, 0.13, 0.1),
            ],
            -1,
        ),
    )
    simple("chin_width", along(0, lambda x, y, s, f: 0.17 * x * gauss(x, y, 0, -0.80, 0.34, 0.14)))
    simple("mouth_height", along(1, lambda x, y, s, f: 0.022 * f * gauss(x, y, 0, MOUTH_Y, 0.30, 0.13)))
    simple("chin_projection", along(2, lambda x, y, s, f: 0.055 * f * gauss(x, y, 0, -0.74, 0.22, 0.15)))
    simple("brow_ridge", along(2, lambda x, y, s, f: 0.030 * f * gauss(x, y, 0, 0.42, 0.42, 0.06)))
    simple(
        "eye_tilt",
        along(1, lambda x, y, s, f: 0.10 * (np.abs(x) - EYE_X) * f * pair(x, y, EYE_X, EYE_Y + 0.05, 0.14, 0.12)),
    )
    simple("brow_tilt", along(1, lambda x, y, s, f: 0.14 * (np.abs(x) - 0.28) * f * pair(x, y, 0.28, 0.46, 0.16, 0.05)))
    simple("eye_depth", along(2, lambda x, y, s, f: 0.022 * f * pair(x, y, EYE_X, EYE_Y, 0.15, 0.10)))
    simple("nose_bridge", along(2, lambda x, y, s, f: 0.030 * f * gauss(x, y, 0, 0.16, 0.06, 0.10)))
    simple(
        "nose_tip_up",
        lambda p: np.stack([0 * p.x, 0.022 * front(p.z) * gauss(p.x, p.y, 0, -0.05, 0.06, 0.05), 0 * p.x], -1),
    )
    simple("nose_hump", along(2, lambda x, y, s, f: 0.020 * f * gauss(x, y, 0, 0.09, 0.05, 0.05)))
    simple("lips_projection", along(2, lambda x, y, s, f: 0.030 * f * gauss(x, y, 0, MOUTH_Y, 0.16, 0.09)))
    simple("temple_width", along(0, lambda x, y, s, f: 0.045 * x * np.exp(-0.5 * ((y - 0.65) / 0.2) ** 2)))
    simple("jaw_angle", along(1, lambda x, y, s, f: -0.035 * pair(x, y, 0.52, -0.58, 0.13, 0.16)))
    simple("head_depth", lambda p: _vector(z=0.05 * np.minimum(p.z, 0.0), n=len(p.x)))
    simple("forehead_slope", along(2, lambda x, y, s, f: -0.045 * f * smooth(y, 0.4, 1.0)))
    simple("upper_lip", along(1, lambda x, y, s, f: 0.012 * f * gauss(x, y, 0, -0.255, 0.12, 0.022)))
    simple("lower_lip", along(1, lambda x, y, s, f: -0.015 * f * gauss(x, y, 0, -0.395, 0.11, 0.030)))
    simple("philtrum", along(1, lambda x, y, s, f: 0.016 * f * gauss(x, y, 0, -0.18, 0.14, 0.06)))
    simple("mouth_corners", along(1, lambda x, y, s, f: 0.016 * f * pair(x, y, 0.22, MOUTH_Y, 0.06, 0.06)))
    simple(
        "nostrils",
        lambda p: _vector(0.016 * np.sign(p.x) * front(p.z) * pair(p.x, p.y, 0.11, -0.08, 0.04, 0.04), n=len(p.x)),
    )
    simple("nose_turn", along(0, lambda x, y, s, f: 0.010 * f * gauss(x, y, 0, -0.03, 0.10, 0.10)))
    simple("jaw_shift", along(0, lambda x, y, s, f: 0.012 * smooth(y, -0.2, -0.8)))
    simple("brow_asymmetry", along(1, lambda x, y, s, f: 0.010 * s * f * pair(x, y, 0.28, 0.45, 0.18, 0.06)))
    simple("double_chin", along(1, lambda x, y, s, f: -0.04 * smooth(y, -0.7, -0.92) * smooth(np.abs(x), 0.5, 0.2)))
    simple(
        "ears",
        lambda p: (
            np.stack([0.020 * np.sign(p.x), 0 * p.x, 0 * p.x], -1)
            * (smooth(np.abs(p.x), 0.705, 0.80) * smooth(np.abs(p.z + 0.1), 0.35, 0.2))[:, None]
        ),
    )
    return fields


def _around_eye(p: Places, amount):
    """Wider eyes. Heights count from the closed lids, so that a blink closes every eye."""
    dx, dy = np.abs(p.x) - EYE_X, p.y - EYE_Y
    near = front(p.z) * np.exp(-0.5 * (dx / 0.13) ** 2 - 0.5 * (dy / 0.075) ** 2)
    return np.stack([0.75 * amount * np.sign(p.x) * dx * near, 1.7 * amount * dy * near, 0 * dx], -1)


def _smooth_fields(count):
    """Random smooth displacement fields with a decaying spectrum; two in three are symmetric."""
    rng = np.random.default_rng(20260)
    for k in range(count):
        scale = 0.0075 * 0.97**k
        frequency = rng.normal(size=(10, 3)) * (1.6 + 2.4 * k / count)
        phase = rng.uniform(0, 2 * np.pi, 10)
        direction = rng.normal(size=(10, 3)) / np.sqrt(10)
        symmetric = k % 3 != 2

        def evaluate(p, frequency=frequency, phase=phase, direction=direction, scale=scale, symmetric=symmetric):
            q = np.stack([np.sqrt(p.x**2 + 0.02) if symmetric else p.x, p.y, 0.6 * p.z], -1)
            wave = np.cos(q @ frequency.T + phase)
            d = wave @ direction
            if symmetric:
                d = d * np.stack([np.tanh(p.x / 0.2), np.ones_like(p.x), np.ones_like(p.x)], -1)
            return scale * d * (0.4 + 0.6 * front(p.z))[:, None]

        yield f"smooth_{k:02d}", evaluate


def identity_fields() -> dict[str, Callable[[Places], np.ndarray]]:
    """dict of 80 fields, name -> function(Places) -> [N, 3], largest first within each kind."""
    fields = _semantic()
    for name, function in _smooth_fields(IDENTITY_COUNT - len(fields)):
        fields[name] = function
    return fields


IDENTITY_NAMES = tuple(identity_fields())
