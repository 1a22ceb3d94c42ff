"""How hair, ears and the skull below them move in the portrait when a head does: without any mesh of their own.

The skull is a dome of the face model's proportions. At the pose half-way between the two it stands on the plane through
its middle that faces the camera. So the outline of the turned head comes from the photo's outline, and what lies before
the plane moves by its own depth.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.face3d import geometry
from pie_jax.face3d.morphable import FaceParams, normalise
from pie_jax.face3d.render import project
from pie_jax.photo.maps import centres

_MIDDLE, _HALF = (0.0, 0.35, -0.8), (0.8, 1.05, 0.9)  # model units
_FLAT = 0.1  # how much flatter than a ball the dome runs out along its outline
_ROUNDS = 4  # of search for where a line of sight meets the dome
_OVER = (0.35, 0.1)  # model units: the height above which the head is skull and hair alone, and how softly
_HEAD = (1.9, 2.1, 1.15)  # of the head with its hair about the face's middle: half widths, up, down, in the face's own


def head_motion(face_px: Array, source: FaceParams, target: FaceParams, camera: CameraConfig, *,
                resolution: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How the head moves from `source` to `target`, FaceParams [n], on a map of R = `resolution` px half-way.

    face_px [V, 2]: where the face's mesh is, half-way.

    Returns: the displacement [2, R, R], px, x and y: half of it leads from each place to the source, half of it,
    backward, to the target; where the head is, [R, R] 0..1; where it is the skull above the face, [R, R] 0..1.
    """
    x, y = centres(resolution)
    places = jnp.stack(jnp.broadcast_arrays(x, y), axis=-1).reshape(-1, 2)
    middle = jax.tree.map(lambda a, b: (a + b) / 2, source, target)
    points = _points(places, middle, camera, resolution)
    there, here = (project(points, params, camera, resolution=resolution)[:, :2] for params in (source, target))
    over = jax.nn.sigmoid((points[:, 1] - _OVER[0]) / _OVER[1]).reshape(resolution, resolution)
    low, high = face_px.min(axis=0), face_px.max(axis=0)
    centre, half = (low + high) / 2, (high - low) / 2
    x, y = (x - centre[0]) / half[0], (y - centre[1]) / half[1]
    radius = jnp.sqrt((x / _HEAD[0]) ** 2 + jnp.where(y < 0, y / _HEAD[1], y / _HEAD[2]) ** 2)
    return (there - here).T.reshape(2, resolution, resolution), 1 - jax.nn.sigmoid((radius - 1.0) * 10.0), over


def _points(places, params: FaceParams, camera: CameraConfig, resolution: int):
    """Where the lines of sight through `places` [N, 2] px meet the skull of a head at `params`: [N, 3] model units.

    Beyond the skull's outline: where they meet its plane.
    """
    middle, half = jnp.asarray(_MIDDLE), jnp.asarray(_HALF)
    eye = geometry.camera_from_model(params.rotation, params.translation, camera)
    facing = normalise(eye - middle)
    line = geometry.lines_of_sight(places, camera, resolution=resolution) @ geometry.rotation_matrix(params.rotation)
    along, deep = line @ facing, 1.0 / jnp.linalg.norm(facing / half)
    height = jnp.zeros(len(places))
    for _ in range(_ROUNDS):
        points = eye[None] + (((middle - eye) @ facing + height) / along)[:, None] * line
        foot = points - height[:, None] * facing[None]
        inside = jnp.maximum(1.0 - jnp.square((foot - middle[None]) / half[None]).sum(axis=-1), 0.0)  # 1 in the middle
        height = deep * inside / jnp.sqrt(inside + _FLAT)
    return eye[None] + (((middle - eye) @ facing + height) / along)[:, None] * line
