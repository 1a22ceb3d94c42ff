"""The demo family: a fixed map from z ~ N(0, I) to a studio scene.

A StyleGAN takes z ~ N(0, I). Each factor of a scene (a jaw, a light, a hair colour) is read along one
fixed unit direction of the normalised z, and squashed to [-1, 1], so that z, w, w_mean, truncation and
style mixing mean for the demo generator what they mean for any other, while the true image of every z
is known. Moving z along one direction moves one factor: that is the ground truth of an edit.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

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
    Factor(name="squint", low=0.0, high=1.0, spread="sparse"),
    Factor(name="yaw", low=-0.42, high=0.42),
    Factor(name="pitch", low=-0.14, high=0.14),
    Factor(name="light_azimuth", low=-65.0, high=65.0),  # degrees
    Factor(name="light_elevation", low=-15.0, high=55.0),  # degrees
    Factor(name="light_intensity", low=0.7, high=1.1),
    Factor(name="skin", low=-1.0, high=1.0),
    Factor(name="warmth", low=-1.0, high=1.0),
    Factor(name="beard", low=0.0, high=1.0, spread="sparse"),
    Factor(name="hair_style", low=-1.0, high=1.0),
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


def normalise(z):
    """z [..., 512] scaled to root mean square 1, as the mapping network does first."""
    return z / jnp.sqrt(jnp.mean(jnp.square(z), axis=-1, keepdims=True) + 1e-8)


def factors_from_z(z):
    """z [..., 512] -> factor values [..., F] in [-1, 1], in the order of FACTORS."""
    u = normalise(z) @ directions().T
    spreads = np.array([f.spread for f in FACTORS])
    uniform = jax.scipy.special.erf(u / np.sqrt(2.0, dtype=np.float32))
    ends = jnp.clip(u / 0.524, -1.0, 1.0)  # P(|u| > 0.524) = 0.6
    sparse = jnp.clip((u - 0.524) / 0.5, 0.0, 1.0) * 2.0 - 1.0  # P(u > 0.524) = 0.3
    shape = (1,) * (u.ndim - 1) + (len(FACTORS),)
    pick = [jnp.asarray(np.reshape(spreads == s, shape)) for s in ("ends", "sparse")]
    return jnp.where(pick[0], ends, jnp.where(pick[1], sparse, uniform))


def with_coordinate(z, index: int, u: float):
    """z with its coordinate along one factor's direction set to u standard deviations."""
    row = jnp.asarray(directions()[index]).reshape((1,) * (z.ndim - 1) + (Z_DIM,))
    z = normalise(z)
    present = jnp.sum(z * row, axis=-1, keepdims=True)
    return z + (u - present) * row


def flip(z, index):
    """z [N, 512] mirrored along the directions of factors `index` [N] int: the antithetic partner."""
    rows = jnp.asarray(directions())[index]
    z = normalise(z)
    return z - 2.0 * jnp.sum(z * rows, axis=-1, keepdims=True) * rows


def physical(values):
    """Factor values [..., F] in [-1, 1] -> dict of name -> [...] in the factor's own unit."""
    return {f.name: f.low + (values[..., i] + 1.0) * 0.5 * (f.high - f.low) for i, f in enumerate(FACTORS)}
