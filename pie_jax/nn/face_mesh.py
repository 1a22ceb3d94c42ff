"""The points of MediaPipe's face mesh from what its network gives: 468 of the whole face, refined where it looks twice.

The network's own lines say which of the 468 points its closer looks at lips and eyes stand for (`crop_matrix`).
Source: google-ai-edge/mediapipe, tensors_to_face_landmarks_with_attention.pbtxt (what it computes).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, Weights
from pie_jax.config import GraphConfig
from pie_jax.nn.graph import Graph, Operation
from pie_jax.nn.layers import apply

POINTS, MESH_POINTS = 478, 468
_IRISES = (slice(468, 473), slice(473, 478))

# iBUG-68 (0-based) as points of the mesh, without the two inner mouth corners 60 and 64; the jaw is the silhouette.
LANDMARKS = np.array([
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 82, 13, 312, 317, 14, 87])

# What MediaPipe calls these points lies elsewhere than what iBUG does: across and down the face, in distances of the
# eyes' middles. Medians over portraits; made by `python -m benchmarks.photo.convention`.
_OFFSETS = np.array([
    (0.010, 0.055), (-0.017, 0.020), (-0.012, -0.039), (-0.003, -0.051), (-0.022, -0.080), (0.047, 0.054),
    (0.002, -0.032), (-0.041, 0.005), (-0.001, 0.021), (0.037, 0.007), (-0.002, -0.035), (-0.050, 0.044),
    (0.020, -0.097), (-0.001, -0.064), (0.008, -0.051), (0.011, 0.007), (-0.018, 0.038), (-0.039, 0.028),
    (-0.069, -0.019), (-0.055, 0.003), (-0.012, -0.004), (0.053, -0.008), (-0.049, -0.008), (0.017, -0.001),
    (0.061, 0.006), (0.073, -0.018), (0.042, 0.024), (-0.005, -0.099), (-0.004, -0.034), (-0.002, 0.001),
    (0.001, -0.032), (-0.006, -0.023), (-0.024, 0.027), (-0.006, 0.030), (0.013, 0.027), (-0.004, -0.025),
    (0.079, 0.011), (0.009, 0.002), (0.003, 0.003), (-0.014, 0.041), (0.023, 0.006), (0.034, 0.003),
    (0.011, 0.050), (-0.002, 0.012), (-0.006, 0.005), (-0.071, 0.010), (-0.035, 0.008), (-0.025, 0.014),
    (-0.005, 0.005), (0.007, -0.005), (-0.036, 0.006), (0.000, -0.011), (0.035, 0.006), (-0.006, -0.007),
    (0.006, 0.003), (-0.001, -0.002), (0.009, -0.002), (0.001, 0.006), (-0.007, -0.002), (0.004, 0.000),
    (0.014, 0.004), (0.000, 0.004), (-0.014, 0.003), (-0.014, -0.002), (0.000, 0.003), (0.015, 0.000),
], np.float32)
_EYES = (slice(36, 42), slice(42, 48))  # of the 66 points


def landmarks_of(points: np.ndarray) -> np.ndarray:
    """The project's 66 points [66, 2] of a mesh [478, 2 or more] in px, where iBUG's convention has them."""
    named = points[LANDMARKS, :2]
    return named - _OFFSETS @ face_axes(named)


def face_axes(landmarks: np.ndarray) -> np.ndarray:
    """[2, 2]: across a face from the middle of one eye to the other's, and as far down it."""
    left, right = (landmarks[eye].mean(axis=0) for eye in _EYES)
    across = right - left
    return np.stack([across, np.array([-across[1], across[0]])])


def mesh_points(config: GraphConfig, weights: Weights, crops: Array) -> tuple[jax.Array, jax.Array]:
    """crops [B, R, R, 3] of upright faces in 0..1 -> points [B, 478, 3] and the logit [B] that there is a face.

    x, y: 0..1 of the crop; z: depth in the same unit, less is nearer.
    """
    mesh, lips, left, right, left_iris, right_iris, logit = apply(Graph(config), weights, crops)
    batch = mesh.shape[0]
    points = mesh.reshape(batch, MESH_POINTS, 3)
    refined = [Operation.parse(line).sizes("points") for line in config.operations if " crop_matrix " in line]
    for index, closer in zip(refined, (lips, left, right), strict=True):
        points = points.at[:, jnp.asarray(index), :2].set(closer.reshape(batch, -1, 2))
    irises = []
    for index, iris in zip(refined[1:], (left_iris, right_iris), strict=True):
        depth = points[:, jnp.asarray(index[:16]), 2].mean(axis=1)  # of the lids' edge
        flat = iris.reshape(batch, -1, 2)
        irises.append(jnp.concatenate([flat, jnp.broadcast_to(depth[:, None, None], (*flat.shape[:2], 1))], axis=-1))
    return jnp.concatenate([points, *irises], axis=1) / config.resolution, logit.reshape(batch)
