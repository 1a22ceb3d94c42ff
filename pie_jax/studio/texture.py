"""The colour of skin: a mean albedo and 80 texture fields, as closed forms of a vertex's place.

Colours are RGB in 0..1, shown as they are (no transfer curve), as in Deep3DFaceRecon. A coefficient of 1 is
one standard deviation. `beard`, `moustache`, `stubble`, `freckles` and `make_up` are meant for coefficients >= 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pie_jax.studio.surface import EYE_X, EYE_Y, MOUTH_HALF_WIDTH, MOUTH_Y, Places, front, gauss, lens, pair, smooth

TEXTURE_COUNT = 80
SKIN = np.array([0.735, 0.545, 0.445])
LIP = np.array([0.640, 0.335, 0.310])
BROW = np.array([0.235, 0.160, 0.115])


def brow_mask(p: Places, *, thickness: float = 1.0) -> np.ndarray:
    """The hairs of the brows, 0..1."""
    ax = np.abs(p.x)
    t = np.clip((ax - 0.125) / 0.36, 0.0, 1.0)
    ridge = 0.418 + 0.064 * np.sin(np.pi * np.clip(t * 0.80, 0, 1)) ** 1.1
    half = thickness * (0.030 * (1.0 - t) ** 0.6 + 0.010)
    along = smooth(ax, 0.105, 0.15) * smooth(ax, 0.49, 0.42)
    return along * np.exp(-0.5 * ((p.y - ridge) / half) ** 4) * (p.z > 0)


def lip_mask(p: Places) -> np.ndarray:
    """The red of the lips, 0..1: a bow above, a bowl below."""
    ax = np.abs(p.x)
    s = np.clip(ax / (MOUTH_HALF_WIDTH - 0.005), 0.0, 1.0)
    bow = 0.058 * (1.0 - s**1.7) - 0.014 * np.exp(-0.5 * (ax / 0.030) ** 2)
    bowl = 0.076 * (1.0 - s**2.2)
    dy = p.y - MOUTH_Y
    edge = np.where(dy >= 0, bow - dy, bowl + dy)
    return smooth(edge, -0.006, 0.012) * (ax < MOUTH_HALF_WIDTH + 0.01) * front(p.z)


def beard_mask(p: Places) -> np.ndarray:
    """Cheeks below a line from the ear to the mouth, chin and under it."""
    ax = np.abs(p.x)
    line = -0.13 - 0.40 * smooth(ax, 0.62, 0.20)
    region = smooth(p.y, line + 0.03, line - 0.12)
    around = 1.0 - gauss(p.x, p.y, 0, MOUTH_Y - 0.02, 0.17, 0.075)
    sideburn = smooth(ax, 0.56, 0.64) * smooth(p.y, 0.28, 0.15)
    return np.clip(np.maximum(region * around, sideburn) * (1 - lip_mask(p)) * smooth(p.z, -0.25, 0.02), 0, 1)


def moustache_mask(p: Places) -> np.ndarray:
    ax = np.abs(p.x)
    centre = -0.215 - 0.16 * smooth(ax, 0.10, 0.26)
    return np.exp(-0.5 * ((p.y - centre) / 0.034) ** 2) * smooth(ax, 0.27, 0.21) * (1 - lip_mask(p)) * front(p.z)


def occlusion(p: Places) -> np.ndarray:
    """Baked ambient occlusion, a factor 0..1."""
    x, y, ax = p.x, p.y, np.abs(p.x)
    dark = 0.30 * pair(x, y, 0.195, 0.275, 0.045, 0.055) + 0.16 * pair(x, y, EYE_X, 0.36, 0.12, 0.025)
    dark += 0.80 * pair(x, y, 0.052, -0.128, 0.028, 0.016) + 0.22 * gauss(x, y, 0, -0.145, 0.10, 0.022)
    dark += 0.20 * pair(x, y, 0.150, -0.085, 0.018, 0.045)
    dark += (
        0.45
        * np.exp(-0.5 * ((y - MOUTH_Y) / 0.011) ** 2)
        * smooth(ax, MOUTH_HALF_WIDTH + 0.035, MOUTH_HALF_WIDTH - 0.03)
    )
    dark += 0.18 * pair(x, y, 0.245, MOUTH_Y - 0.01, 0.025, 0.025) + 0.16 * gauss(x, y, 0, -0.445, 0.13, 0.028)
    dark += 0.08 * pair(x, y, 0.145, 0.10, 0.035, 0.10)
    fold = 0.17 + 0.45 * (-0.12 - y)
    dark += 0.09 * np.exp(-0.5 * ((ax - fold) / 0.022) ** 2) * smooth(y, -0.06, -0.14) * smooth(y, -0.44, -0.34)
    dark = dark * front(p.z)
    dark += 0.50 * smooth(y, -0.86, -0.93) + 0.10 * smooth(p.z, 0.15, -0.15)
    return np.clip(1.0 - dark, 0.12, 1.0)


def lash_mask(p: Places) -> np.ndarray:
    """Lashes and the shadowed edge of the lids."""
    dy = p.y - EYE_Y
    up = np.exp(-0.5 * (dy / 0.011) ** 2) * (p.eye_side > 0)
    low = 0.45 * np.exp(-0.5 * (dy / 0.006) ** 2) * (p.eye_side < 0)
    s = (np.abs(p.x) - EYE_X) / 0.165
    return (up + low) * np.clip(1.3 * (1.0 - s**4), 0, 1) * (np.abs(s) < 1) * (p.z > 0)


def mean_albedo(p: Places) -> np.ndarray:
    """[N, 3] of the average person."""
    x, y, f = p.x, p.y, front(p.z)
    colour = np.tile(SKIN, (len(x), 1))
    red = (
        0.5 * pair(x, y, 0.40, -0.08, 0.14, 0.12)
        + 0.45 * gauss(x, y, 0, -0.05, 0.09, 0.06)
        + 0.2 * gauss(x, y, 0, -0.70, 0.12, 0.1)
    )
    colour = colour + (red * f)[:, None] * np.array([0.035, -0.030, -0.030])
    colour = colour + (f * pair(x, y, 0.28, 0.15, 0.12, 0.035))[:, None] * np.array([-0.045, -0.050, -0.030])
    for mask, tone, strength in ((lip_mask(p), LIP, 0.9), (brow_mask(p), BROW, 0.80)):
        colour = colour + (strength * mask)[:, None] * (tone - colour)
    colour = colour * occlusion(p)[:, None]
    crease = 0.30 * np.exp(-0.5 * ((y - EYE_Y - 0.085) / 0.012) ** 2) * (lens(x) > 0) * np.sqrt(lens(x)) * (p.z > 0)
    colour = colour * (1 - crease)[:, None]
    return colour + (0.85 * lash_mask(p))[:, None] * (np.array([0.10, 0.07, 0.06]) - colour)


def texture_fields() -> dict[str, Callable[[Places], np.ndarray]]:
    """dict of 80 fields, name -> function(Places) -> [N, 3] RGB at one standard deviation."""
    rgb = lambda mask, colour: mask[:, None] * np.asarray(colour)  # noqa: E731
    ones = lambda p: occlusion(p) * (1 - 0.75 * brow_mask(p)) * (1 - 0.85 * lash_mask(p)) * (1 - 0.35 * lip_mask(p))  # noqa: E731
    fields = {
        "skin_tone": lambda p: rgb(ones(p), (0.118, 0.122, 0.116)),
        "skin_warmth": lambda p: rgb(ones(p), (0.015, -0.001, -0.020)),
        "skin_redness": lambda p: rgb(ones(p), (0.020, -0.014, -0.008)),
        "brow_lightness": lambda p: rgb(brow_mask(p), (0.120, 0.090, 0.060)),
        "brow_thickness": lambda p: rgb(
            np.clip(brow_mask(p, thickness=1.75) - brow_mask(p), 0, 1) - 0.25 * brow_mask(p), (-0.17, -0.15, -0.13)
        ),
        "lip_redness": lambda p: rgb(lip_mask(p), (0.035, -0.055, -0.045)),
        "lip_lightness": lambda p: rgb(lip_mask(p), (0.060, 0.045, 0.045)),
        "beard": lambda p: rgb(beard_mask(p) * occlusion(p), (-0.165, -0.130, -0.105)),
        "moustache": lambda p: rgb(moustache_mask(p), (-0.150, -0.120, -0.100)),
        "stubble": lambda p: rgb(np.maximum(beard_mask(p), moustache_mask(p)), (-0.050, -0.032, -0.020)),
        "blush": lambda p: rgb(front(p.z) * pair(p.x, p.y, 0.42, -0.08, 0.13, 0.10), (0.030, -0.038, -0.028)),
        "nose_redness": lambda p: rgb(front(p.z) * gauss(p.x, p.y, 0, -0.04, 0.10, 0.07), (0.022, -0.032, -0.026)),
        "freckles": lambda p: rgb(_freckles(p), (-0.090, -0.080, -0.060)),
        "make_up": lambda p: rgb(
            front(p.z) * pair(p.x, p.y, EYE_X, 0.345, 0.13, 0.035) + 0.5 * lash_mask(p), (-0.085, -0.095, -0.055)
        ),
        "eye_rings": lambda p: rgb(front(p.z) * pair(p.x, p.y, 0.28, 0.165, 0.11, 0.035), (-0.045, -0.042, -0.026)),
        "lid_redness": lambda p: rgb(front(p.z) * pair(p.x, p.y, EYE_X, EYE_Y, 0.15, 0.06), (0.008, -0.016, -0.011)),
        "forehead_light": lambda p: rgb(front(p.z) * gauss(p.x, p.y, 0, 0.70, 0.35, 0.16), (0.030, 0.027, 0.025)),
        "cheek_shade": lambda p: rgb(pair(p.x, p.y, 0.56, -0.20, 0.10, 0.18), (-0.040, -0.036, -0.030)),
        "chin_shade": lambda p: rgb(front(p.z) * gauss(p.x, p.y, 0, -0.55, 0.25, 0.16), (-0.026, -0.021, -0.015)),
        "nose_shade": lambda p: rgb(front(p.z) * pair(p.x, p.y, 0.12, 0.05, 0.05, 0.12), (-0.035, -0.033, -0.028)),
        "brow_gap": lambda p: rgb(front(p.z) * gauss(p.x, p.y, 0, 0.425, 0.07, 0.035), (-0.050, -0.048, -0.042)),
        "folds": lambda p: rgb(_folds(p), (-0.028, -0.028, -0.025)),
        "forehead_lines": lambda p: rgb(_lines(p), (-0.035, -0.036, -0.034)),
    }
    rng = np.random.default_rng(20261)
    tones = np.array([[0.9, 1.0, 0.9], [1.0, -0.5, -0.6], [0.6, 0.2, -1.0]])
    count = TEXTURE_COUNT - len(fields)
    for k in range(count):
        frequency = rng.normal(size=(8, 3)) * (2.5 + 9.0 * k / count)
        phase, symmetric = rng.uniform(0, 2 * np.pi, 8), k % 2 == 0
        tone = tones[0] if k % 3 else tones[1 + k % 2]
        scale = 0.0095 * 0.97**k

        def evaluate(p, frequency=frequency, phase=phase, symmetric=symmetric, tone=tone, scale=scale):
            q = np.stack([np.sqrt(p.x**2 + 0.01) if symmetric else p.x, p.y, 0.6 * p.z], -1)
            wave = np.cos(q @ frequency.T + phase).sum(-1) / 2.0
            return scale * (wave * (0.3 + 0.7 * front(p.z)) * ones(p))[:, None] * tone

        fields[f"smooth_{k:02d}"] = evaluate
    return fields


def _freckles(p: Places):
    rng = np.random.default_rng(7)
    out = np.zeros(len(p.x))
    for _ in range(70):
        cx, cy, size = rng.uniform(-0.48, 0.48), rng.normal(0.0, 0.10), rng.uniform(0.010, 0.016)
        out += gauss(p.x, p.y, cx, cy, size, size)
    return np.clip(out, 0, 1) * front(p.z)


def _folds(p: Places):
    fold = 0.17 + 0.45 * (-0.12 - p.y)
    lines = np.exp(-0.5 * ((np.abs(p.x) - fold) / 0.020) ** 2) * smooth(p.y, -0.08, -0.16) * smooth(p.y, -0.48, -0.36)
    return (lines + 0.6 * pair(p.x, p.y, 0.30, 0.135, 0.10, 0.014)) * front(p.z)


def _lines(p: Places):
    waves = sum(np.exp(-0.5 * ((p.y - c - 0.02 * np.cos(4 * p.x)) / 0.016) ** 2) for c in (0.58, 0.66, 0.74))
    return waves * smooth(np.abs(p.x), 0.42, 0.25) * front(p.z)


TEXTURE_NAMES = tuple(texture_fields())
