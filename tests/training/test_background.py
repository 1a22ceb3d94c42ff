"""What is around a face, read from a code by a linear map: fitted where images are linear, and outside the head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.training.data import codes
from pie_jax.training.losses import background

SIDE = background.SIDE


def landmarks(*boxes):
    """[B, 66, 2]: points that span the boxes (x low, y low, x high, y high)."""
    corners = np.asarray([[[a, b], [c, d]] for a, b, c, d in boxes], np.float32)
    return jnp.asarray(np.concatenate([corners, np.repeat(corners.mean(1, keepdims=True), 64, axis=1)], axis=1))


def test_a_linear_image_is_read_from_its_code():
    rng = np.random.default_rng(0)
    count, layers, dim = 300, 2, 6
    w_a, w_b = rng.normal(size=(2, count, dim)).astype(np.float32)
    cross = rng.integers(1, layers + 1, count).astype(np.int32)
    matrix = rng.normal(size=(layers * dim, SIDE * SIDE * 3)).astype(np.float32)
    rows = {"w_a": jnp.asarray(w_a), "w_b": jnp.asarray(w_b), "cross": jnp.asarray(cross)}
    flat = np.asarray(codes.w_plus_of(rows, num_layers=layers)).reshape(count, -1)
    small = np.clip(0.5 + 0.02 * flat @ matrix, 0, 1).reshape(count, SIDE, SIDE, 3)
    images = (np.repeat(np.repeat(small, 2, axis=1), 2, axis=2) * 255 + 0.5).astype(np.uint8)
    pool = codes.Codes(w_a=w_a, w_b=w_b, cross=cross, params_vector=np.zeros((count, 257), np.float32),
                       landmarks=np.zeros((count, 66, 2), np.float32), images=images)
    found, explained = background.fit(pool, num_layers=layers)
    assert found.shape == matrix.shape
    assert explained > 0.98
    change = rng.normal(size=(3, layers, dim)).astype(np.float32)
    everywhere = jnp.ones((3, SIDE, SIDE, 1))
    true = np.mean(np.square(0.02 * change.reshape(3, -1) @ matrix))
    assert float(background.background_change(found, change, everywhere)) == pytest.approx(true, rel=0.1)


def test_the_head_is_left_out_and_clothes_too():
    weights = np.asarray(background.background_weights(landmarks((0.35, 0.4, 0.65, 0.8))))[0, ..., 0]
    centre, crown, chest, corner, side = (9, 8), (3, 8), (SIDE - 1, 8), (0, 0), (8, 0)
    assert weights[centre] == weights[crown] == weights[chest] == 0
    assert weights[corner] == weights[side] == 1


def test_nothing_to_keep_costs_nothing_and_has_a_finite_gradient():
    change, matrix = jnp.ones((2, 1, 4)), jnp.ones((4, SIDE * SIDE * 3))
    value, gradient = jax.value_and_grad(
        lambda x: background.background_change(matrix, x, jnp.zeros((2, SIDE, SIDE, 1))))(change)
    assert value == 0
    assert np.all(np.asarray(gradient) == 0)
