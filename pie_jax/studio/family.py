"""The demo family: a fixed map from z ~ N(0, I) to a studio scene.

A StyleGAN takes z ~ N(0, I). Each factor of a scene (a jaw, a light, a hair colour) is read along one
fixed unit direction of the normalised z, and squashed to [-1, 1], so that z, w, w_mean, truncation and
style mixing mean for the demo generator what they mean for any other, while the true image of every z
is known. Moving z along one direction moves one factor: that is the ground truth of an edit.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from pie_jax.arrays import Array
    from pie_jax.studio.head import Head
    from pie_jax.studio.scene import Scene

Z_DIM = 512
FACTOR_SEED = 20  # of the fixed directions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """One thing that differs between scenes: its value in [-1, 1] is spread over [low, high].

    spread: "uniform" (flat over the range), "ends" (60 % of scenes at one end: strong expressions are
    learned first) or "sparse" (70 % of scenes in the middle, the rest up to the high end).
    """

    name: str
    low: float
    high: float
    spread: str = "uniform"


IDENTITY_FACTORS = 10
TEXTURE_FACTORS = 3

# Expressions count in units of the full expression (studio.head.FULL); angles in radians unless said.
FACTORS = (
    Factor(name="jaw_open", low=0.0, high=1.2, spread="ends"),
    Factor(name="smile", low=-0.2, high=1.3, spread="ends"),
    Factor(name="blink", low=0.0, high=1.0, spread="ends"),
    Factor(name="brow_raise", low=-0.3, high=1.3, spread="ends"),
    Factor(name="pucker", low=0.0, high=1.0, spread="sparse"),
    Factor(name="frown", low=0.0, high=1.0, spread="sparse"),
    Factor(name="brow_furrow", low=0.0, high=1.0, spread="sparse"),
    Factor(name="squint", low=0.0, high=0.5, spread="sparse"),  # at 1 the lids nearly meet: no blink could be seen
    Factor(name="yaw", low=-0.42, high=0.42),
    Factor(name="pitch", low=-0.14, high=0.14),
    Factor(name="light_azimuth", low=-65.0, high=65.0),  # degrees
    Factor(name="light_elevation", low=-15.0, high=55.0),  # degrees
    Factor(name="light_intensity", low=0.55, high=0.75),
    Factor(name="skin", low=-1.0, high=1.0),
    Factor(name="warmth", low=-1.0, high=1.0),
    Factor(name="beard", low=0.0, high=1.0, spread="sparse"),
    Factor(name="hair_length", low=-1.0, high=1.0),  # below 0 short, above long
    Factor(name="hair_colour", low=-1.0, high=1.0),
    Factor(name="eye_colour", low=-1.0, high=1.0),
    Factor(name="cloth_hue", low=-1.0, high=1.0),
    Factor(name="cloth_level", low=-1.0, high=1.0),
    Factor(name="background_level", low=-1.0, high=1.0),
    Factor(name="background_hue", low=-1.0, high=1.0),
    *(Factor(name=f"identity_{i}", low=-1.0, high=1.0) for i in range(IDENTITY_FACTORS)),
    *(Factor(name=f"texture_{i}", low=-1.0, high=1.0) for i in range(TEXTURE_FACTORS)),
)
FACTOR_INDEX = {factor.name: i for i, factor in enumerate(FACTORS)}
EXPRESSION_FACTORS = tuple(i for i, f in enumerate(FACTORS) if f.name in (
    "jaw_open", "smile", "blink", "brow_raise", "pucker", "frown", "brow_furrow", "squint"))


@functools.cache
def directions() -> np.ndarray:
    """[F, 512] orthonormal float32 rows: the direction of z that each factor is read along."""
    rng = np.random.default_rng(FACTOR_SEED)
    q, _ = np.linalg.qr(rng.standard_normal((Z_DIM, len(FACTORS))))
    return np.ascontiguousarray(q.T, dtype=np.float32)


def normalise(z: Array) -> jax.Array:
    """z [..., 512] scaled to root mean square 1, as the mapping network does first."""
    return z / jnp.sqrt(jnp.mean(jnp.square(z), axis=-1, keepdims=True) + 1e-8)


def factors_from_z(z: Array) -> jax.Array:
    """z [..., 512] -> factor values [..., F] in [-1, 1], in the order of FACTORS."""
    u = normalise(z) @ directions().T
    spreads = np.array([f.spread for f in FACTORS])
    uniform = jax.scipy.special.erf(u / np.sqrt(2.0, dtype=np.float32))
    ends = jnp.clip(u / 0.524, -1.0, 1.0)  # P(|u| > 0.524) = 0.6
    sparse = jnp.clip((u - 0.524) / 0.5, 0.0, 1.0) * 2.0 - 1.0  # P(u > 0.524) = 0.3
    shape = (1,) * (u.ndim - 1) + (len(FACTORS),)
    pick = [jnp.asarray(np.reshape(spreads == s, shape)) for s in ("ends", "sparse")]
    return jnp.where(pick[0], ends, jnp.where(pick[1], sparse, uniform))


def with_coordinate(z: Array, index: int, u: float) -> jax.Array:
    """z with its coordinate along one factor's direction set to u standard deviations."""
    row = jnp.asarray(directions()[index]).reshape((1,) * (z.ndim - 1) + (Z_DIM,))
    z = normalise(z)
    present = jnp.sum(z * row, axis=-1, keepdims=True)
    return z + (u - present) * row


def flip(z: Array, index: Array) -> jax.Array:
    """z [N, 512] mirrored along the directions of factors `index` [N] int: the antithetic partner."""
    rows = jnp.asarray(directions())[index]
    z = normalise(z)
    return z - 2.0 * jnp.sum(z * rows, axis=-1, keepdims=True) * rows


def physical(values: Array) -> dict[str, jax.Array]:
    """Factor values [..., F] in [-1, 1] -> dict of name -> [...] in the factor's own unit."""
    return {f.name: f.low + (values[..., i] + 1.0) * 0.5 * (f.high - f.low) for i, f in enumerate(FACTORS)}


def code_features(values: Array) -> jax.Array:
    """Factor values [..., F] -> [..., F + 5]: what W carries of them.

    The values themselves, and five functions of them that a style cannot make of a straight line: cosine and sine of
    both hues, which run round a circle, and the side of hair_length, where short hair becomes long.
    """
    hues = jnp.pi * jnp.stack([values[..., FACTOR_INDEX[name]] for name in ("cloth_hue", "background_hue")], axis=-1)
    side = jnp.clip(values[..., FACTOR_INDEX["hair_length"], None] / 0.25, -1.0, 1.0)
    return jnp.concatenate([values, jnp.cos(hues), jnp.sin(hues), side], axis=-1)


HAIR = (((0.10, 0.07, 0.06), (0.33, 0.21, 0.13), (0.75, 0.58, 0.34)))  # dark, brown, fair
EYES = ((0.24, 0.13, 0.07), (0.36, 0.48, 0.60))
TEXTURES = ("brow_thickness", "lip_redness", "freckles")  # what the texture factors move, in their order


def _between(colours, t):
    """Piecewise linear through `colours` [[3]...] at t [...] in [-1, 1] -> [..., 3]."""
    colours = jnp.asarray(colours, jnp.float32)
    place = (t + 1.0) * 0.5 * (len(colours) - 1)
    knots = jnp.arange(len(colours), dtype=jnp.float32)
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(place[..., None] - knots.reshape((1,) * t.ndim + (-1,))))
    return weights @ colours


def _hue(angle, level, saturation):
    """[...] angle in turns, level 0..1 -> [..., 3] RGB of a cosine palette of that mean level."""
    turns = angle[..., None] + jnp.asarray([0.0, -1.0 / 3.0, 1.0 / 3.0]).reshape((1,) * angle.ndim + (3,))
    return level[..., None] * (1.0 + saturation * jnp.cos(2.0 * jnp.pi * turns))


@functools.cache
def _identity_rows() -> np.ndarray:
    """[IDENTITY_FACTORS, 80]: the identity coefficients that each identity factor moves, largest first."""
    from pie_jax.studio.identity import IDENTITY_COUNT

    rng = np.random.default_rng(FACTOR_SEED + 1)
    used = 30  # the semantic modes come first in the basis
    q, _ = np.linalg.qr(rng.standard_normal((used, IDENTITY_FACTORS)))
    rows = np.zeros((IDENTITY_FACTORS, IDENTITY_COUNT), np.float32)
    rows[:, :used] = q.T * (3.4 * 0.92 ** np.arange(IDENTITY_FACTORS))[:, None]
    return rows


def scenes_from_z(head: Head, z: Array) -> Scene:
    """z [N, 512] -> Scene with fields [N, ...]: the person, expression, pose and light that the code stands for."""
    from pie_jax.face3d.morphable import FaceParams
    from pie_jax.studio import scene as scenes
    from pie_jax.studio.expressions import EXPRESSION_NAMES, FULL
    from pie_jax.studio.texture import TEXTURE_NAMES

    values = factors_from_z(z)
    unit = {f.name: values[..., i] for i, f in enumerate(FACTORS)}
    real = physical(values)
    n = z.shape[0]
    expression = jnp.zeros((n, len(EXPRESSION_NAMES)))
    for i in EXPRESSION_FACTORS:
        name = FACTORS[i].name
        expression = expression.at[:, EXPRESSION_NAMES.index(name)].set(real[name] * FULL[name])
    identity = sum(unit[f"identity_{i}"][:, None] * _identity_rows()[i][None] for i in range(IDENTITY_FACTORS))
    texture = jnp.zeros((n, len(TEXTURE_NAMES)))
    tone = jnp.where(real["skin"] < 0, 2.2 * real["skin"], 0.9 * real["skin"]) - 0.1
    long_hair = unit["hair_length"] > 0
    beard = jnp.where(long_hair, 0.0, real["beard"]) * jnp.clip(1.0 + 0.35 * tone, 0.4, 1.2)
    for name, value in (("skin_tone", tone), ("skin_warmth", real["warmth"]), ("beard", 2.0 * beard),
                        ("moustache", 1.6 * beard), ("brow_lightness", 0.5 + 0.8 * unit["hair_colour"]),
                        *zip(TEXTURES, (1.3 * unit["texture_0"], 1.5 * unit["texture_1"],
                                        0.9 * jnp.maximum(unit["texture_2"], 0.0)))):
        texture = texture.at[:, TEXTURE_NAMES.index(name)].set(value)
    rotation = jnp.stack([real["pitch"], real["yaw"], jnp.zeros(n)], axis=-1)
    style = jnp.where(long_hair, scenes.HAIR_STYLES.index("long"), scenes.HAIR_STYLES.index("short"))
    return scenes.Scene(
        params=FaceParams(rotation=rotation, translation=scenes.align_translation(head, identity, rotation),
                          identity=identity, texture=texture, expression=expression,
                          illumination=scenes.light(real["light_azimuth"], real["light_elevation"],
                                                    real["light_intensity"], ambient=0.38)),
        gaze=jnp.zeros((n, 2)), eye_colour=_between(EYES, unit["eye_colour"]),
        hair_colour=_between(HAIR, unit["hair_colour"]),
        cloth_colour=_hue(0.5 * unit["cloth_hue"], 0.38 + 0.22 * unit["cloth_level"], 0.45),
        background_top=_hue(0.5 * unit["background_hue"], 0.50 + 0.25 * unit["background_level"], 0.12),
        background_bottom=_hue(0.5 * unit["background_hue"], 0.42 + 0.22 * unit["background_level"], 0.12),
        hair_style=style.astype(jnp.int32), hair_volume=0.85 + 0.3 * jnp.abs(unit["hair_length"]))


def draw_z(seed: int, count: int) -> np.ndarray:
    """z [count, 512] float32 ~ N(0, 1), a function of the seed alone. Training draws from seeds of a million on."""
    return np.random.default_rng(seed).standard_normal((count, Z_DIM), dtype=np.float32)


def scenes_of_seeds(seeds: Array, *, head: Head) -> Scene:
    """The portrait of each integer of `seeds` [B] within the family; seeds below a million were never trained on."""
    return scenes_from_z(head, jnp.asarray(np.concatenate([draw_z(int(seed), 1) for seed in seeds])))
