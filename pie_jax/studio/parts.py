"""What a portrait shows beside skin: eyeballs, mouth, teeth, ears, neck and clothes, as small meshes.

Each part is a `Part` in design space (see `surface.py`). `weights` says which scene colour tints a vertex:
albedo = base + eye * eye_colour + hair * hair_colour + cloth * cloth_colour (+ the skin's texture modes).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from pie_jax.studio.surface import (
    EYE_Y,
    EYEBALL_RADIUS,
    MOUTH_Y,
    HeadSkin,
    Places,
    eyeball_centres,
    relief,
    skull,
    smooth,
)

if TYPE_CHECKING:
    from pie_jax.arrays import Array

SEGMENTS = ("background", "face", "ear", "scalp", "neck", "eye", "mouth", "teeth", "hair", "cloth")
EYE, HAIR, CLOTH = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Part:
    """One mesh of the scene; N vertices, T triangles wound anticlockwise seen from outside."""

    segment: int
    places: Places  # [N] where fields are evaluated
    vertices: np.ndarray  # [N, 3] mean position
    triangles: np.ndarray  # [T, 3] int32
    base: np.ndarray  # [N, 3] RGB
    weights: np.ndarray  # [N, 3] of eye, hair and cloth colour
    skin: float = 0.0  # 1: takes the texture modes of skin
    head: np.ndarray | float = 1.0  # [N] 1 turns with the head, 0 stays with the body
    identity: float = 1.0
    expression: float = 1.0
    gaze: int = 0  # 1, 2: turns with the eyeball on the image's left, right; -1, -2: its glint
    two_sided: bool = False
    bone: Places | None = None  # [N] where expressions are evaluated, of which only the jaw's count (teeth)


def places_at(points: Array, *, mouth_side: Array | None = None, eye_side: Array | None = None) -> Places:
    points = np.asarray(points, float)
    n = len(points)
    mouth = np.where(points[:, 1] > MOUTH_Y, 1.0, -1.0) if mouth_side is None else mouth_side
    eye = np.where(points[:, 1] > EYE_Y, 1.0, -1.0) if eye_side is None else eye_side
    return Places(
        position=points,
        closed=points,
        mouth_side=np.broadcast_to(mouth, n).astype(float),
        eye_side=np.broadcast_to(eye, n).astype(float),
    )


def grid_triangles(rows: int, columns: int, *, wrap: bool = False, offset: int = 0, flip: bool = False) -> np.ndarray:
    """Two triangles a cell of a rows x columns grid of vertices."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if wrap else columns - 1), indexing="ij")
    k = (j + 1) % columns
    a, b, c, d = i * columns + j, i * columns + k, (i + 1) * columns + j, (i + 1) * columns + k
    triangles = (
        np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]) + offset
    )
    return (triangles[:, ::-1] if flip else triangles).astype(np.int32)


def eyeballs() -> list[Part]:
    """Two caps of white, iris and pupil, and two glints."""
    rings = np.array([0.0, 0.016, 0.026, 0.030, 0.046, 0.058, 0.068, 0.084, 0.105, 0.132, 0.165])
    segments = 18
    angle = np.arange(segments) * 2 * np.pi / segments
    local = [np.array([0.0, 0.0, EYEBALL_RADIUS])]
    radius = [0.0]
    for r in rings[1:]:
        for a in angle:
            local.append(np.array([r * np.cos(a), r * np.sin(a), np.sqrt(EYEBALL_RADIUS**2 - r * r)]))
            radius.append(r)
    local, radius = np.array(local), np.array(radius)
    triangles = [(0, 1 + s, 1 + (s + 1) % segments) for s in range(segments)]
    ring = grid_triangles(len(rings) - 1, segments, wrap=True, offset=1)
    triangles = np.concatenate([np.array(triangles), ring]).astype(np.int32)
    base, weights = np.zeros((len(local), 3)), np.zeros((len(local), 3))
    iris = (radius > 0.028) & (radius < 0.064)
    white = radius >= 0.064
    base[radius <= 0.028] = 0.03
    weights[iris, EYE] = np.where(radius[iris] > 0.05, 0.62, 1.05)
    fade = smooth(radius[white], 0.155, 0.075)[:, None]
    base[white] = np.array([0.60, 0.50, 0.47]) + fade * (np.array([0.90, 0.88, 0.86]) - np.array([0.60, 0.50, 0.47]))
    shade = 1.0 - 0.38 * smooth(local[:, 1], 0.015, 0.060)  # the upper lid's shadow
    parts = []
    for n, centre in enumerate(eyeball_centres()):
        vertices = centre + local
        pole = np.broadcast_to(centre + np.array([0, 0, EYEBALL_RADIUS - 0.006]), vertices.shape)
        common = {"places": places_at(pole), "expression": 0.0, "segment": SEGMENTS.index("eye")}
        parts.append(
            Part(
                vertices=vertices,
                triangles=triangles,
                base=base * shade[:, None],
                weights=weights * shade[:, None],
                gaze=n + 1,
                **common,
            )
        )
        spot = np.array([[0, 0, 0]] + [[np.cos(a), np.sin(a), -0.02] for a in np.arange(6) * np.pi / 3]) * 0.0135
        spot = spot + np.array([-0.020, 0.022, np.sqrt(EYEBALL_RADIUS**2 - 0.03**2) + 0.004]) + centre
        fan = np.array([(0, 1 + s, 1 + (s + 1) % 6) for s in range(6)], np.int32)
        glint = {**common, "places": places_at(pole[:7])}
        parts.append(
            Part(
                vertices=spot, triangles=fan, base=np.full((7, 3), 1.15), weights=np.zeros((7, 3)), gaze=-n - 1, **glint
            )
        )
    return parts


def mouth(skin: HeadSkin) -> list[Part]:
    """The bag behind the lips, both rows of teeth and the tongue."""
    upper, lower = skin.mouth_upper, skin.mouth_lower
    p, sides = skin.places.position, np.linspace(1.0, -1.0, 9)
    depth = np.array([0.0, 0.03, 0.10, 0.22, 0.30, 0.22, 0.10, 0.03, 0.0])
    height = np.array([0.0, 0.012, 0.02, 0.01, 0.0, -0.01, -0.02, -0.012, 0.0])
    rows = []
    for k, side in enumerate(sides):
        edge = p[upper] if side > 0 else p[lower]
        pouch = np.sqrt(np.clip(1.0 - (edge[:, 0] / np.abs(edge[:, 0]).max()) ** 2, 0.0, 1.0))
        rows.append(
            np.stack(
                [edge[:, 0] * (1.0 - 0.10 * depth[k]), edge[:, 1] + height[k] * pouch, edge[:, 2] - depth[k] * pouch],
                -1,
            )
        )
    points = np.concatenate(rows)
    columns = len(upper)
    side = np.repeat(sides, columns)
    dark = np.clip(1.0 - depth / 0.24, 0.0, 1.0)
    base = np.repeat(0.10 + dark, columns)[:, None] * np.array([0.34, 0.13, 0.12]) * 0.75
    bag = Part(
        segment=SEGMENTS.index("mouth"),
        places=places_at(points, mouth_side=side),
        vertices=points,
        triangles=grid_triangles(9, columns),
        base=base,
        weights=np.zeros((len(points), 3)),
        two_sided=True,
    )
    parts = [bag]
    x = np.linspace(-0.185, 0.185, 15)
    for sign, top, bottom in ((1.0, -0.270, -0.350), (-1.0, -0.330, -0.400)):
        ys = np.linspace(top, bottom, 4)
        gx, gy = np.meshgrid(x * (1.0 if sign > 0 else 0.9), ys)
        lip_z = skull(np.array([0.0]), np.array([MOUTH_Y]))[0, 2] + relief(np.array([0.0]), np.array([MOUTH_Y]))[0]
        gz = lip_z - 0.035 - 3.6 * gx**2 - (0.012 if sign < 0 else 0.0)
        points = np.stack([gx, gy, gz], -1).reshape(-1, 3)
        shade = 1.0 - 0.75 * smooth(np.abs(points[:, :1]), 0.06, 0.18)
        gum = np.clip((sign * (points[:, 1:2] - MOUTH_Y) - 0.030) / 0.02, 0, 1)
        tooth = np.array([0.93, 0.90, 0.84])
        base = (tooth + gum * (np.array([0.62, 0.33, 0.31]) - tooth)) * shade * (0.97 if sign > 0 else 0.80)
        at = points * np.array([0.0, 1.0, 1.0])  # bone: the weight of the jaw is that of the middle
        at[:, 1] = MOUTH_Y
        parts.append(
            Part(
                segment=SEGMENTS.index("teeth"),
                places=places_at(points, mouth_side=sign),
                vertices=points,
                bone=places_at(at, mouth_side=sign),
                triangles=grid_triangles(4, 15),
                base=base,
                weights=np.zeros((len(points), 3)),
                two_sided=True,
            )
        )
    return parts


def ears() -> list[Part]:
    """Two shells with a rim and a hollow."""
    rings, segments = np.array([0.0, 0.35, 0.62, 0.80, 0.93, 1.0, 0.96]), 14
    lift = np.array([0.012, 0.010, 0.028, 0.066, 0.074, 0.050, 0.0])
    shade = np.array([0.55, 0.60, 0.75, 0.95, 1.0, 0.95, 0.65])
    angle = np.arange(segments) * 2 * np.pi / segments
    parts = []
    for sign in (-1.0, 1.0):
        points, tones = [], []
        for r, h, t in zip(rings, lift, shade):
            for a in angle:
                u, v = r * np.cos(a), r * np.sin(a)  # u backwards, v up
                v_scale = 0.225 if v > 0 else 0.20
                u_scale = 0.125 * (1.0 + 0.28 * v)
                back = 0.5 + 0.5 * u
                points.append(
                    [
                        sign * (0.668 + 0.5 * h + 0.085 * back),
                        0.085 + v_scale * v + 0.02 * u,
                        -0.09 - u_scale * u + h * 0.8 * back,
                    ]
                )
                tones.append(t)
        points, tones = np.array(points), np.array(tones)
        base = tones[:, None] * np.array([0.735, 0.515, 0.425])
        parts.append(
            Part(
                segment=SEGMENTS.index("ear"),
                places=places_at(points),
                vertices=points,
                skin=1.0,
                triangles=grid_triangles(len(rings), segments, wrap=True, flip=sign < 0),
                base=base,
                weights=np.zeros((len(points), 3)),
                expression=0.0,
            )
        )
    return parts


def body() -> list[Part]:
    """Neck, shoulders and a garment with a round neckline."""
    columns = 36
    angle = -np.pi + np.arange(columns) * 2 * np.pi / columns
    ys = np.array([-0.48, -0.62, -0.74, -0.84, -0.92, -1.00, -1.08, -1.18])
    points = []
    for y in ys:
        flare = 0.05 * smooth(y, -0.62, -0.45) + 0.16 * smooth(y, -0.95, -1.22)
        forward = -0.20 - 0.16 * smooth(y, -0.5, -1.1)
        for a in angle:
            throat = 0.035 * np.exp(-0.5 * (a / 0.25) ** 2) * np.exp(-0.5 * ((y + 0.86) / 0.06) ** 2)
            points.append([(0.395 + flare) * np.sin(a), y, forward + (0.40 + 0.5 * flare) * np.cos(a) + throat])
    points = np.array(points)
    occluded = 1.0 - 0.42 * smooth(points[:, 1], -1.12, -0.80) - 0.10 * smooth(points[:, 2], 0.0, -0.3)
    base = occluded[:, None] * np.array([0.70, 0.515, 0.42])
    neck = Part(
        segment=SEGMENTS.index("neck"),
        places=places_at(points),
        vertices=points,
        skin=1.0,
        triangles=grid_triangles(len(ys), columns, wrap=True),
        base=base,
        weights=np.zeros((len(points), 3)),
        head=smooth(points[:, 1], -1.12, -0.55),
        expression=0.35,
    )
    steps = np.array([0.0, 0.03, 0.09, 0.18, 0.30, 0.44, 0.60, 0.80, 1.0])
    points, tones = [], []
    for k, t in enumerate(steps):
        for a in angle:
            s, c = np.sin(a), np.cos(a)
            width = (0.49 if k else 0.37) + 1.05 * t**0.85 * np.abs(s) ** 0.6
            depth = (0.44 if k else 0.34) + (0.22 if c > 0 else 0.15) * np.sqrt(t)
            collar = -0.985 - 0.085 * max(c, 0.0) ** 2
            drop = 0.95 * t * (1 - 0.68 * np.abs(s) ** 1.5) + 0.13 * t**2.2
            points.append([width * s, collar - drop + (0.012 if k == 1 else 0.0), -0.36 + depth * c])
            tones.append(0.55 if k == 0 else 1.0 - 0.12 * (k == 2))
    points, tones = np.array(points), np.array(tones)
    weights = np.zeros((len(points), 3))
    weights[:, CLOTH] = tones
    cloth = Part(
        segment=SEGMENTS.index("cloth"),
        places=places_at(points),
        vertices=points,
        triangles=grid_triangles(len(steps), columns, wrap=True),
        base=np.zeros((len(points), 3)),
        weights=weights,
        head=0.0,
        identity=0.0,
        expression=0.0,
    )
    return [neck, cloth]
