"""The 66 landmark vertices of the head: iBUG-68 without the two inner mouth corners (0-based 60 and 64)."""

from __future__ import annotations

import numpy as np

from pie_jax.studio.surface import EYE_X, MOUTH_HALF_WIDTH, MOUTH_Y, HeadSkin


def landmark_vertices(skin: HeadSkin) -> np.ndarray:
    """[66] indices into the skin's vertices, in iBUG order, image left to right."""
    p = skin.places.closed
    facing = np.flatnonzero(p[:, 2] > 0)

    def nearest(x, y):
        return facing[np.argmin((p[facing, 0] - x) ** 2 + (p[facing, 1] - y) ** 2)]

    def along(vertices, xs):
        return [vertices[np.argmin(np.abs(p[vertices, 0] - x))] for x in xs]

    out = []
    # jaw 0-16: from ear to ear along the outline, on the columns of the outermost visible skin
    heights = np.array([0.22, 0.06, -0.10, -0.26, -0.42, -0.57, -0.71, -0.81, -0.855])
    angles = np.array([1.45, 1.45, 1.43, 1.38, 1.28, 1.10, 0.80, 0.40, 0.0])

    def outline(sign, height, angle):
        return np.argmin((skin.columns - sign * angle) ** 2 + (1.5 * (skin.rows - height)) ** 2)

    left = [outline(-1, h, a) for h, a in zip(heights, angles)]
    right = [outline(1, h, a) for h, a in zip(heights[:-1], angles[:-1])]
    out += left + right[::-1]
    brow = [(0.465, 0.435), (0.395, 0.475), (0.31, 0.485), (0.22, 0.465), (0.14, 0.425)]
    out += [nearest(-x, y) for x, y in brow] + [nearest(x, y) for x, y in brow[::-1]]  # 17-26
    out += [nearest(0, y) for y in (0.235, 0.14, 0.045, -0.055)]  # 27-30
    out += [nearest(x, -0.125) for x in (-0.095, -0.05, 0.0, 0.05, 0.095)]  # 31-35
    third = 0.055
    for side in (0, 1):  # 36-41, 42-47: left corner, upper two, right corner, lower right, lower left
        upper, lower = skin.lids_upper[side], skin.lids_lower[side]
        centre = -EYE_X if side == 0 else EYE_X
        out += [upper[0], *along(upper, (centre - third, centre + third)), upper[-1]]
        out += along(lower, (centre + third, centre - third))
    w, upper, lower = MOUTH_HALF_WIDTH, skin.mouth_upper, skin.mouth_lower
    out += [upper[0]]  # 48
    out += [
        nearest(x, y)
        for x, y in (
            (-0.14, MOUTH_Y + 0.040),
            (-0.045, MOUTH_Y + 0.057),
            (0, MOUTH_Y + 0.046),
            (0.045, MOUTH_Y + 0.057),
            (0.14, MOUTH_Y + 0.040),
        )
    ]
    out += [upper[-1]]  # 54
    out += [
        nearest(x, y)
        for x, y in (
            (0.13, MOUTH_Y - 0.060),
            (0.06, MOUTH_Y - 0.076),
            (0, MOUTH_Y - 0.080),
            (-0.06, MOUTH_Y - 0.076),
            (-0.13, MOUTH_Y - 0.060),
        )
    ]  # 55-59
    out += along(upper, (-w / 3, 0.0, w / 3)) + along(lower, (w / 3, 0.0, -w / 3))  # 61-63, 65-67
    return np.asarray(out, np.int64)
