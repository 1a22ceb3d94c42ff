"""How near the synthesis of a code comes to a portrait, by every part of a pack."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.config import PRECISIONS, PrecisionConfig
from pie_jax.energy import CROP_PX, Target, prepare_target
from pie_jax.imaging import psnr, ssim
from pie_jax.pack import Pack, inference
from pie_jax.portrait.synthesis import synthesise
from pie_jax.programs import kept


def compare(pack: Pack, w_plus: Array, target: Target, *, precision: PrecisionConfig = PRECISIONS["float32"]) -> dict:
    """Compare the synthesis of w_plus [B, L, D] with the portraits of `target`, by every part of the pack.

    precision: that of `target`; descriptors are compared in float32 whatever it is.

    Returns [B, ...] arrays (None where a part is missing): "synthesis" [B, H, W, 3] in 0..1, "psnr" dB, "ssim",
    "params_vector" and "portrait_params_vector" [B, 257], "landmarks" and "portrait_landmarks" [B, 66, 2] in 0..1 of
    the face crop, "landmark_error" (mean distance in pixels of a 224 px face crop), "identity_cosine" of recognition
    descriptors.
    """
    if precision.of("recognition") != "float32":
        precision = PRECISIONS["float32"]
        target = dataclasses.replace(target, descriptor=prepare_target(pack, target.portrait).descriptor)
    synthesis = synthesise(pack, w_plus)
    seen = prepare_target(pack, synthesis, precision=precision)
    if seen.params_vector is None and "dfr" in pack.weights:
        seen = dataclasses.replace(seen, params_vector=_params_from_latent(pack, w_plus))
    return compared(*(dataclasses.replace(each, features=None, face=None) for each in (seen, target)))


@kept(level=0)
def compared(seen: Target, target: Target) -> dict:
    """What `compare` returns, of what the pack's parts see in the synthesis and in the portrait."""
    synthesis = jnp.clip(seen.portrait, 0.0, 1.0)
    error = cosine = None
    if seen.landmarks is not None:
        error = CROP_PX * jnp.linalg.norm(seen.landmarks - jnp.asarray(target.landmarks), axis=-1).mean(-1)
    if seen.descriptor is not None:
        cosine = jnp.sum(seen.descriptor * jnp.asarray(target.descriptor), -1)
    return {"synthesis": synthesis, "psnr": psnr(synthesis, target.portrait), "ssim": ssim(synthesis, target.portrait),
            "params_vector": seen.params_vector, "portrait_params_vector": target.params_vector,
            "landmarks": seen.landmarks, "portrait_landmarks": target.landmarks, "landmark_error": error,
            "identity_cosine": cosine}


@kept()
def _params_from_latent(pack: Pack, w_plus: Array) -> jax.Array:
    return inference.params_from_latent(pack.configs, pack.weights, w_plus)
