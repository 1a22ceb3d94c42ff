"""What a portrait is made of: `Scene` = FaceParams + what a morphable model has not; light, framing, sampling."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.face3d.geometry import rotate
from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import AMBIENT_GAMMA, light
from pie_jax.studio import hair
from pie_jax.studio.head import EXPRESSION_NAMES, FULL, TEXTURE_NAMES, Head

STUDIO_CAMERA = CameraConfig(crop_x=0.065, crop_y=0.13, crop_size=0.87)
HAIR_STYLES = hair.STYLE_NAMES


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


def align_translation(
    head: Head, identity: Array, rotation: Array, *, camera: CameraConfig = STUDIO_CAMERA
) -> jax.Array:
    """Translation [..., 3] that frames a neutral head as FFHQ's alignment does.

    The point eyes + 0.1 (mouth - eyes) lies in the middle of the portrait whatever the rotation, and the larger of
    2 x eye distance and 1.8 x eye-to-mouth distance has the mean head's size (dataset_tool of NVlabs/ffhq-dataset,
    `recreate_aligned_images`). Expressions do not move it. identity [..., 80], rotation [..., 3].
    """
    m = head.morphable
    chosen = jnp.asarray(m.landmark_vertices)[np.array([*range(36, 48), 48, 54])]
    moved = jnp.einsum(
        "kcn,...n->...kc", jnp.asarray(m.identity_basis)[chosen], identity, precision=jax.lax.Precision.HIGHEST
    )
    points = jnp.broadcast_to(jnp.asarray(m.mean_shape)[chosen], moved.shape) + moved
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


HAIR_COLOURS = np.array(
    [
        [0.09, 0.07, 0.065],
        [0.17, 0.11, 0.08],
        [0.30, 0.19, 0.12],
        [0.43, 0.28, 0.16],
        [0.66, 0.48, 0.27],
        [0.80, 0.66, 0.42],
        [0.52, 0.22, 0.10],
        [0.58, 0.57, 0.56],
        [0.80, 0.79, 0.77],
    ],
    np.float32,
)
EYE_COLOURS = np.array(
    [[0.24, 0.13, 0.07], [0.34, 0.20, 0.10], [0.28, 0.36, 0.22], [0.32, 0.46, 0.60], [0.42, 0.48, 0.52]], np.float32
)
_MEN = ("bald", "cropped", "short", "short", "side_part", "receding", "curly", "cropped")
_WOMEN = ("bob", "long", "fringe", "tied_back", "long", "bob", "curly", "short")
_CLEAR = ("smile", "smile", "smile", "jaw_open", "brow_raise", "frown", "pucker", "brow_furrow")  # one each, or none
_RARE = (
    "blink",
    "blink_left",
    "blink_right",
    "lip_bite",
    "lip_roll",
    "mouth_left",
    "mouth_right",
    "jaw_left",
    "jaw_right",
)


def sample_scenes(key: Array, count: int, *, head: Head, expression_scale: float = 1.0) -> Scene:
    """`count` portraits of different people, a Scene with fields [count, ...]: `scenes_of_keys` of the split key."""
    return scenes_of_keys(jax.random.split(key, count), head=head, expression_scale=expression_scale)


def scenes_of_seeds(seeds: Array, *, head: Head, expression_scale: float = 1.0) -> Scene:
    """The portrait of each integer of `seeds` [B]; it depends on nothing else, so a seed is a person."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    return scenes_of_keys(keys, head=head, expression_scale=expression_scale)


@partial(jax.jit, static_argnames="expression_scale")
def scenes_of_keys(keys: Array, *, head: Head, expression_scale: float = 1.0) -> Scene:
    """One portrait for each of `keys` [B]; fields [B, ...].

    Two thirds show one clear expression of `_CLEAR`, all a little of the rest, times `expression_scale`. Yaw has a
    standard deviation of 15 degrees, pitch of 6; light comes from anywhere in front. Skin, hair and eyes go together.
    """
    return jax.vmap(lambda key: _sample(key, head, expression_scale))(keys)


def _sample(key, head: Head, expression_scale) -> Scene:
    keys = iter(jax.random.split(key, 40))
    at = TEXTURE_NAMES.index

    def normal(*shape):
        return jax.random.normal(next(keys), shape)

    def uniform(low, high, *shape):
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    identity = 0.9 * jnp.clip(normal(80), -2.0, 2.0)
    texture = 0.9 * jnp.clip(normal(80), -2.0, 2.0)
    tone = uniform(-2.1, 1.0)
    masculine = jax.random.bernoulli(next(keys))
    bearded, strength, kind = masculine & (uniform(0.0, 1.0) < 0.40), uniform(0.6, 2.4), uniform(0.0, 1.0)
    strength = strength * jnp.clip(1.0 + 0.35 * tone, 0.4, 1.2)
    choice = (uniform(0.0, 1.0) * jnp.where(tone < -0.6, 0.30, 1.0) * len(HAIR_COLOURS)).astype(jnp.int32)
    hair_colour = jnp.asarray(HAIR_COLOURS)[choice] * uniform(0.8, 1.2, 1)
    eyes = (uniform(0.0, 1.0) * jnp.where(tone < -0.6, 0.4, 1.0) * len(EYE_COLOURS)).astype(jnp.int32)
    values = {
        "skin_tone": tone,
        "beard": jnp.where(bearded & (kind < 0.6), strength, 0.0),
        "moustache": jnp.where(bearded & (kind > 0.3), strength, 0.0),
        "stubble": jnp.where(masculine, jnp.abs(texture[at("stubble")]), 0.0),
        "freckles": jnp.maximum(texture[at("freckles")] - 0.6, 0.0) * jnp.where(tone > -0.5, 1.5, 0.0),
        "make_up": jnp.where(masculine, 0.0, jnp.abs(texture[at("make_up")])),
        "lip_redness": texture[at("lip_redness")] + jnp.where(masculine, -0.6, 0.8),
        "brow_thickness": texture[at("brow_thickness")] + jnp.where(masculine, 0.6, -0.5),
        "brow_lightness": jnp.clip(4.0 * (hair_colour.mean() - 0.2), -0.6, 1.4),
    }
    for name, value in values.items():
        texture = texture.at[at(name)].set(value)
    styles = np.array([[HAIR_STYLES.index(name) for name in names] for names in (_WOMEN, _MEN)], np.int32)
    style = jnp.asarray(styles)[masculine.astype(jnp.int32), jax.random.randint(next(keys), (), 0, styles.shape[1])]
    expression = 0.15 * jnp.abs(normal(64))
    rare = np.array([0.3 if name in _RARE else 1.0 for name in EXPRESSION_NAMES], np.float32)
    clear = np.zeros((12, 64), np.float32)
    for row, name in enumerate(_CLEAR):
        clear[row, EXPRESSION_NAMES.index(name)] = FULL[name]
    expression = expression * rare + uniform(0.5, 1.1) * jnp.asarray(clear)[jax.random.randint(next(keys), (), 0, 12)]
    rotation = jnp.clip(normal(3) * jnp.array([0.10, 0.26, 0.03]), -0.6, 0.6)
    gamma = light(uniform(-75.0, 75.0), uniform(-10.0, 60.0), uniform(0.40, 0.75), ambient=uniform(0.35, 0.60)).reshape(
        3, 9
    )
    tint = 1.0 + 0.03 * normal(3, 1)
    gamma = (gamma.at[:, 0].add(AMBIENT_GAMMA) * tint).at[:, 0].add(-AMBIENT_GAMMA)
    back = uniform(0.15, 0.85, 1) + 0.10 * normal(3)
    params = FaceParams(
        rotation=rotation,
        translation=align_translation(head, identity, rotation),
        identity=identity,
        texture=texture,
        expression=expression_scale * expression,
        illumination=gamma.reshape(27),
    )
    return Scene(
        params=params,
        gaze=0.10 * normal(2),
        eye_colour=jnp.asarray(EYE_COLOURS)[eyes],
        hair_colour=hair_colour,
        cloth_colour=jnp.clip(uniform(0.08, 0.80, 1) + 0.15 * normal(3), 0.04, 0.95),
        background_top=jnp.clip(back, 0.05, 0.95),
        background_bottom=jnp.clip(back * uniform(0.6, 1.1, 1), 0.05, 0.95),
        hair_style=style,
        hair_volume=uniform(0.8, 1.2),
    )


def posed(head: Head, scene: Scene, rotation: Array, *, camera: CameraConfig = STUDIO_CAMERA) -> Scene:
    """The same portraits with another rotation [..., 3], framed anew as an aligned photo of that pose would be."""
    params = dataclasses.replace(
        scene.params,
        rotation=rotation,
        translation=align_translation(head, scene.params.identity, rotation, camera=camera),
    )
    return dataclasses.replace(scene, params=params)


def with_params(scene: Scene, **fields: Array) -> Scene:
    """The same portraits with other FaceParams fields (`expression=`, `illumination=`, ...)."""
    return dataclasses.replace(scene, params=dataclasses.replace(scene.params, **fields))
