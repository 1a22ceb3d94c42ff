"""A batch in parts: every portrait as in a batch of the part's size, bit for bit; problems keep their portrait."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax import optimise
from pie_jax.config import StageConfig
from pie_jax.optimise import step
from pie_jax.runtime import Backend, made_for

STAGE = StageConfig(space="w_plus", steps=7, chunk=3, rho=0.9, epsilon=1e-3)


@dataclasses.dataclass(frozen=True)
class Slope:
    """A distance from the portrait's own target, with noise; not finite beyond `wall`."""

    wall: float = 1e9

    def __call__(self, target, latent, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, latent.shape[1:]))(keys)
        energy = jnp.mean(jnp.square(jnp.sin(latent) - target + 0.01 * noise), axis=(1, 2))
        energy = jnp.where(jnp.max(jnp.abs(latent), axis=(1, 2)) > self.wall, jnp.nan, energy)
        return energy, {"distance": energy}


def begin(count, **rows):
    """A state of `count` portraits; rows: `_2=x` begins the third at x."""
    latent = 0.1 * jnp.arange(count * 6, dtype=jnp.float32).reshape(count, 2, 3) / count
    for name, value in rows.items():
        latent = latent.at[int(name[1:])].set(value)
    return optimise.start_stage(latent, optimise.portrait_keys(np.arange(count)), stage=STAGE)


def targets(count):
    return jnp.linspace(0.2, 0.9, count).reshape(count, 1, 1) * jnp.ones((count, 2, 3))


def parts(count, each):
    whole = targets(count)
    return optimise.MicroBatches(parts=tuple(whole[i:i + each] for i in range(0, count, each)))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_part_is_a_batch_of_its_size(platform):
    with made_for(Backend(platform=platform)):
        found = optimise.run_stage(begin(4), parts(4, 2), energy=Slope(), stage=STAGE)
        whole = optimise.run_stage(begin(4), targets(4), energy=Slope(), stage=STAGE)
        for first in (0, 2):
            state = jax.tree.map(lambda x, first=first: x[first:first + 2], begin(4))
            alone = optimise.run_stage(state, targets(4)[first:first + 2], energy=Slope(), stage=STAGE)
            np.testing.assert_array_equal(found.state.latent[first:first + 2], alone.state.latent)
            np.testing.assert_array_equal(found.trace["distance"][:, first:first + 2], alone.trace["distance"])
    np.testing.assert_allclose(found.state.latent, whole.state.latent, atol=1e-6)
    assert found.trace["energy"].shape == (7, 4) and np.isfinite(found.trace["energy"]).all()


def test_one_program_serves_all_parts():
    energy = Slope(wall=123.0)
    optimise.compile_chunk(begin(6), parts(6, 2), energy=energy, stage=STAGE)
    before = step._run_step._cache_size() + step._run_chunk._cache_size()
    optimise.run_stage(begin(6), parts(6, 2), energy=energy, stage=STAGE)
    assert step._run_step._cache_size() + step._run_chunk._cache_size() == before


def test_a_bad_value_is_of_its_own_portrait():
    found = optimise.run_stage(begin(4, _2=5.0), parts(4, 1), energy=Slope(wall=4.0), stage=STAGE)
    assert found.outcomes == ("finished", "finished", "non-finite", "finished")
    assert {(i.portrait, i.term) for i in found.incidents} == {(2, "distance")}


def test_a_bad_gradient_is_blamed_on_its_term():
    @dataclasses.dataclass(frozen=True)
    class Root:
        def __call__(self, target, latent, keys):
            energy = jnp.sqrt(jnp.mean(jnp.square(latent - target), axis=(1, 2)))  # no slope at the target
            return energy, {"root": energy}

    found = optimise.run_stage(begin(2, _1=targets(2)[1]), parts(2, 1), energy=Root(), stage=STAGE)
    assert found.outcomes[1] == "non-finite"
    assert {(i.portrait, i.term) for i in found.incidents} == {(1, "gradient of root")}


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 2 portraits, got 3"):
        optimise.run_stage(begin(3), parts(4, 2), energy=Slope(), stage=STAGE)
