"""The light on a fitted face and the albedo of its skin, by robust least squares with priors.

A picture of a face is albedo times irradiance, and dark skin in strong light looks like fair skin in weak light. Two
priors tell them apart: texture is `N(0, 1)`, light is that of one lamp in front of the face. Pixels that neither
explains (hair, glasses, teeth) count little. Irradiance multiplies sRGB values, as in `face3d.render`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.face3d import geometry, raster
from pie_jax.face3d.morphable import ILLUMINATION, FaceParams, MorphableModel, shape, vertex_normals
from pie_jax.face3d.render import AMBIENT_GAMMA, BAND0, harmonics, light

_STEPS = 12  # of Gauss-Newton
_ERROR = 0.05  # of a pixel's colour, above which it begins to count less (Cauchy)
_PIXELS = 100.0  # a face counts as so many independent pixels
_LAMPS = {"azimuth": np.linspace(-90.0, 90.0, 13), "elevation": np.linspace(-20.0, 60.0, 9),
          "intensity": np.linspace(0.2, 0.9, 5)}
_AMBIENT = (0.4, 0.06)  # of the lamps' surroundings: mean and deviation
_OTHER = 0.01  # deviation of each number of gamma that no lamp explains
_COLOURED = np.array([0.05] + 3 * [0.03] + 5 * [0.02], np.float32)  # deviation of one channel from white, by number


def find_light(model: MorphableModel, crops: Array, camera: CameraConfig,
               params: FaceParams) -> tuple[Array, Array, Array]:
    """Illumination [B, 27] and texture [B, 80], in standard deviations, of faces in crops [B, R, R, 3], sRGB in 0..1.

    Third, [B]: the mean absolute difference that is left between the face's pixels and the model's, in 0..1.

    camera: of the crops. params [B]: their pose, shape and expression are read. Where a crop shows no face, light is
    the mean of the priors' lamps and texture is 0. Source: Gauss-Newton with Cauchy's weights, as in Zhang 1997,
    "Parameter estimation techniques".
    """
    basis, skin, cover = _maps(model, params, camera, resolution=crops.shape[1])
    return jax.vmap(_solved)(basis, skin, cover, crops.reshape(*cover.shape, 3))


def _maps(model, params, camera, *, resolution):
    """At each pixel [B, R * R]: the harmonics [9], mean and basis of the skin's colour [3, 1 + 80], 1 on the face."""
    world = geometry.world_from_model(shape(model, params), params.rotation, params.translation)
    fragments = raster.rasterize(geometry.px_from_world(world, camera, resolution=resolution), model.triangles,
                                 height=resolution, width=resolution)
    skin = jnp.concatenate([model.mean_albedo[..., None], model.texture_basis], axis=-1)
    pixels = fragments.triangle_id.shape[0], resolution**2
    seen = raster.interpolate(fragments, model.triangles, harmonics(vertex_normals(world, model.triangles)))
    skin_seen = raster.interpolate(fragments, model.triangles, skin.reshape(len(skin), -1))
    cover = (fragments.triangle_id >= 0).astype(seen.dtype)
    return seen.reshape(*pixels, -1), skin_seen.reshape(*pixels, *skin.shape[1:]), cover.reshape(pixels)


def _solved(basis, skin, cover, colours):
    """Gauss-Newton on light and texture together; all of one face, pixels [P]."""
    middle, tightness = _lamps()
    texture_size = skin.shape[-1] - 1
    prior = jax.scipy.linalg.block_diag(tightness, jnp.eye(texture_size))
    middle = jnp.concatenate([middle, jnp.zeros(texture_size)])
    share = _PIXELS / _ERROR**2 / jnp.maximum(cover.sum(), 1.0)

    def shaded(found):
        return basis @ _bands(found[:ILLUMINATION]).T, skin[..., 0] + skin[..., 1:] @ found[ILLUMINATION:]

    def step(found, _):
        irradiance, albedo = shaded(found)
        error = colours - irradiance * albedo  # [P, 3]
        weight = share * cover / (1.0 + jnp.sum(jnp.square(error), axis=-1) / _ERROR**2)
        by_light = (albedo[:, :, None, None] * jnp.eye(3)[None, :, :, None] * basis[:, None, None, :]).reshape(
            *error.shape, ILLUMINATION)
        slope = jnp.concatenate([by_light, irradiance[..., None] * skin[..., 1:]], axis=-1)  # [P, 3, 27 + 80]
        weighted = weight[:, None, None] * slope
        towards = jnp.einsum("pcn,pc->n", weighted, error) - prior @ (found - middle)
        normal = jnp.einsum("pcn,pcm->nm", weighted, slope) + prior
        return found + jax.scipy.linalg.solve(normal, towards, assume_a="pos"), None

    found, _ = jax.lax.scan(step, middle, None, length=_STEPS)
    irradiance, albedo = shaded(found)
    left = jnp.sum(cover * jnp.mean(jnp.abs(colours - irradiance * albedo), axis=-1)) / jnp.maximum(cover.sum(), 1.0)
    return found[:ILLUMINATION], found[ILLUMINATION:], left


def _bands(gamma):
    """gamma [27] as the renderer reads it, [3, 9]."""
    return gamma.reshape(3, 9).at[:, 0].add(AMBIENT_GAMMA)


def _lamps() -> tuple[jax.Array, jax.Array]:
    """Mean [27] and inverse covariance [27, 27] of the light of one lamp, a little coloured."""
    angles = [axis.ravel() for axis in np.meshgrid(*_LAMPS.values())]
    lamps = light(*angles, ambient=np.float32(_AMBIENT[0]))[:, :9]
    mean = lamps.mean(axis=0)
    apart = lamps - mean[None]
    white = apart.T @ apart / len(lamps) + _OTHER**2 * jnp.eye(9)
    white = white.at[0, 0].add((_AMBIENT[1] / BAND0) ** 2)
    covariance = jnp.kron(jnp.ones((3, 3)), white) + jnp.kron(jnp.eye(3), jnp.diag(_COLOURED**2))
    return jnp.tile(mean, 3), jnp.linalg.inv(covariance)
