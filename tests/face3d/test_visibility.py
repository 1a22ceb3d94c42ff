"""Which triangle each pixel sees: what its lists are made by."""

import jax
import numpy as np
import pytest

from pie_jax.face3d.visibility import _prefix_sum


@pytest.mark.parametrize("count", [1, 31, 32, 33, 1024, 1025, 40_000])
def test_a_prefix_sum_is_exact(count):
    counts = np.random.default_rng(count).integers(0, 60_000, count).astype(np.int32)
    assert np.array_equal(jax.jit(_prefix_sum)(counts), np.cumsum(counts, dtype=np.int32))
