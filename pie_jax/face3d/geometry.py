"""Rotations, rigid motion and the pinhole camera of the face crop.

Spaces. *model*: x right in the image for a frontal face, y up, z towards the camera. *world*: model
after rotation and translation, same axes. *cam*: world x and y, depth `distance - z`, positive in front
of the camera. *crop*: 0..1 in the face crop, y down. *px*: pixels of the portrait, y down, the centre of
the first pixel at 0.5. Angles are radians. Every function takes any leading dimensions and is smooth
at zero angles.

Source: sicxu/Deep3DFaceRecon_pytorch models/bfm.py, arXiv 1903.08527 (R = Rz Ry Rx on row vectors `v R^T + t`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import CameraConfig

MIN_DEPTH = 1e-3  # of a camera distance: nearer points (and those behind) project as if they were this far


def rotation_matrix(rotation: Array) -> jax.Array:
    """R = Rz Ry Rx [..., 3, 3] of `rotation` [..., 3] radians: x pitch, y yaw, z roll.

    It acts on columns (`R @ v`); row vectors use its transpose. Positive yaw turns +z towards +x
    (the face looks to the image's right), positive pitch turns +y towards +z (the face looks down),
    positive roll turns +x towards +y (anticlockwise in the image).
    ValueError: the last axis is not 3.
    """
    check_shape("rotation", rotation, (3,))
    rotation = jnp.asarray(rotation)
    cx, cy, cz = (jnp.cos(rotation[..., i]) for i in range(3))
    sx, sy, sz = (jnp.sin(rotation[..., i]) for i in range(3))
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotate(vectors: Array, rotation: Array) -> jax.Array:
    """`vectors` [..., V, 3] turned by `rotation` [..., 3] radians."""
    return jnp.einsum("...vi,...ji->...vj", vectors, rotation_matrix(rotation), precision=jax.lax.Precision.HIGHEST)


def world_from_model(vertices: Array, rotation: Array, translation: Array) -> jax.Array:
    """World vertices `v R^T + t` of model `vertices` [..., V, 3]; rotation [..., 3] radians, translation [..., 3]."""
    check_shape("vertices", vertices, (None, 3))
    check_shape("translation", translation, (3,))
    return rotate(vertices, rotation) + jnp.asarray(translation)[..., None, :]


def crop_from_world(points: Array, camera: CameraConfig) -> jax.Array:
    """Crop coordinates (x and y in 0..1 of the face crop, y down) and camera depth of world `points` [..., V, 3].

    Points at or behind the camera keep their true depth (<= 0 behind) and get a finite x, y with a finite
    gradient; who draws them must look at the depth.
    """
    check_shape("points", points, (None, 3))
    points = jnp.asarray(points)
    depth = camera.distance - points[..., 2]
    # 1 / depth has a pole at the camera: below MIN_DEPTH the divisor is constant, so value and gradient stay finite.
    divisor = jnp.maximum(depth, MIN_DEPTH * camera.distance)
    x = camera.centre_x + camera.focal * points[..., 0] / divisor
    y = camera.centre_y - camera.focal * points[..., 1] / divisor
    return jnp.stack([x, y, depth], axis=-1)


def px_from_world(points: Array, camera: CameraConfig, *, resolution: int) -> jax.Array:
    """Pixel x, y of a `resolution` px portrait and camera depth of world `points` [..., V, 3]."""
    crop = crop_from_world(points, camera)
    side = camera.crop_size * resolution
    x = camera.crop_x * resolution + side * crop[..., 0]
    y = camera.crop_y * resolution + side * crop[..., 1]
    return jnp.stack([x, y, crop[..., 2]], axis=-1)


def lines_of_sight(places: Array, camera: CameraConfig, *, resolution: int) -> jax.Array:
    """Directions [..., N, 3], one unit deep, in which the camera sees `places` [..., N, 2] px of a portrait."""
    check_shape("places", places, (None, 2))
    crop = jnp.asarray(places) / resolution
    x = ((crop[..., 0] - camera.crop_x) / camera.crop_size - camera.centre_x) / camera.focal
    y = ((crop[..., 1] - camera.crop_y) / camera.crop_size - camera.centre_y) / camera.focal
    return jnp.stack([x, -y, -jnp.ones_like(x)], axis=-1)


def camera_from_model(rotation: Array, translation: Array, camera: CameraConfig) -> jax.Array:
    """Where the camera is, [..., 3] in the model space of a face at `rotation` [..., 3] and `translation` [..., 3]."""
    away = jnp.asarray([0.0, 0.0, camera.distance]) - jnp.asarray(translation)
    return jnp.einsum("...i,...ij->...j", away, rotation_matrix(rotation), precision=jax.lax.Precision.HIGHEST)
