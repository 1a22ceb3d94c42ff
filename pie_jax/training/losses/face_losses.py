"""Losses between a face and FaceParams: photometric over the rendered face, landmarks, coefficient regularisation.

Shared by the regressor (MoFA, arXiv 1703.10580, section 5) and the rigs (StyleRig, arXiv 2004.00121, equation 3). All
are taken in the face crop and return one value an image.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import LANDMARKS, CameraConfig
from pie_jax.face3d import morphable
from pie_jax.face3d.geometry import crop_from_world, world_from_model
from pie_jax.face3d.morphable import FaceParams, MorphableModel
from pie_jax.face3d.render import render
from pie_jax.pack.inference import crop_camera

# Deep3DFaceRecon (arXiv 1903.08527; sicxu/Deep3DFaceRecon_pytorch, models/losses.py): 20 on the bridge of the nose and
# the inner mouth. Its points are iBUG-68; ours lack 60 and 64, so the inner mouth is the last six.
LANDMARK_WEIGHTS = np.ones(LANDMARKS, np.float32)
LANDMARK_WEIGHTS[28:31] = 20.0
LANDMARK_WEIGHTS[-6:] = 20.0


def portrait_to_crop(points_01: Array, camera: CameraConfig) -> Array:
    """Points [..., 2] in 0..1 of the portrait to 0..1 of the face crop."""
    corner = np.asarray([camera.crop_x, camera.crop_y], np.float32).reshape((1,) * (points_01.ndim - 1) + (2,))
    return (points_01 - corner) / camera.crop_size


def projected_landmarks(model: MorphableModel, params: FaceParams, camera: CameraConfig) -> jax.Array:
    """The model's 66 landmark vertices in 0..1 of the face crop, [..., 66, 2]; only those vertices are computed."""
    picked = dataclasses.replace(
        model, mean_shape=model.mean_shape[model.landmark_vertices],
        identity_basis=model.identity_basis[model.landmark_vertices],
        expression_basis=model.expression_basis[model.landmark_vertices])
    points = world_from_model(morphable.shape(picked, params), params.rotation, params.translation)
    return crop_from_world(points, camera)[..., :2]


def landmark_loss(points: Array, truth: Array, *, weights: Array | None = None) -> jax.Array:
    """Weighted mean squared distance of landmarks [B, 66, 2], in crop widths squared, [B]."""
    w = jnp.asarray(np.ones(LANDMARKS, np.float32) if weights is None else weights)
    squared = jnp.sum(jnp.square(points - truth), axis=-1)
    return jnp.sum(squared * (w / jnp.sum(w))[None, :], axis=-1)


def photometric_loss(model: MorphableModel, params: FaceParams, crops_01: Array, camera: CameraConfig, *,
                     norm: str = "l2") -> jax.Array:
    """Difference between crops [B, R, R, 3] and the rendered face over the pixels it covers, [B].

    norm "l2": mean squared difference (StyleRig, PIE); "l21": mean length of the RGB difference (MoFA, Deep3D), which
    forgives what the model cannot draw (hair, glasses, beards). A face that covers nothing costs nothing.
    """
    rendering = render(model, params, crop_camera(camera), resolution=crops_01.shape[1])
    cover = jax.lax.stop_gradient(rendering.coverage)
    difference = rendering.image - crops_01
    if norm == "l21":
        # the root has an infinite slope at 0: a small constant keeps it finite
        error = jnp.sqrt(jnp.sum(jnp.square(difference), axis=-1) + 1e-6)
    else:
        error = jnp.mean(jnp.square(difference), axis=-1)
    return jnp.sum(error * cover, axis=(1, 2)) / jnp.maximum(jnp.sum(cover, axis=(1, 2)), 1.0)


def render_loss(model: MorphableModel, params: FaceParams, crops_01: Array, landmarks: Array, camera: CameraConfig, *,
                weight_landmark: float) -> jax.Array:
    """StyleRig's L_render [B]: photometric + weight_landmark * landmark loss; landmarks [B, 66, 2] in 0..1 of crop."""
    points = projected_landmarks(model, params, camera)
    return (photometric_loss(model, params, crops_01, camera)
            + weight_landmark * landmark_loss(points, landmarks))


def importance(model: MorphableModel, std: Array) -> np.ndarray:
    """How much each of the 257 components shows, [257] float32, mean 1 in every field.

    For identity, expression and texture: the fourth root of the mean square by which one deviation `std` [257] moves
    the vertices, or their colours. So the few components that make a face count, and the many that hardly show do not
    drown them. The root because few vertices may say much: an opened jaw moves a thousand times the square of a blink
    (with the square itself the blink was never learned).
    """
    weights = np.ones(morphable.PARAMETERS, np.float32)
    bases = {"identity": model.identity_basis, "expression": model.expression_basis, "texture": model.texture_basis}
    for name, basis in bases.items():
        part = morphable.VECTOR_SLICES[name]
        shown = (np.mean(np.square(np.asarray(basis)), axis=(0, 1)) * np.square(np.asarray(std)[part])) ** 0.25
        weights[part] = shown / max(float(shown.mean()), 1e-12)
    return weights


def coefficient_loss(params: FaceParams) -> jax.Array:
    """Deep3D's regularisation [B]: identity 1, expression 0.8, texture 0.017, per-image sum of squares."""
    def square(x):
        return jnp.sum(jnp.square(x), axis=-1)
    return square(params.identity) + 0.8 * square(params.expression) + 1.7e-2 * square(params.texture)


def gamma_loss(params: FaceParams) -> jax.Array:
    """Deep3D's light regularisation [B]: the three colours' harmonics should be alike (white light)."""
    gamma = params.illumination.reshape(*params.illumination.shape[:-1], 3, 9)
    return jnp.mean(jnp.square(gamma - jnp.mean(gamma, axis=-2, keepdims=True)), axis=(-2, -1))


def reflectance_loss(model: MorphableModel, params: FaceParams) -> jax.Array:
    """Deep3D's flat-albedo loss [B]: variance over the vertices of the colour that the texture adds to the mean.

    Deep3D takes the variance of the whole albedo, over a skin mask.
    """
    added = jnp.einsum("vcn,...n->...vc", model.texture_basis, params.texture)
    return jnp.mean(jnp.var(added, axis=-2), axis=-1)
