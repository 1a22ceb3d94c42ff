"""What a portrait is made of: `Scene` = FaceParams + what a morphable model has not; light, framing, sampling."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.geometry import rotate
from pie_jax.morphable import FaceParams
from pie_jax.studio import hair
from pie_jax.studio.head import EXPRESSION_NAMES, FULL, TEXTURE_NAMES, Head

STUDIO_CAMERA = CameraConfig(crop_x=0.065, crop_y=0.13, crop_size=0.87)
HAIR_STYLES = hair.STYLE_NAMES
# One lobe of unit intensity along its axis plus this ambient shows an albedo about as it is.
AMBIENT = 0.45
_A = (math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8))
_C = (1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi), 3 * math.sqrt(5) / math.sqrt(12 * math.pi))
GAMMA_OFFSET = 0.8  # what the renderer adds to band 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One portrait, or B of them when every field has a leading axis."""

    params: FaceParams  # the truth of the morphable model; translation as `align_translation` gives it
    gaze: Array  # [..., 2] radians: to the image's right, up; about -0.4..0.4
    eye_colour: Array  # [..., 3] RGB 0..1
    hair_colour: Array  # [..., 3]
    cloth_colour: Array  # [..., 3]
    background_top: Array  # [..., 3]
    background_bottom: Array  # [..., 3]
    hair_style: Array  # [...] int32, index into HAIR_STYLES
    hair_volume: Array  # [...] factor of the hair's thickness, 0.7..1.3


def light(azimuth_deg: Array, elevation_deg: Array, intensity: Array = 1.0, *, ambient: Array = AMBIENT,
          colour: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> jax.Array:
    """gamma [..., 27] of ambient light plus one distant lamp.

    azimuth_deg: 0 from the camera, + from the image's right; elevation_deg: + from above; intensity: radiance of a
    white surface that faces the lamp; ambient: of any surface. The clamped cosine of the lamp is taken to second
    order, 1/4 + c/2 + 5/32 (3 c^2 - 1) (Ramamoorthi and Hanrahan 2001), in the bands of Deep3DFaceRecon (METHOD: the
    renderer adds 0.8 to band 0, and that is subtracted here).
    """
    azimuth_deg, elevation_deg, intensity = jnp.broadcast_arrays(*(jnp.asarray(v, jnp.float32) for v in (azimuth_deg, elevation_deg, intensity)))
    azimuth, elevation = jnp.deg2rad(azimuth_deg), jnp.deg2rad(elevation_deg)
    x, y, z = jnp.sin(azimuth) * jnp.cos(elevation), jnp.sin(elevation), jnp.cos(azimuth) * jnp.cos(elevation)
    one, two = _A[1] * _C[1], _A[2] * _C[2]
    zero = _A[0] * _C[0]
    q = 5.0 / 32.0
    # (3 (n.l)^2 - 1) = 6 lx ly nx ny + 6 ly lz ny nz + 6 lx lz nx nz + (3 lz^2 - 1)/2 (3 nz^2 - 1) + 3/2 (lx^2 - ly^2)(nx^2 - ny^2)
    bands = jnp.stack([
        0.25 / zero + 0 * x, -0.5 * y / one, 0.5 * z / one, -0.5 * x / one, 6 * q * x * y / two, -6 * q * y * z / two,
        q * (3 * z * z - 1) * math.sqrt(3) / two, -6 * q * x * z / two, 3 * q * (x * x - y * y) / two], axis=-1)
    bands = bands * intensity[..., None]
    constant = jnp.zeros(9).at[0].set(1.0)
    ambient = jnp.asarray(ambient, jnp.float32)[..., None]
    white = bands + constant * (ambient / zero)
    tinted = white[..., None, :] * jnp.asarray(colour, jnp.float32)[:, None]  # [..., 3, 9]
    gamma = tinted - constant * GAMMA_OFFSET
    return gamma.reshape(*gamma.shape[:-2], 27)


def align_translation(head: Head, identity: Array, rotation: Array, *, camera: CameraConfig = STUDIO_CAMERA) -> jax.Array:
    """Translation [..., 3] that frames a neutral head as FFHQ's alignment does.

    The point eyes + 0.1 (mouth - eyes) lies in the middle of the portrait whatever the rotation, and the larger of
    2 x eye distance and 1.8 x eye-to-mouth distance has the mean head's size (dataset_tool of NVlabs/ffhq-dataset,
    `recreate_aligned_images`). Expressions do not move it. identity [..., 80], rotation [..., 3].
    """
    m = head.morphable
    chosen = np.concatenate([m.landmark_vertices[36:48], m.landmark_vertices[[48, 54]]])
    points = m.mean_shape[chosen] + jnp.einsum("kcn,...n->...kc", m.identity_basis[chosen], identity,
                                               precision=jax.lax.Precision.HIGHEST)
    right, left, mouth = points[..., :6, :].mean(-2), points[..., 6:12, :].mean(-2), points[..., 12:, :].mean(-2)
    eyes = 0.5 * (left + right)
    size = jnp.maximum(2.0 * jnp.linalg.norm(left - right, axis=-1), 1.8 * jnp.linalg.norm(mouth - eyes, axis=-1))
    middle = eyes + 0.1 * (mouth - eyes)
    turned = rotate(middle[..., None, :], rotation)[..., 0, :]
    depth = camera.distance * size / 1.24
    z = camera.distance - depth - turned[..., 2]
    wanted_x, wanted_y = _crop_of(camera, 0.5, 0.5)
    x = (wanted_x - camera.centre_x) * depth / camera.focal - turned[..., 0]
    y = (camera.centre_y - wanted_y) * depth / camera.focal - turned[..., 1]
    return jnp.stack([x, y, z], axis=-1)


def _crop_of(camera: CameraConfig, x: float, y: float):
    return (x - camera.crop_x) / camera.crop_size, (y - camera.crop_y) / camera.crop_size


SKIN_TONES, HAIR_COLOURS = TEXTURE_NAMES[:3], np.array([
    [0.09, 0.07, 0.065], [0.17, 0.11, 0.08], [0.30, 0.19, 0.12], [0.43, 0.28, 0.16], [0.66, 0.48, 0.27],
    [0.80, 0.66, 0.42], [0.52, 0.22, 0.10], [0.58, 0.57, 0.56], [0.80, 0.79, 0.77]], np.float32)
EYE_COLOURS = np.array([[0.24, 0.13, 0.07], [0.34, 0.20, 0.10], [0.28, 0.36, 0.22], [0.32, 0.46, 0.60], [0.42, 0.48, 0.52]], np.float32)


def sample_scenes(key: Array, count: int, *, head: Head, expression_scale: float = 1.0) -> Scene:
    """`count` portraits of different people: a Scene with fields [count, ...]. The same key gives the same people.

    Half wear beards or bald heads at most; expressions are one or two of the clear ones and a little of the rest.
    """
    ks = iter(jax.random.split(key, 40))
    normal = lambda *shape: jax.random.normal(next(ks), shape)  # noqa: E731
    uniform = lambda low, high, *shape: jax.random.uniform(next(ks), shape, minval=low, maxval=high)  # noqa: E731
    n = count
    identity = 0.9 * jnp.clip(normal(n, 80), -2.0, 2.0)
    texture = 0.9 * jnp.clip(normal(n, 80), -2.0, 2.0)
    at = TEXTURE_NAMES.index
    tone = uniform(-2.1, 1.0, n)
    masculine = jax.random.bernoulli(next(ks), 0.5, (n,))
    bearded = masculine & (uniform(0.0, 1.0, n) < 0.40)
    strength = uniform(0.6, 2.4, n)
    kind = uniform(0.0, 1.0, n)
    darkness = jnp.clip(1.0 + 0.35 * tone, 0.4, 1.2)
    texture = texture.at[:, at("skin_tone")].set(tone)
    texture = texture.at[:, at("beard")].set(jnp.where(bearded & (kind < 0.6), strength * darkness, 0.0))
    texture = texture.at[:, at("moustache")].set(jnp.where(bearded & (kind > 0.3), strength * darkness, 0.0))
    texture = texture.at[:, at("stubble")].set(jnp.where(masculine, jnp.abs(texture[:, at("stubble")]), 0.0))
    texture = texture.at[:, at("freckles")].set(jnp.maximum(texture[:, at("freckles")] - 0.6, 0.0) * jnp.where(tone > -0.5, 1.5, 0.0))
    texture = texture.at[:, at("make_up")].set(jnp.where(masculine, 0.0, jnp.abs(texture[:, at("make_up")])))
    texture = texture.at[:, at("lip_redness")].add(jnp.where(masculine, -0.6, 0.8))
    texture = texture.at[:, at("brow_thickness")].add(jnp.where(masculine, 0.6, -0.5))
    # dark skin has dark hair and eyes
    choice = uniform(0.0, 1.0, n) * jnp.where(tone < -0.6, 0.30, 1.0)
    index = jnp.clip((choice * len(HAIR_COLOURS)).astype(jnp.int32), 0, len(HAIR_COLOURS) - 1)
    hair_colour = jnp.asarray(HAIR_COLOURS)[index] * uniform(0.8, 1.2, n, 1)
    eyes = jnp.clip((uniform(0.0, 1.0, n) * jnp.where(tone < -0.6, 0.4, 1.0) * 5).astype(jnp.int32), 0, 4)
    texture = texture.at[:, at("brow_lightness")].set(jnp.clip(4.0 * (hair_colour.mean(-1) - 0.2), -0.6, 1.4))
    men, women = jnp.array([0, 1, 2, 2, 3, 4, 8, 1]), jnp.array([5, 6, 7, 9, 6, 5, 8, 2])
    pick = jax.random.randint(next(ks), (n,), 0, 8)
    style = jnp.where(masculine, men[pick], women[pick])
    expression = 0.25 * jnp.abs(normal(n, 64)) * expression_scale
    main = jax.random.randint(next(ks), (n,), 0, 10)
    amount = uniform(0.5, 1.1, n)
    for k, name in enumerate(("smile", "smile", "smile", "jaw_open", "brow_raise", "frown", "pucker", "brow_furrow")):
        expression = expression.at[:, EXPRESSION_NAMES.index(name)].add(jnp.where(main == k, amount * FULL[name] * expression_scale, 0.0))
    blink = EXPRESSION_NAMES.index("blink")
    expression = expression.at[:, blink].multiply(0.3)
    for name in ("blink_left", "blink_right", "lip_bite", "lip_roll", "mouth_left", "mouth_right", "jaw_left", "jaw_right"):
        expression = expression.at[:, EXPRESSION_NAMES.index(name)].multiply(0.3)
    pose = normal(n, 3) * jnp.array([0.10, 0.26, 0.03])[None]
    rotation = jnp.clip(pose, -0.6, 0.6)
    azimuth, elevation = uniform(-75.0, 75.0, n), uniform(-10.0, 60.0, n)
    gamma = light(azimuth, elevation, uniform(0.40, 0.75, n), ambient=uniform(0.35, 0.60, n))
    tint = 1.0 + 0.04 * normal(n, 3)
    gamma = ((gamma.reshape(n, 3, 9).at[:, :, 0].add(GAMMA_OFFSET)) * tint[:, :, None]).at[:, :, 0].add(-GAMMA_OFFSET).reshape(n, 27)
    back = uniform(0.15, 0.85, n, 1) + 0.10 * normal(n, 3)
    params = FaceParams(rotation=rotation, translation=align_translation(head, identity, rotation), identity=identity,
                        texture=texture, expression=expression, illumination=gamma)
    return Scene(
        params=params, gaze=0.10 * normal(n, 2), eye_colour=jnp.asarray(EYE_COLOURS)[eyes], hair_colour=hair_colour,
        cloth_colour=uniform(0.06, 0.85, n, 3), background_top=jnp.clip(back, 0.05, 0.95),
        background_bottom=jnp.clip(back * uniform(0.6, 1.1, n, 1), 0.05, 0.95), hair_style=style.astype(jnp.int32),
        hair_volume=uniform(0.8, 1.2, n))
