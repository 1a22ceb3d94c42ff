"""PIE's energy of a portrait (arXiv 2009.09485): one function a term, and their weighted sum.

    E(w) = E_synthesis + E_identity + E_edit + E_invariance + E_recognition

Only the latent moves. `theta` is a vector [257] of FaceParams in Deep3D's order, `v` another code of the generator
from the pack's pool, `control` one of pose, expression, illumination; [a^rest, b^control] takes the control's
parameters from b and all others from a; w_hat = RigNet(w, theta_v^control). Over controls and samples of v every
term is a mean, and every distance is a mean over its elements, so that neither their number nor the resolution
changes the balance of the terms.

All that looks at a face (regressor, landmarks, recognition, rendering) works in the square face crop of the camera.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.face3d.render import Rendering, VertexRendering

CROP_PX = 224.0  # the unit of landmark distances: pixels of a face crop of this side, whatever is rendered


def _mean(array: Array, axes: int) -> jax.Array:
    return jnp.mean(array, axis=tuple(range(-axes, 0)))


def synthesis_term(portrait: Array, synthesis: Array, features: dict[str, Array],
                   synthesis_features: dict[str, Array]) -> tuple[jax.Array, jax.Array]:
    """mean |I - G(w)|^2 and sum over layers of mean |Phi_l(I) - Phi_l(G(w))|^2, each [B].

    Images [B, H, W, 3] in 0..1, features {layer: [B, h, w, C]}. PIE, equation of E_synth; means are ours.
    """
    check_shape("synthesis", synthesis, tuple(portrait.shape))
    perceptual = sum((_mean(jnp.square(features[k] - synthesis_features[k]), 3) for k in features),
                     jnp.zeros(portrait.shape[0], portrait.dtype))
    return _mean(jnp.square(portrait - synthesis), 3), perceptual


def identity_term(w_plus: Array, rigged: Array) -> jax.Array:
    """mean |w - RigNet(w, theta_w^control)|^2, [B]: rigging with a code's own parameters changes nothing.

    w_plus [B, L, D]; rigged [B, C, L, D], one for each control. PIE, E_id.
    """
    return _mean(jnp.square(w_plus[:, None] - rigged), 3)


def edit_term(faces: Array, landmarks: Array, rendering: Rendering | VertexRendering) -> tuple[jax.Array, jax.Array]:
    """l(I_v, [theta_v^rest, theta(w_hat)^control]): the edited portrait carries v's control. PIE, E_edit.

    faces [B, M, R, R, 3] and landmarks [B, M, 66, 2] (0..1) of v; rendering of the mixed parameters, [B, M, ...].
    Returns the photometric and the landmark part, each [B], means over the M samples and controls.
    """
    photometric, landmark = face_distance(faces, landmarks, rendering)
    return _mean(photometric, 1), _mean(landmark, 1)


def invariance_term(face: Array, landmarks: Array,
                    rendering: Rendering | VertexRendering) -> tuple[jax.Array, jax.Array]:
    """l(I, [theta(w_hat)^rest, theta_I^control]): the edited portrait carries nothing else of v. PIE, E_inv.

    face [B, R, R, 3] and landmarks [B, 66, 2] (0..1) of the portrait; rendering of the mixed parameters, [B, M, ...].
    Returns the photometric and the landmark part, each [B].
    """
    count = rendering.landmarks.shape[1]
    faces, points = (jnp.repeat(x[:, None], count, axis=1) for x in (face, landmarks))
    photometric, landmark = face_distance(faces, points, rendering)
    return _mean(photometric, 1), _mean(landmark, 1)


def recognition_term(descriptor: Array, synthesis_descriptor: Array,
                     edited_descriptors: Array) -> tuple[jax.Array, jax.Array]:
    """|Psi(I) - Psi(G(w))|^2 and its mean over edited portraits, |Psi(I) - Psi(G(w_hat))|^2; each [B]. PIE, E_rec.

    Psi are unit vectors [B, N] (edited: [B, M, N]), so a value is 2 - 2 cos of the angle between descriptors.
    """
    edited = jnp.sum(jnp.square(descriptor[:, None] - edited_descriptors), axis=-1)
    return jnp.sum(jnp.square(descriptor - synthesis_descriptor), axis=-1), _mean(edited, 1)


def face_distance(faces: Array, landmarks: Array,
                  rendering: Rendering | VertexRendering) -> tuple[jax.Array, jax.Array]:
    """PIE's l(I', theta) in its two parts, before their weights.

    Args:
      faces: [..., R, R, 3] face crops in 0..1.
      landmarks: [..., 66, 2] found in them, 0..1 of the crop.
      rendering: of theta in the same crop at R pixels; a VertexRendering compares colours at the visible vertices
        (MoFA, arXiv 1703.10580, equation 6) and not at the covered pixels (PIE).
    Returns:
      photometric [...]: mean over covered pixels (visible vertices) and channels of |I' - I_theta|^2 (0 where there
        are none; which ones there are carries no gradient), and landmark [...]: mean over points of the squared
        distance, in pixels^2 of a 224 px crop, at any R.
    """
    resolution = faces.shape[-2]
    if isinstance(rendering, VertexRendering):
        counted = jax.lax.stop_gradient(rendering.visible).astype(faces.dtype)
        squared = jnp.sum(jnp.square(sample_bilinear(faces, rendering.position) - rendering.colour), axis=-1)
        photometric = jnp.sum(squared * counted, axis=-1) / (3.0 * jnp.maximum(jnp.sum(counted, axis=-1), 1.0))
    else:
        counted = jax.lax.stop_gradient(rendering.coverage)
        squared = jnp.sum(jnp.square(faces - rendering.image), axis=-1)
        covered = jnp.maximum(jnp.sum(counted, axis=(-2, -1)), 1.0)
        photometric = jnp.sum(squared * counted, axis=(-2, -1)) / (3.0 * covered)
    offset = (landmarks - rendering.landmarks / resolution) * CROP_PX
    return photometric, _mean(jnp.sum(jnp.square(offset), axis=-1), 1)


def sample_bilinear(images: Array, points: Array) -> jax.Array:
    """Colours [..., V, C] of images [..., H, W, C] at points [..., V, 2] px (centres at +0.5); outside, the edge's."""
    check_shape("points", points, (2,))
    height, width, channels = images.shape[-3:]
    size = jnp.asarray([width, height], points.dtype).reshape((1,) * (points.ndim - 1) + (2,))
    place = jnp.clip(points - 0.5, 0.0, size - 1.0)
    low = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0.0, jnp.maximum(size - 2.0, 0.0))
    share, low = place - low, low.astype(jnp.int32)
    flat = images.reshape(*images.shape[:-3], height * width, channels)
    total = 0.0
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = jnp.minimum(low[..., 0] + dx, width - 1), jnp.minimum(low[..., 1] + dy, height - 1)
        weight = (share[..., 0] if dx else 1.0 - share[..., 0]) * (share[..., 1] if dy else 1.0 - share[..., 1])
        total = total + weight[..., None] * jnp.take_along_axis(flat, (y * width + x)[..., None], axis=-2)
    return total

