"""Windows by doubling against windows as they are told."""

import jax
import numpy as np
import pytest

from pie_jax.photo.windows import narrowest, widest, window_mean


@pytest.mark.parametrize("size", [1, 3, 5, 13, 41])
def test_windows_are_what_their_pixels_are(size):
    def found(of, values):
        return jax.jit(of, static_argnums=1)(values, size)

    values = np.random.default_rng(size).normal(size=(24, 50)).astype(np.float32)
    half = size // 2
    rows = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, constant_values=-np.inf), (size, size))
    np.testing.assert_array_equal(found(widest, values), rows.max(axis=(2, 3)))
    rows = np.lib.stride_tricks.sliding_window_view(np.pad(values, half), (size, size))
    np.testing.assert_allclose(found(window_mean, values), rows.mean(axis=(2, 3)), atol=1e-5)
    mask = values > -1.5
    rows = np.lib.stride_tricks.sliding_window_view(np.pad(mask, half, constant_values=True), (size, size))
    np.testing.assert_array_equal(found(narrowest, mask), rows.all(axis=(2, 3)))
