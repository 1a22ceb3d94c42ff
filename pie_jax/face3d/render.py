"""FaceParams to pictures: spherical-harmonic light, pinhole camera, z-buffer; and light in a user's words.

Light is Deep3DFaceRecon's: nine real spherical harmonics a colour channel, `gamma.reshape(3, 9)`, evaluated at the
vertex normal in world axes (x right, y up, z towards the camera), 0.8 added to band 0, so gamma = 0 is white ambient
light. In a user's words a light has an *azimuth* (degrees, positive from the viewer's right, 0 from the camera,
180 from behind) and an *elevation* (degrees, positive from above).
Source: arXiv 1903.08527; sicxu/Deep3DFaceRecon_pytorch models/bfm.py (`compute_color`).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array, check_shape
from pie_jax.config import CameraConfig
from pie_jax.face3d import geometry, morphable, raster
from pie_jax.face3d.morphable import FaceParams, MorphableModel

AMBIENT_GAMMA = 0.8  # added to band 0 of gamma
# The products a_i c_i: cosine-lobe factor times the harmonic's constant, one a band.
BAND0 = math.pi / math.sqrt(4 * math.pi)
BAND1 = 2 * math.pi / math.sqrt(3) * math.sqrt(3) / math.sqrt(4 * math.pi)
BAND2 = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendering:
    """The 3DMM image; leading dimensions are those of the FaceParams."""

    image: Array  # [..., H, W, 3] RGB about 0..1, not clipped; 0 where coverage is 0
    coverage: Array  # [..., H, W] 0 or 1, without gradient; the covered share of a pixel when supersampled
    landmarks: Array  # [..., 66, 2] px x, y (y down) of this resolution


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class VertexRendering:
    """The vertices of the rendered face, for a photometric term per vertex (MoFA, arXiv 1703.10580, equation 6)."""

    position: Array  # [..., V, 2] px x, y
    colour: Array  # [..., V, 3] RGB about 0..1, not clipped
    visible: Array  # [..., V] bool, without gradient
    landmarks: Array  # [..., 66, 2] px


def harmonics(normals: Array) -> jax.Array:
    """The nine basis functions [..., 9] at unit `normals` [..., 3] (METHOD: Y0..Y8 of Deep3D, cosine lobe included)."""
    check_shape("normals", normals, (3,))
    x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
    return jnp.stack([
        jnp.full_like(x, BAND0), -BAND1 * y, BAND1 * z, -BAND1 * x, BAND2 * x * y, -BAND2 * y * z,
        (0.5 * BAND2 / math.sqrt(3)) * (3 * z * z - 1), -BAND2 * x * z, (0.5 * BAND2) * (x * x - y * y),
    ], axis=-1)


def irradiance(normals: Array, gamma: Array) -> jax.Array:
    """Light [..., V, 3] RGB that reaches surfaces of unit `normals` [..., V, 3]; gamma [..., 27]."""
    check_shape("gamma", gamma, (morphable.ILLUMINATION,))
    bands = jnp.reshape(gamma, (*gamma.shape[:-1], 3, 9))
    offset = jnp.zeros(9, bands.dtype).at[0].set(AMBIENT_GAMMA)
    bands = bands + jnp.broadcast_to(offset, bands.shape)
    return jnp.einsum("...vk,...ck->...vc", harmonics(normals), bands, precision=jax.lax.Precision.HIGHEST)


def shade(albedo: Array, normals: Array, gamma: Array) -> jax.Array:
    """Colours [..., V, 3]: irradiance times `albedo` [..., V, 3] at unit `normals` [..., V, 3]; gamma [..., 27]."""
    return irradiance(normals, gamma) * albedo


@jax.jit
def light(azimuth: Array, elevation: Array, intensity: Array, *, ambient: Array = 0.5) -> jax.Array:
    """gamma [..., 27] of white ambient light plus one white light far away.

    azimuth, elevation: degrees, scalars or arrays of one shape [...]; positive azimuth lights from the viewer's right,
    positive elevation from above. A surface facing the light receives about `ambient + intensity`: the irradiance is
    `ambient + intensity * max(n.l, 0)`, the cosine lobe expanded to second order, 1/4 + 1/2 t + 5/16 P2(t)
    (Ramamoorthi and Hanrahan 2001, equation 8). Differentiable in all four.
    """
    azimuth, elevation, intensity, ambient = jnp.broadcast_arrays(
        *(jnp.asarray(v, jnp.result_type(float)) for v in (azimuth, elevation, intensity, ambient)))
    azimuth, elevation = jnp.deg2rad(azimuth), jnp.deg2rad(elevation)
    x, y, z = jnp.sin(azimuth) * jnp.cos(elevation), jnp.sin(elevation), jnp.cos(azimuth) * jnp.cos(elevation)
    linear, quadratic = 0.5 * intensity / BAND1, 5 / 16 * intensity / BAND2
    bands = jnp.stack([
        (ambient + 0.25 * intensity) / BAND0 - AMBIENT_GAMMA, -linear * y, linear * z, -linear * x,
        3 * quadratic * x * y, -3 * quadratic * y * z, (math.sqrt(3) / 2) * quadratic * (3 * z * z - 1),
        -3 * quadratic * x * z, 1.5 * quadratic * (x * x - y * y),
    ], axis=-1)
    return jnp.concatenate([bands] * 3, axis=-1)


@jax.jit
def light_direction(gamma: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(azimuth, elevation, intensity) [...] of gamma [..., 27], in the words of `light`, which it inverts.

    Read off the linear bands of the luminance, so it is also the dominant direction of any other light. Degrees in
    (-180, 180] and [-90, 90]; without direction (intensity 0) both angles are 0, gradients too.
    """
    check_shape("gamma", gamma, (morphable.ILLUMINATION,))
    bands = jnp.reshape(gamma, (*gamma.shape[:-1], 3, 9))
    bands = jnp.asarray(sum(weight * bands[..., c, :] for c, weight in enumerate(LUMINANCE)))
    x, y, z = (2 * BAND1 * v for v in (-bands[..., 3], -bands[..., 1], bands[..., 2]))
    # Angles have no slope where the vector, or its horizontal part, vanishes: a harmless one stands in before the root.
    level = x * x + z * z
    has_azimuth = level > 0
    safe_x, safe_z = jnp.where(has_azimuth, x, 0.0), jnp.where(has_azimuth, z, 1.0)
    horizontal = jnp.where(has_azimuth, jnp.sqrt(jnp.where(has_azimuth, level, 1.0)), 0.0)
    squared = level + y * y
    lit = squared > 0
    azimuth = jnp.where(has_azimuth, jnp.arctan2(safe_x, safe_z), 0.0)
    elevation = jnp.where(lit, jnp.arctan2(jnp.where(lit, y, 0.0), jnp.where(lit, horizontal, 1.0)), 0.0)
    intensity = jnp.where(lit, jnp.sqrt(jnp.where(lit, squared, 1.0)), 0.0)
    return jnp.rad2deg(azimuth), jnp.rad2deg(elevation), intensity


@jax.jit
def light_ambient(gamma: Array) -> jax.Array:
    """The ambient part [...] of gamma [..., 27]: luminance of band 0 less the light's share (inverse of `light`)."""
    bands = jnp.reshape(gamma, (*gamma.shape[:-1], 3, 9))
    constant = sum(weight * bands[..., c, 0] for c, weight in enumerate(LUMINANCE))
    return BAND0 * (constant + AMBIENT_GAMMA) - 0.25 * light_direction(gamma)[2]


def project(vertices: Array, params: FaceParams, camera: CameraConfig, *, resolution: int) -> jax.Array:
    """Portrait px x, y and camera depth [..., V, 3] of model-space `vertices` [..., V, 3] posed by `params`."""
    world = geometry.world_from_model(vertices, params.rotation, params.translation)
    return geometry.px_from_world(world, camera, resolution=resolution)


def project_landmarks(model: MorphableModel, params: FaceParams, camera: CameraConfig, *,
                      resolution: int) -> jax.Array:
    """The 66 landmarks [..., 66, 2] px without building the whole mesh: 66 rows of the bases suffice."""
    points = morphable.shape(morphable.landmark_model(model), params)
    return project(points, params, camera, resolution=resolution)[..., :2]


def render(model: MorphableModel, params: FaceParams, camera: CameraConfig, *, resolution: int,
           supersample: int = 1) -> Rendering:
    """The face of `params` (any common leading dimensions) as a `resolution` px square portrait, on black.

    supersample: rays a pixel and axis; 2 smooths edges at four times the pixels. With it `image` is the mean over the
    covered part of a pixel: composite as `image * coverage + background * (1 - coverage)`.
    Gradients flow from `image` and `landmarks` to every field of `params` and to the model's bases; they are finite
    for any params, also where the face leaves the canvas or passes behind the camera.
    ValueError: resolution or supersample below 1, or a field of the wrong size.
    """
    if resolution < 1 or supersample < 1:
        raise ValueError(f"resolution, supersample: expected at least 1, got {resolution}, {supersample}")
    vertices_px, colour, landmarks = _vertices(model, params, camera, resolution)
    side = resolution * supersample
    scale = jnp.asarray([supersample, supersample, 1], vertices_px.dtype)
    vertices_px = vertices_px * scale.reshape((1,) * (vertices_px.ndim - 1) + (3,))
    fragments = raster.rasterize(vertices_px, model.triangles, height=side, width=side)
    image = raster.interpolate(fragments, model.triangles, colour)
    coverage = (fragments.triangle_id >= 0).astype(image.dtype)
    if supersample > 1:
        blocks = (*coverage.shape[:-2], resolution, supersample, resolution, supersample)
        covered = jnp.sum(coverage.reshape(blocks), axis=(-3, -1))
        image = jnp.sum(image.reshape(*blocks, 3), axis=(-4, -2)) / jnp.maximum(covered, 1.0)[..., None]
        coverage = covered / supersample**2
    return Rendering(image=image, coverage=coverage, landmarks=landmarks)


def render_vertices(model: MorphableModel, params: FaceParams, camera: CameraConfig, *,
                    resolution: int) -> VertexRendering:
    """Where each vertex falls in the portrait, its colour, and whether it is seen; leading dimensions of `params`."""
    vertices_px, colour, landmarks = _vertices(model, params, camera, resolution)
    hidden = jax.lax.stop_gradient(vertices_px)
    fragments = raster.rasterize(hidden, model.triangles, height=resolution, width=resolution)
    return VertexRendering(position=vertices_px[..., :2], colour=colour, landmarks=landmarks,
                           visible=raster.vertex_visibility(hidden, fragments))


def _vertices(model, params, camera, resolution):
    """Portrait px and depth [..., V, 3], lit colours [..., V, 3] and landmarks [..., 66, 2]."""
    world = geometry.world_from_model(morphable.shape(model, params), params.rotation, params.translation)
    vertices_px = geometry.px_from_world(world, camera, resolution=resolution)
    normals = morphable.vertex_normals(world, model.triangles)
    colour = shade(morphable.albedo(model, params), normals, params.illumination)
    return vertices_px, colour, vertices_px[..., model.landmark_vertices, :2]
