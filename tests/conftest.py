"""Strict settings every test runs under; the compilation cache is shared between runs."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(scope="session")
def shared_portraits() -> pathlib.Path:
    """Photo-real test portraits beside the checkout; tests that need them skip where they are absent."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "portraits"
    if not folder.is_dir():
        pytest.skip("test portraits are absent: expected ../shared/portraits beside the checkout")
    return folder
