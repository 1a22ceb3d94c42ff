"""The energy that an embedding ends at, over draws of face parameters that are the same for every embedding.

What a search reports is of its last step's own draws, which differ from one search to the next.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from pie_jax.energy import Inputs, PortraitEnergy, energy_inputs, portrait_energy, prepare_target
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding

DRAWS = 24


def final_energy(pack: Pack, embedding: Embedding, image: np.ndarray) -> float:
    """Mean energy of `w_plus` over DRAWS draws, with the pack's own weights of the terms; image: [R, R, 3] in 0..1."""
    energy = portrait_energy(pack, config=pack.configs.energy)
    inputs = energy_inputs(pack, prepare_target(pack, image[None]), config=pack.configs.energy)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    return float(np.mean(_at_draws(energy, inputs, np.asarray(embedding.w_plus)[None], keys)))


@functools.partial(jax.jit, static_argnames="energy")
def _at_draws(energy: PortraitEnergy, inputs: Inputs, w_plus: jax.Array, keys: jax.Array) -> jax.Array:
    """w_plus [1, L, D], keys [K] -> energies [K]."""
    return jax.lax.map(lambda key: energy(inputs, w_plus, key[None])[0][0], keys)
