"""Whether a face of a photograph is fit for training a generator: what is measured on it, and the reason to leave it.

Everything is read from the face's 478 points and the pixels of its portrait. What each measure is there to catch:

    face      no face is found: backs, profiles, masks over nose and mouth, faces of some paintings
    side      tiny: the portrait has fewer pixels in the photograph than the generator would paint
    outside   cut off: too much of the portrait lies beyond the photograph's border
    yaw, pitch  strongly turned
    sharpness blurred
    light     too dark
    eyes      sunglasses, a hat or its shadow over the eyes: under both eyes it is darker, or of another colour, than on
              the cheeks; clear glasses pass
    mouth     a mask or a scarf: what lies around the mouth has another colour than the nose's bridge; a beard passes
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pie_jax.photo.detect import Face
from pie_jax.photo.squares import Square

WORKING = 128  # px of the portrait that is measured
_LUMA = (0.299, 0.587, 0.114)
_EYES, _MOUTH, _CHIN, _BRIDGE = (slice(36, 42), slice(42, 48)), slice(48, 66), 8, 28  # of the 66 landmarks
_CORNERS = (48, 54)
_EARS, _TOP_BOTTOM = (234, 454), (10, 152)  # of the 478 points: left and right, top and bottom of the face


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What is left out; set by looking at 1530 portraits (docs/training.md)."""

    side: float = 1.0  # least side of the portrait in the photograph, in px of the generator's image
    outside: float = 0.25  # largest share of the portrait beyond the border
    yaw: float = 38.0  # degrees to either side
    pitch: float = 32.0
    sharpness: float = 0.10  # least
    light: float = 0.15  # least, of the cheeks, 0..1
    eyes: float = 0.42  # largest
    mouth: float = 0.9


def measure(face: Face, square: Square, size: tuple[int, int], portrait: np.ndarray) -> dict[str, float]:
    """The measures of a face. portrait [WORKING, WORKING, 3] in 0..1 of its square; size: the photograph's, in px."""
    points = square.from_photo(face.landmarks) * WORKING
    luma = portrait @ np.asarray(_LUMA, np.float32)
    middles = [points[eye].mean(axis=0) for eye in _EYES]
    apart = float(np.hypot(*(middles[1] - middles[0])))
    cheeks = [0.45 * middle + 0.55 * points[corner] + (side * 0.12 * apart, 0.0)
              for middle, corner, side in zip(middles, _CORNERS, (-1, 1))]
    around = _disc([0.5 * (points[_CHIN] + points[_MOUTH].mean(axis=0)), *(points[c] for c in _CORNERS)], 0.16 * apart)
    skin, nose, low = (portrait[where] for where in (
        _disc(cheeks, 0.16 * apart), _disc([points[_BRIDGE]], 0.1 * apart), around))
    under = [np.abs(_light(portrait, middle + (0.0, 0.27 * apart), apart) - _light(portrait, cheek, apart)).mean()
             for middle, cheek in zip(middles, cheeks)]
    yaw, pitch = _angles(face.points)
    return {"side": square.side, "outside": _outside(square, size), "yaw": yaw, "pitch": pitch,
            "sharpness": _sharpness(luma), "light": float(skin.mean()), "eyes": float(min(under)),
            "mouth": float(np.linalg.norm(_chroma(low) - _chroma(nose))), "score": face.score}


def reason(found: dict[str, float], *, resolution: int, limits: Limits) -> str:
    """Why a face of these measures is left out, in words; "" when it is fit. `resolution`: of the generator."""
    checks = (("too small: side", "side", found["side"] < limits.side * resolution),
              ("cut off: outside", "outside", found["outside"] > limits.outside),
              ("turned: yaw", "yaw", abs(found["yaw"]) > limits.yaw),
              ("turned: pitch", "pitch", abs(found["pitch"]) > limits.pitch),
              ("blurred", "sharpness", found["sharpness"] < limits.sharpness),
              ("dark", "light", found["light"] < limits.light),
              ("mouth covered", "mouth", found["mouth"] > limits.mouth),
              ("eyes covered", "eyes", found["eyes"] > limits.eyes))
    return next((f"{word} {round(found[name], 2):g}" for word, name, wrong in checks if wrong), "")


def _angles(points: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch in degrees by the outline's points [478, 3] of an upright face."""
    across = points[_EARS[1]] - points[_EARS[0]]
    down = points[_TOP_BOTTOM[1]] - points[_TOP_BOTTOM[0]]
    return (float(np.degrees(np.arctan2(across[2], np.hypot(*across[:2])))),
            float(np.degrees(np.arctan2(down[2], np.hypot(*down[:2])))))


def _outside(square: Square, size: tuple[int, int]) -> float:
    grid = (np.arange(32) + 0.5) / 32
    places = square.to_photo(np.stack(np.meshgrid(grid, grid), axis=-1))
    return float(1.0 - np.all((places >= 0) & (places <= size), axis=-1).mean())


def _sharpness(luma: np.ndarray) -> float:
    """Strength of second differences beside the contrast, over the middle of the portrait at half its size."""
    half = luma.reshape(WORKING // 2, 2, WORKING // 2, 2).mean(axis=(1, 3))
    inside = half[WORKING // 8:-WORKING // 8, WORKING // 8:-WORKING // 8]
    second = 4 * inside[1:-1, 1:-1] - inside[:-2, 1:-1] - inside[2:, 1:-1] - inside[1:-1, :-2] - inside[1:-1, 2:]
    return float(second.std() / max(inside.std(), 1e-3) / 4)


def _disc(middles: list[np.ndarray], radius: float) -> np.ndarray:
    """[WORKING, WORKING] bool: pixels within `radius` of one of the middles [2] (px), or the nearest pixels to them."""
    row, column = np.mgrid[:WORKING, :WORKING] + 0.5
    distance = np.min([np.hypot(column - x, row - y) for x, y in middles], axis=0)
    return distance <= max(radius, float(distance.min()))


def _light(portrait: np.ndarray, place: np.ndarray, apart: float) -> np.ndarray:
    """Log of the mean colour [3] about a place (px)."""
    return np.log(np.maximum(portrait[_disc([place], 0.12 * apart)].mean(axis=0), 0.02))


def _chroma(colours: np.ndarray) -> np.ndarray:
    """Median of log(red / green) and log(green / blue) of colours [N, 3] in 0..1."""
    light = np.log(np.maximum(colours, 0.03))
    return np.median(light[:, :2] - light[:, 1:], axis=0)
