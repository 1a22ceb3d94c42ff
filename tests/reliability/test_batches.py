"""What a portrait's batch may change: nothing by its neighbours, rounding by its size."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reliability import batches
from benchmarks.reliability.world import small_pack
from pie_jax import energy as energies
from pie_jax.config import StageConfig
from pie_jax.optimise import portrait_keys


def test_portraits_of_a_batch_share_no_number():
    pack = small_pack()
    portraits = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 32, 32, 3)), jnp.float32)
    energy = energies.portrait_energy(pack, config=pack.configs.energy)
    inputs = energies.energy_inputs(pack, energies.prepare_target(pack, portraits), config=pack.configs.energy)
    latent = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 16)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: energy(inputs, x, portrait_keys(np.arange(3)))[0][1]))(latent)
    assert np.abs(gradient[1]).max() > 0 and not np.asarray(gradient[jnp.array([0, 2])]).any()


def test_another_size_of_the_batch_is_rounding_at_first():
    portraits = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    stages = (StageConfig(space="w", steps=3, chunk=4), StageConfig(space="w_plus", steps=2, chunk=4))
    found = batches.differences(small_pack(), portraits, sizes=(1, 2), stages=stages)
    assert found["first_energy"] < 1e-5 and found["w_plus"] < 1e-2
