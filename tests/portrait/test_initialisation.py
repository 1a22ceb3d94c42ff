"""Where a search begins: the codes whose portraits look like the photo."""

from functools import partial

import jax
import numpy as np
import pytest
import toy

from pie_jax import embed_portraits
from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig
from pie_jax.pack.inference import map_z, synthesise
from pie_jax.portrait.initialisation import nearest_random_codes

ENERGY = EnergyConfig(terms=("synthesis",), render_resolution=16)


@pytest.fixture(scope="module")
def pack():
    return toy.toy_pack(jax.random.key(0), parts=("generator",), energy=ENERGY)


@pytest.fixture(scope="module")
def portraits(pack):
    return np.asarray(toy.portraits(jax.random.key(1), 3, pack=pack))


def test_a_portrait_of_a_candidate_is_found(pack, portraits):
    generator = pack.configs.generator
    z = jax.random.normal(jax.random.key(0), (64, generator.z_dim))[np.array([5, 40])]
    w = jax.jit(partial(map_z, generator))(pack.weights["generator"], z)
    painted = jax.jit(partial(synthesise, generator))(
        pack.weights["generator"], np.repeat(w[:, None], toy.LAYERS, axis=1)).clip(0.0, 1.0)
    found = nearest_random_codes(pack, np.concatenate([painted, portraits]), nearest=1, resolution=generator.resolution)
    np.testing.assert_allclose(found[:2], w, atol=1e-6)


def test_no_steps_give_the_mean_of_those_that_look_like_the_photo(pack, portraits):
    config = EmbedConfig(energy=ENERGY, stages=(StageConfig(steps=0, nearest_random_codes=3),))
    both = embed_portraits(pack, portraits[:2], config=config, batch=2)
    start = nearest_random_codes(pack, portraits[1:2], nearest=3, resolution=pack.configs.generator.resolution)
    np.testing.assert_array_equal(both[1].w_plus, np.repeat(start, toy.LAYERS, axis=0))
    assert not np.array_equal(both[0].w_plus, both[1].w_plus)
