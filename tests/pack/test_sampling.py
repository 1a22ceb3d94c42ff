"""The pool of v: what is in a row, how rows are drawn, how a pack keeps them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from pie_jax.errors import PackError
from pie_jax.nn.layers import to_w_plus
from pie_jax.pack import Pool, inference, load_pack, sampling, update_part

CONFIGS = dataclasses.replace(toy.CONFIGS, **toy.layers_for(dataclasses.replace(toy.GENERATOR, resolution=8)))


def test_draws_are_uniform_rows_and_differ_by_key():
    count = 20
    pool = Pool(images=jnp.arange(count, dtype=jnp.uint8).reshape(-1, 1, 1, 1) * jnp.ones((1, 2, 2, 3), jnp.uint8),
                params_vector=jnp.repeat(jnp.arange(count, dtype=jnp.float32)[:, None], 257, axis=1),
                landmarks=jnp.zeros((count, 66, 2)))
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = jax.jit(jax.vmap(lambda key: sampling.draw(key, pool, samples=4)))(keys)
    rows = np.asarray(drawn.params_vector[..., 0]).astype(int)
    assert rows.shape == (500, 4)
    np.testing.assert_array_equal(drawn.images[..., 0, 0, 0], rows)  # a row stays together
    counts = np.bincount(rows.ravel(), minlength=count)  # 100 each are expected, standard deviation 10
    assert counts.min() > 60 and counts.max() < 140
    assert abs(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]) < 0.15


def test_a_built_pool_is_what_the_networks_see_whatever_the_batch(tmp_path):
    pack = toy.toy_pack(jax.random.key(3), configs=CONFIGS)
    told = []
    pool = sampling.build_pool(jax.random.key(7), pack, size=5, batch=4, progress=lambda *done: told.append(done))
    assert told == [(4, 5), (5, 5)]
    assert pool.images.shape == (5, 16, 16, 3) and pool.images.dtype == jnp.uint8 and pool.landmarks.shape == (5, 66, 2)
    fewer = sampling.build_pool(jax.random.key(7), pack, size=3, batch=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:3], b, atol=1e-5), pool, fewer)

    @jax.jit
    def params_of(weights, z):
        w = inference.map_z(CONFIGS.generator, weights["generator"], z)
        w_plus = to_w_plus(w, CONFIGS.generator.num_layers)
        portrait = jnp.clip(inference.synthesise(CONFIGS.generator, weights["generator"], w_plus), 0.0, 1.0)
        return inference.regress(CONFIGS, weights, portrait)

    z = jax.random.normal(jax.random.fold_in(jax.random.key(7), 2), (toy.W_DIM,))[None]
    np.testing.assert_allclose(pool.params_vector[2], params_of(pack.weights, z)[0], atol=1e-4)

    update_part(tmp_path / "p", "pool", pool)
    stored = load_pack(tmp_path / "p").pool
    np.testing.assert_allclose(stored.params_vector, pool.params_vector, rtol=1e-3, atol=1e-3)
    assert stored.images.shape == pool.images.shape


def test_a_pack_without_the_networks_is_refused():
    with pytest.raises(PackError, match="'regressor' is missing"):
        sampling.build_pool(jax.random.key(0), toy.toy_pack(jax.random.key(0), parts=("generator",)))
