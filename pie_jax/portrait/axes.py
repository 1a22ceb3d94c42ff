"""The principal axes of W: the directions in which a generator's codes differ, and how far.

W has few of them. An optimiser that scales each coordinate by itself, as Adam does, needs fewer steps along such axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Weights
from pie_jax.config import EmbedConfig, GeneratorConfig
from pie_jax.optimise import Axes
from pie_jax.pack import Pack
from pie_jax.pack.inference import map_z
from pie_jax.programs import kept

_CODES = 4096
_POWER, _LEAST = 0.5, 0.1  # of the deviation along an axis in mean deviations, and the least that counts


def axes_for(pack: Pack, config: EmbedConfig) -> Axes | None:
    """The axes of the pack's W where a stage asks for them, else None.

    Those of the coordinates where the mapping network gives NaN or infinity: the energy names what is at fault.
    """
    if not any(stage.optimiser == "principal_adam" for stage in config.stages):
        return None
    generator = pack.configs.generator
    w = random_codes(pack)
    if not np.isfinite(w).all():
        return Axes(vectors=jnp.eye(generator.w_dim), scale=jnp.ones(generator.w_dim))
    spread, vectors = principal_axes(w)
    spread = np.maximum(spread / max(float(spread.mean()), 1e-12), _LEAST)
    return Axes(vectors=jnp.asarray(vectors, jnp.float32), scale=jnp.asarray(spread ** _POWER, jnp.float32))


def random_codes(pack: Pack) -> np.ndarray:
    """w [N, D] float64: codes of z ~ N(0, I), the same in each call. Not finite where the mapping network is not."""
    generator = pack.configs.generator
    return np.asarray(_codes(pack.weights["generator"], config=generator), np.float64)


def principal_axes(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes w [N, D] -> their deviation along each principal axis [D], rising, and the axes as columns [D, D]."""
    variances, vectors = np.linalg.eigh(np.cov(w, rowvar=False))
    return np.sqrt(np.maximum(variances, 0.0)), vectors


@kept(static_argnames="config")
def _codes(weights: Weights, *, config: GeneratorConfig) -> jax.Array:
    return map_z(config, weights, jax.random.normal(jax.random.key(0), (_CODES, config.z_dim)))
