"""The mean head as a numpy surface: where every vertex of skin sits, and where eyes and mouth are cut.

Design space: x right in the image, y up, z towards the camera, origin in the middle of the head; the
unit is that of the morphable model (a face is about 1.4 wide). All functions are closed forms of a
vertex's place, so parts that are not skin (eyes, teeth, hair) use the same ones and stay attached.
Our own design; no scanned data.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass

EYE_X, EYE_Y = 0.310, 0.270  # centre of the eye slit, mirrored
EYE_HALF_WIDTH = 0.150
LID_UPPER, LID_LOWER = 0.060, 0.034  # how far the open lids are from the slit
EYEBALL_RADIUS = 0.190
MOUTH_Y, MOUTH_HALF_WIDTH = -0.315, 0.240
HINGE = (0.0, 0.02, -0.05)  # jaw joint
CENTRE_Y = 0.13  # of the skull
CROWN, BOTTOM = 1.06, 1.06  # heights above and below it
DEPTH_FRONT, DEPTH_BACK = 0.84, 0.92


@dataclasses.dataclass(frozen=True)
class Places:
    """Where vertices are and which side of a cut they belong to (all functions of the head take this)."""

    position: np.ndarray  # [N, 3] mean position, design space
    mouth_side: np.ndarray  # [N] +1 upper lip and above, -1 lower, graded inside the mouth
    eye_side: np.ndarray  # [N] +1 upper lid and above, -1 below
    closed: np.ndarray  # [N, 3] position with lids closed (equal to `position` away from the eyes)

    @property
    def x(self) -> np.ndarray:
        return self.closed[:, 0]

    @property
    def y(self) -> np.ndarray:
        return self.closed[:, 1]

    @property
    def z(self) -> np.ndarray:
        return self.closed[:, 2]


def gauss(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - cx) / sx) ** 2 - 0.5 * ((y - cy) / sy) ** 2)


def pair(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """The same Gaussian on both sides of the face."""
    return gauss(np.abs(x), y, cx, cy, sx, sy)


def smooth(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Smooth step from 0 at low to 1 at high (low may be the larger)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def front(z: np.ndarray) -> np.ndarray:
    """1 on the face, 0 behind the ears."""
    return smooth(z, -0.05, 0.35)


def proportions(points: np.ndarray) -> np.ndarray:
    """Design space to the mean head's proportions: a longer upper lip, a shorter chin. Changes only y."""
    y = points[..., 1]
    y = y - 0.040 * smooth(y, 0.08, -0.34) + 0.130 * smooth(y, -0.38, -0.98) + 0.05 * smooth(y, 0.5, 1.2)
    return np.stack([points[..., 0], y, points[..., 2]], -1)


def nose_profile(y: np.ndarray) -> np.ndarray:
    """Height of the nose above the face along its ridge."""
    ridge = 0.255 * np.clip((0.275 - y) / 0.335, 0.0, 1.0) ** 1.15
    under = 0.255 * (0.5 + 0.5 * np.cos(np.pi * np.clip((-0.060 - y) / 0.085, 0.0, 1.0)))
    return np.where(y > -0.060, ridge, under)


def skull(direction: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points of the featureless head: direction [N] is the angle round the head (0 front), y [N] the height."""
    up = y >= CENTRE_Y
    u = np.clip(np.abs(y - CENTRE_Y) / np.where(up, CROWN, BOTTOM), 0.0, 1.0)
    power = np.where(up, 2.35, 2.75)
    radius = np.maximum(1.0 - u**power, 0.0) ** (1.0 / power)
    s, c = np.sin(direction), np.cos(direction)
    down = smooth(y, 0.15, -0.85)
    bend = 2.0 / (2.25 - 0.12 * down)
    width = 0.705 * (1.0 - 0.155 * down + 0.02 * np.exp(-0.5 * ((y - 0.05) / 0.2) ** 2))
    x = width * radius * np.sign(s) * np.abs(s) ** bend
    depth = np.where(c > 0, DEPTH_FRONT, DEPTH_BACK * (1.0 - 0.35 * smooth(y, -0.1, -0.8)))
    z = depth * radius * np.sign(c) * np.abs(c) ** bend
    z = z + np.where(c > 0, c, 0.0) * (0.10 * smooth(y, -0.35, -0.80) - 0.05 * smooth(y, 0.55, 1.0) * radius)
    return np.stack([x, y, z], -1)


def relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Features of the mean face: displacement along z in frontal coordinates (without eyeballs)."""
    ax = np.abs(x)
    width = 0.052 + 0.030 * smooth(y, 0.15, -0.08)
    d = nose_profile(y) * np.exp(-0.5 * (np.maximum(ax - 0.012, 0) / width) ** 2)
    d += 0.085 * pair(x, y, 0.098, -0.072, 0.040, 0.042)
    d += 0.020 * pair(x, y, 0.30, 0.430, 0.17, 0.050) + 0.020 * gauss(x, y, 0, 0.43, 0.08, 0.07)
    d -= 0.075 * pair(x, y, 0.285, 0.265, 0.115, 0.085) + 0.035 * pair(x, y, 0.15, 0.25, 0.05, 0.10)
    d += 0.045 * pair(x, y, 0.44, 0.02, 0.15, 0.12)
    d += 0.055 * gauss(x, y, 0, -0.30, 0.20, 0.15)
    bow = 0.012 * np.exp(-0.5 * (ax / 0.035) ** 2)
    lip_fade = smooth(ax, 0.27, 0.14)
    d += 0.048 * lip_fade * np.exp(-0.5 * ((y + 0.272 + bow) / 0.026) ** 2)
    d += 0.052 * lip_fade * smooth(ax, 0.25, 0.10) * np.exp(-0.5 * ((y + 0.372) / 0.034) ** 2)
    d -= 0.030 * lip_fade * np.exp(-0.5 * ((y - MOUTH_Y) / 0.013) ** 2)
    d -= 0.018 * pair(x, y, 0.25, MOUTH_Y, 0.035, 0.03)
    d -= 0.012 * gauss(x, y, 0, -0.19, 0.025, 0.04)
    d -= 0.035 * gauss(x, y, 0, -0.46, 0.16, 0.035)
    d += 0.070 * gauss(x, y, 0, -0.68, 0.15, 0.12)
    fold = 0.17 + 0.45 * (-0.12 - y)
    d -= 0.014 * np.exp(-0.5 * ((ax - fold) / 0.028) ** 2) * smooth(y, -0.06, -0.14) * smooth(y, -0.46, -0.34)
    d -= 0.03 * pair(x, y, 0.62, 0.45, 0.10, 0.20)
    return d


def eyeball_centres() -> np.ndarray:
    """[2, 3] centres of the eyeballs (image left, image right)."""
    base = skull(np.array([0.42]), np.array([EYE_Y]))
    z = np.interp(0.0, [0, 1], [base[0, 2], 0]) - 0.052 - EYEBALL_RADIUS
    return np.array([[-EYE_X, EYE_Y, z], [EYE_X, EYE_Y, z]])


def lid_opening(x: np.ndarray, y: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Displacement in y from the closed to the open lid."""
    s = (np.abs(x) - EYE_X) / EYE_HALF_WIDTH
    upper = np.maximum(1.0 - np.abs(s + 0.10) ** 2.2 / (1.0 + 0.10 * np.sign(s + 0.1)) ** 2.2, 0.0) * (np.abs(s) < 1)
    lower = np.maximum(1.0 - np.abs(s - 0.05) ** 2.4 / (1.0 - 0.05 * np.sign(s - 0.05)) ** 2.4, 0.0) * (np.abs(s) < 1)
    dy = np.abs(y - EYE_Y)
    rise = LID_UPPER * upper * np.clip(1.0 - dy / 0.13, 0, 1) ** 1.4
    fall = LID_LOWER * lower * np.clip(1.0 - dy / 0.11, 0, 1) ** 1.5
    return np.where(side > 0, rise, -fall)


def lens(x: np.ndarray) -> np.ndarray:
    """1 in the middle of an eye, 0 from its corners on."""
    s = (np.abs(x) - EYE_X) / EYE_HALF_WIDTH
    return np.maximum(1.0 - s * s, 0.0)


def on_face(base: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Skull points moved by dy and given the relief; lids rest on the eyeballs."""
    x, y = base[:, 0], base[:, 1] + dy
    z = base[:, 2] + front(base[:, 2]) * relief(x, y)
    centres = eyeball_centres()
    d2 = (np.abs(x) - EYE_X) ** 2 + (y - EYE_Y) ** 2
    radius = EYEBALL_RADIUS + 0.020
    ball = centres[0, 2] + np.sqrt(np.maximum(radius**2 - d2, 0.0))
    near = smooth(np.sqrt(d2), 0.19, 0.13)
    soft = 0.5 * (z + ball + np.sqrt((z - ball) ** 2 + 4e-4))  # a smooth maximum
    z = np.where(base[:, 2] > 0, z + near * (soft - z), z)
    return np.stack([x, y, z], -1)


def rows_y() -> np.ndarray:
    """Heights of the grid rows, crown to under the chin; the slit rows occur once here."""
    top = CENTRE_Y + CROWN * np.sin(np.linspace(np.pi / 2 * 0.97, np.arcsin((0.56 - CENTRE_Y) / CROWN), 10)[:-1])
    brow = np.linspace(0.56, 0.43, 5)[:-1]
    eye = EYE_Y + np.array(
        [0.160, 0.130, 0.102, 0.077, 0.054, 0.034, 0.016, 0.0, -0.014, -0.030, -0.049, -0.072, -0.10, -0.13]
    )
    nose = np.linspace(EYE_Y - 0.165, -0.155, 12)
    mouth = MOUTH_Y + np.array(
        [0.130, 0.105, 0.082, 0.062, 0.044, 0.028, 0.013, 0.0, -0.013, -0.028, -0.045, -0.064, -0.086, -0.11, -0.14]
    )
    chin = np.linspace(MOUTH_Y - 0.18, -0.80, 9)
    below = CENTRE_Y - BOTTOM * np.array([0.905, 0.935, 0.962, 0.983, 0.996])
    return np.concatenate([top, brow, eye, nose, mouth, chin, below])


def columns_angle() -> np.ndarray:
    """Angles of the grid columns round the head, from the back over image left to image right."""
    half = np.concatenate([np.linspace(0.0, 0.88, 23), [0.925, 0.96]])
    bend = 2.0 / 2.25
    angles = np.arcsin(half ** (1.0 / bend))
    back = np.linspace(angles[-1], np.pi, 13)[1:-1]
    right = np.concatenate([angles, back])
    return np.concatenate([-right[::-1], right[1:], [np.pi]])


@dataclasses.dataclass(frozen=True)
class HeadSkin:
    """The skin of the whole head as a grid with three cuts."""

    places: Places
    triangles: np.ndarray  # [T, 3]
    rows: np.ndarray  # [N] height of the vertex's row
    columns: np.ndarray  # [N] angle of the vertex's column
    mouth_upper: np.ndarray  # vertices of the upper edge of the mouth slit, image left to right
    mouth_lower: np.ndarray
    lids_upper: tuple[np.ndarray, np.ndarray]  # (image left eye, image right eye), left to right
    lids_lower: tuple[np.ndarray, np.ndarray]


def build_skin() -> HeadSkin:
    """The grid of skin: `rows_y` x `columns_angle`, cut open along both lids and the lips."""
    y, angle = rows_y(), columns_angle()
    rows, columns = len(y), len(angle)
    angles, heights = np.meshgrid(angle, y)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, h = angles.ravel(), heights.ravel()
    base = skull(a, h)
    mouth_side = np.where(h > MOUTH_Y - 1e-6, 1.0, -1.0)
    eye_side = np.where(h > EYE_Y - 1e-6, 1.0, -1.0)
    below = index.copy()  # the index a row's vertex has for the triangles under it
    extra = []

    def cut(row, inside, which):
        for j in np.flatnonzero(inside):
            below[row, j] = rows * columns + len(extra)
            extra.append((index[row, j], which))

    eye_row, mouth_row = int(np.argmin(np.abs(y - EYE_Y))), int(np.argmin(np.abs(y - MOUTH_Y)))
    x_eye, x_mouth = base[index[eye_row], 0], base[index[mouth_row], 0]
    facing = np.cos(angle) > 0
    inside_eye = facing & (np.abs(np.abs(x_eye) - EYE_X) < EYE_HALF_WIDTH)
    inside_mouth = facing & (np.abs(x_mouth) < MOUTH_HALF_WIDTH)
    cut(eye_row, inside_eye, "eye")
    cut(mouth_row, inside_mouth, "mouth")
    source = np.concatenate([np.arange(rows * columns), [i for i, _ in extra]]).astype(int)
    base, a, h = base[source], a[source], h[source]
    mouth_side, eye_side = mouth_side[source], eye_side[source]
    for n, (_, which) in enumerate(extra):
        (mouth_side if which == "mouth" else eye_side)[rows * columns + n] = -1.0
    closed = on_face(base, np.zeros(len(base)))
    opened = on_face(base, lid_opening(base[:, 0], base[:, 1], eye_side) * (base[:, 2] > 0))
    quads = []
    for i in range(rows - 1):
        for j in range(columns):
            k = (j + 1) % columns
            quads.append((below[i, j], below[i, k], index[i + 1, j], index[i + 1, k], angle[j] < 0))
    triangles = []
    for p, q, r, s, left in quads:  # diagonals mirror, so that the surface is symmetric
        triangles += [(p, r, q), (q, r, s)] if left else [(p, r, s), (p, s, q)]
    eye_columns = np.flatnonzero(inside_eye)
    halves = [eye_columns[x_eye[eye_columns] < 0], eye_columns[x_eye[eye_columns] > 0]]
    wider = [np.arange(c[0] - 1, c[-1] + 2) for c in halves]
    mouth_columns = np.flatnonzero(inside_mouth)
    mouth_wide = np.arange(mouth_columns[0] - 1, mouth_columns[-1] + 2)
    return HeadSkin(
        places=Places(position=opened, mouth_side=mouth_side, eye_side=eye_side, closed=closed),
        triangles=np.asarray(triangles, np.int32),
        rows=h,
        columns=a,
        mouth_upper=index[mouth_row, mouth_wide],
        mouth_lower=below[mouth_row, mouth_wide],
        lids_upper=tuple(index[eye_row, c] for c in wider),
        lids_lower=tuple(below[eye_row, c] for c in wider),
    )
