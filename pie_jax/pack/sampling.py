"""The pool of v: codes of the generator with what the frozen networks see in their images.

PIE (arXiv 2009.09485) draws a new v each iteration; I_v, theta_v and L_v carry no gradient, so they are made once for a
pack and a step draws rows by key. `python -m pie_jax.tuning.pool --pack DIR` makes the pool of a pack.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from pie_jax.arrays import Array
from pie_jax.config import EnergyConfig
from pie_jax.imaging import face_crop
from pie_jax.nn.layers import to_w_plus
from pie_jax.pack import Pack, PackConfigs, Pool
from pie_jax.pack.inference import find_landmarks, map_z, regress, synthesise

__all__ = ["Pool", "build_pool", "draw"]

SIZE = 1000


def draw(key: Array, pool: Pool, *, samples: int) -> Pool:
    """`samples` rows of the pool, uniformly and independently, by a key; works inside jit and vmap."""
    index = jax.random.randint(key, (samples,), 0, pool.params_vector.shape[0])
    return jax.tree.map(lambda array: jnp.take(array, index, axis=0, mode="clip"), pool)


def build_pool(key: Array, pack: Pack, *, size: int = SIZE, batch: int = 8,
               progress: Callable[[int, int], None] | None = None) -> Pool:
    """Paint `size` portraits of random z ~ N(0, I) and look at them.

    Args:
      key: decides the codes: row i depends on key and i only, not on `size` or `batch`.
      pack: with generator, regressor and landmarks. PackError: one of them is missing.
      size: N.
      batch: images in one call.
      progress: called with (rows done, N).
    Returns:
      the Pool, at the pack's energy.render_resolution.
    """
    pack.require("generator", "regressor", "landmarks")
    weights = {name: pack.weights[name] for name in ("generator", "regressor", "landmarks")}
    configs = PackConfigs(generator=pack.configs.generator, regressor=pack.configs.regressor,
                          landmarks=pack.configs.landmarks, camera=pack.configs.camera,
                          energy=EnergyConfig(render_resolution=pack.configs.energy.render_resolution))
    blocks = []
    for start in range(0, size, batch):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(start, start + batch, dtype=jnp.uint32))
        blocks.append(jax.device_get(_look(keys, weights, configs=configs)))
        if progress is not None:
            progress(min(start + batch, size), size)
    return jax.tree.map(lambda *rows: jnp.concatenate(rows)[:size], *blocks)


@partial(jax.jit, static_argnames="configs")
def _look(keys: Array, weights, *, configs: PackConfigs) -> Pool:
    generator = configs.generator
    z = jax.vmap(lambda key: jax.random.normal(key, (generator.z_dim,)))(keys)
    w_plus = to_w_plus(map_z(generator, weights["generator"], z), generator.num_layers)
    portraits = jnp.clip(synthesise(generator, weights["generator"], w_plus), 0.0, 1.0)
    faces = face_crop(portraits, configs.camera, resolution=configs.energy.render_resolution)
    return Pool(images=jnp.clip(jnp.round(faces * 255.0), 0, 255).astype(jnp.uint8),
                params_vector=regress(configs, weights, portraits),
                landmarks=find_landmarks(configs, weights, portraits))
