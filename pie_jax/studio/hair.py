"""Hair as one sheet of fixed topology in several styles: from the crown along the skull, over its edge, and down.

The last rows of a sheet are tucked inside the head, so that the z-buffer draws a clean hairline.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pie_jax.studio.parts import grid_triangles
from pie_jax.studio.surface import BOTTOM, CENTRE_Y, CROWN, DEPTH_BACK, DEPTH_FRONT, skull, smooth

ROWS, COLUMNS = 22, 56
EAR_Y = -0.02  # below it, falling hair leaves the skull


@dataclasses.dataclass(frozen=True)
class Style:
    """Lengths in model units; the angle round the head is 0 in front, pi at the back."""

    name: str
    top: float = 0.07  # thickness on the crown
    side: float = 0.05
    hairline: float = 0.80  # height of the edge above the middle of the forehead
    corner: float = 0.0  # how much the hairline recedes beside the middle
    sideburn: float = 0.06  # height of the edge before the ear
    nape: float = -0.42
    hang: float | None = None  # height down to which it falls, beside and behind the face
    hang_from: float = 1.0  # angle at which the falling hair begins
    spread: float = 0.0  # how much wider the ends are
    part: float = 0.0  # asymmetry of the top
    curl: float = 0.0  # amplitude of curls
    inside: bool = False  # wholly inside the head: no hair


STYLES = (
    Style("bald", inside=True),
    Style("cropped", top=0.022, side=0.016, hairline=0.815, corner=0.03),
    Style("short", top=0.090, side=0.050, hairline=0.790),
    Style("side_part", top=0.150, side=0.050, hairline=0.780, part=0.55),
    Style("receding", top=0.045, side=0.045, hairline=0.930, corner=0.10),
    Style("bob", top=0.095, side=0.095, hairline=0.780, hang=-0.56, hang_from=0.98, spread=0.05, part=0.15),
    Style("long", top=0.085, side=0.085, hairline=0.800, hang=-1.35, hang_from=1.00, spread=0.09),
    Style("fringe", top=0.095, side=0.095, hairline=0.560, hang=-1.10, hang_from=1.02, spread=0.04),
    Style("curly", top=0.230, side=0.200, hairline=0.770, sideburn=-0.05, nape=-0.55, curl=0.028),
    Style("tied_back", top=0.045, side=0.030, hairline=0.830, sideburn=0.22, nape=-0.25),
)
STYLE_NAMES = tuple(style.name for style in STYLES)


def column_angles() -> np.ndarray:
    """Dense where hairlines are steep."""
    half = np.concatenate([np.linspace(0.0, 0.76, 8), np.linspace(0.83, 1.25, 11), np.linspace(1.33, np.pi, 10)])
    return np.concatenate([-half[::-1], half[1:-1]])  # the back column, pi, occurs once as -pi


def _outward(points):
    x, y, z = points.T
    depth = np.where(z > 0, DEPTH_FRONT, DEPTH_BACK)
    height = np.where(y > CENTRE_Y, CROWN, BOTTOM)
    n = np.stack([x / 0.70**2, (y - CENTRE_Y) / height**2, z / depth**2], -1)
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


def sheet(style: Style) -> tuple[np.ndarray, ...]:
    """The sheet of one style, N = ROWS * COLUMNS vertices row by row, in design space.

    Returns anchors [N, 3] on the skull (where identity fields are evaluated), positions [N, 3], tones [N] (factors of
    the hair's colour), head weights [N] (1 turns with the head) and feet [N, 3], what the hair is thick above.
    """
    angle = column_angles()
    a = np.abs(angle)
    t = np.concatenate([np.linspace(0, 0.80, ROWS - 7), [0.86, 0.91, 0.945, 0.97, 0.985, 0.995, 1.0]])
    line = style.hairline + style.corner * smooth(a, 0.15, 0.6)
    edge = line - 0.05 * a**2 * (a < 1.3) + (style.sideburn + 0.05 * a**2 * (a < 1.3) - line) * smooth(a, 0.55, 1.32)
    edge = edge + (style.nape - style.sideburn) * smooth(a, 1.55, 2.3)
    tt, aa = np.meshgrid(t, angle, indexing="ij")
    y = _arc(tt, np.broadcast_to(edge, tt.shape))
    falling, below = np.zeros_like(tt), np.zeros_like(tt)
    if style.hang is not None:
        falling = np.broadcast_to(smooth(a, style.hang_from - 0.14, style.hang_from + 0.16), tt.shape)
        below = np.clip((tt - 0.60) / 0.40, 0, 1)  # first along the skull to the ear, then straight down
        straight = _arc(np.clip(tt / 0.60, 0, 1), np.full_like(tt, EAR_Y)) + (style.hang - EAR_Y) * below
        y = y + (straight - y) * falling
        edge = edge + (style.hang - edge) * falling[0]
    falling, below, tt, aa, y = (v.ravel() for v in (falling, below, tt, aa, y))
    anchor = skull(aa, np.maximum(y, -0.80 + (EAR_Y + 0.80) * falling))
    normal = _outward(anchor)
    up = smooth(anchor[:, 1], 0.35, 0.95)
    thick = style.side + (style.top - style.side) * up
    thick = thick * (1.0 + style.part * np.tanh(2.0 * np.sin(aa + 0.35)) * up * (np.cos(aa) > -0.5))
    thick = thick * (1 - 0.25 * smooth(np.cos(aa), -0.2, -0.9))
    tuck = smooth(tt, 1.0, 0.84) * (1 - falling) + smooth(tt, 0.999, 0.95) * falling
    offset = -0.06 + (thick + 0.06) * tuck
    if style.curl:
        offset = offset + style.curl * tuck * np.random.default_rng(5).uniform(-1, 1, offset.shape)
    if style.inside:
        offset = np.full_like(offset, -0.12)
    points = anchor + normal * offset[:, None]
    foot = anchor.copy()
    hanging = falling * (below > 0)
    drop = np.clip((EAR_Y - y) / 1.0, 0, 1.5)
    for v in (points, foot):
        v[:, 1] += hanging * (y - v[:, 1])
    points[:, 0] *= 1.0 + hanging * (style.spread * np.sin(np.pi * np.clip(drop, 0, 1)) - 0.16 * smooth(tt, 0.93, 1.0))
    points[:, 2] -= hanging * 0.10 * drop * (points[:, 2] > -0.3)
    rng = np.random.default_rng(11)
    strand = np.convolve(rng.normal(size=COLUMNS + 2), [0.25, 0.5, 0.25], "valid")
    fine = rng.normal(size=ROWS * COLUMNS)
    shine = np.exp(-0.5 * ((tt - 0.34) / 0.12) ** 2)
    tone = (
        0.95
        + 0.17 * strand[None].repeat(ROWS, 0).ravel()
        + 0.03 * fine
        + 0.20 * shine
        - 0.12 * smooth(tt, 0.35, 1.0)
        + (0.16 * fine if style.curl else 0.0)
    )
    head = 1.0 - 0.75 * hanging * smooth(y, -0.45, -1.15)
    return anchor, points, np.clip(tone, 0.45, 1.5), head, foot


def _arc(t, stop):
    """Heights at fractions t of the arc along the skull from the crown to the height `stop`."""
    angle = np.arcsin(np.clip((stop - CENTRE_Y) / np.where(stop > CENTRE_Y, CROWN, BOTTOM), -1, 1))
    phi = 1.50 + (angle - 1.50) * t
    return CENTRE_Y + np.where(phi > 0, CROWN, BOTTOM) * np.sin(phi)


def triangles() -> np.ndarray:
    """[T, 3] of the sheet; the column after the last is the first."""
    return grid_triangles(ROWS, COLUMNS, wrap=True)
