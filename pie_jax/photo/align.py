"""The square of a photo that a generator's portraits are framed like: FFHQ's framing, from the eyes and the mouth.

Source: the FFHQ dataset (arXiv 1812.04948, appendix A) for what the framing is.
"""

from __future__ import annotations

import numpy as np

from pie_jax.photo.squares import Square

_EYES, _MOUTH = (slice(36, 42), slice(42, 48)), (48, 54)  # of the 66 landmarks
_BY_EYES, _BY_MOUTH = 2.0, 1.8  # half the side, in distances between the eyes and from the eyes to the mouth
_DOWN = 0.1  # of the middle below the eyes, in distances from the eyes to the mouth


def framing(landmarks: np.ndarray) -> Square:
    """The square of a face by its landmarks [66, 2] in px of the photo.

    Its upper side runs along the eyes and across the line from eyes to mouth; it is as large as either asks for.
    """
    left, right = (landmarks[eye].mean(axis=0) for eye in _EYES)
    mouth = landmarks[list(_MOUTH)].mean(axis=0)
    eyes, across = (left + right) / 2, right - left
    down = mouth - eyes
    level = across + np.array([down[1], -down[0]])  # `down` turned a quarter: both say where right is
    half = max(_BY_EYES * np.hypot(*across), _BY_MOUTH * np.hypot(*down))
    middle = eyes + _DOWN * down
    return Square(x=float(middle[0]), y=float(middle[1]), side=float(2 * half),
                  angle=float(np.arctan2(level[1], level[0])))


def whole(size: tuple[int, int]) -> Square:
    """The largest square about the middle of a photo of this width and height."""
    return Square(x=size[0] / 2, y=size[1] / 2, side=float(min(size)))


def is_framed(square: Square, size: tuple[int, int], *, tolerance: float = 0.08) -> bool:
    """Whether a square photo already has this framing: its corners within `tolerance` of the side."""
    if size[0] != size[1]:
        return False
    return bool(np.abs(square.corners() - whole(size).corners()).max() <= tolerance * size[0])
