"""The painter of mouths: what is known stays, what is hidden is not read, and the patches of its critic."""

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.config import MouthConfig
from pie_jax.nn.layers import apply, initialise
from pie_jax.nn.mouth import MouthCritic, MouthNet

CONFIG = MouthConfig(width=32, height=16, across=20, channels=(8, 8, 8))
paint = jax.jit(lambda weights, frame, mask: apply(MouthNet(CONFIG), weights, frame, mask))


def test_only_the_mask_is_painted_and_nothing_in_it_is_read():
    frame = jax.random.uniform(jax.random.key(0), (2, 16, 32, 3))
    mask = jnp.zeros((2, 16, 32, 1)).at[:, 5:11, 8:24].set(1.0)
    weights = initialise(MouthNet(CONFIG), jax.random.key(1), frame, mask)
    painted = paint(weights, frame, mask)
    known = np.asarray(mask[..., 0]) == 0
    np.testing.assert_allclose(np.asarray(painted)[known], np.asarray(frame)[known], atol=1e-6)
    other = jnp.where(mask > 0, 1.0 - frame, frame)
    np.testing.assert_allclose(paint(weights, other, mask), painted, atol=1e-6)
    assert float(painted.min()) >= 0 and float(painted.max()) <= 1
    assert np.abs(np.asarray(painted - frame))[~known].max() > 0.01


def test_blocks_of_pixels_come_back_where_they_were():
    frame = jax.random.uniform(jax.random.key(0), (1, 16, 32, 3))
    weights = initialise(MouthNet(CONFIG), jax.random.key(1), frame, frame[..., :1])
    weights = jax.tree.map(jnp.zeros_like, weights)
    weights["out"]["bias"] = jnp.tile(jnp.asarray([3.0, 0.0, -3.0]), 4)
    painted = paint(weights, frame, jnp.ones((1, 16, 32, 1)))
    np.testing.assert_allclose(painted, jnp.broadcast_to(jax.nn.sigmoid(jnp.asarray([3.0, 0.0, -3.0])), painted.shape),
                               atol=1e-6)


def test_the_critic_judges_patches():
    frame = jax.random.uniform(jax.random.key(0), (2, 16, 32, 3))
    critic = MouthCritic(channels=(8, 8, 8))
    weights = initialise(critic, jax.random.key(1), frame, frame[..., :1])
    assert apply(critic, weights, frame, frame[..., :1]).shape == (2, 2, 4)
