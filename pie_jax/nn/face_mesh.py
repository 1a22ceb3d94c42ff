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
