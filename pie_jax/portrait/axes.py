"""Axes of codes: the directions in which a generator's styles follow a code, and those in which its codes differ.

Few of either matter. An optimiser that scales each coordinate by itself, as Adam does, needs fewer steps along such
axes. A search goes along those of the styles: a picture depends on a code only through them. How far codes differ along
an axis says how long the steps there are.
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
    """The axes of the styles of the pack's generator where a stage asks for them, else None.

    Those of the coordinates where weights or codes are NaN or infinity: the energy names what is at fault.
    """
    if not any(stage.optimiser == "principal_adam" for stage in config.stages):
        return None
    generator = pack.configs.generator
    w, moved = random_codes(pack), _moved_styles(pack.weights["generator"])
    if not (np.isfinite(w).all() and np.isfinite(moved).all()):
        return Axes(vectors=jnp.eye(generator.w_dim), scale=jnp.ones(generator.w_dim))
    vectors = np.linalg.eigh(moved)[1]
    spread = np.std(w @ vectors, axis=0)
    spread = np.maximum(spread / max(float(spread.mean()), 1e-12), _LEAST)
    return Axes(vectors=jnp.asarray(vectors, jnp.float32), scale=jnp.asarray(spread ** _POWER, jnp.float32))


def _moved_styles(weights: Weights) -> np.ndarray:
    """M [D, D] float64, whose eigenvectors are the axes: a change d of a code moves the styles of all layers by d M d.

    A layer's share of it is the mean square over its channels.
    """
    layers = [np.asarray(leaf, np.float64) for path, leaf in jax.tree_util.tree_leaves_with_path(weights["synthesis"])
              if [step.key for step in path[-2:]] in (["affine", "weight"], ["style", "weight"])]
    return np.sum([weight @ weight.T / weight.shape[1] for weight in layers], axis=0)


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
