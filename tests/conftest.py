"""Strict settings every test runs under; the compilation cache is shared between runs."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

from pie_jax import runtime

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
runtime.choose_bounds(runtime.Backend(platform="cpu").bounds)  # no command in this process measures others


_MANY = 30_000  # memory maps; Linux lets a process have 65 530, and every program of XLA:CPU takes some


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Let go of programs between modules, before a process has as many maps as it may."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > _MANY:
        from pie_jax import programs

        programs.forget()
        jax.clear_caches()


@pytest.fixture(scope="session")
def shared_models() -> pathlib.Path:
    """Networks as their owners publish them, beside the checkout; tests that need them skip where they are absent."""
    folder = pathlib.Path(__file__).parents[2] / "shared" / "models"
    if not folder.is_dir():
        pytest.skip("published networks are absent: expected ../shared/models beside the checkout")
    return folder


@pytest.fixture(scope="session")
def photo_pack():
    """The shipped pack, as far as photos need it."""
    from pie_jax.pack import load_pack
    from pie_jax.photo.fitted import PARTS

    return load_pack("demo", parts=PARTS)


@pytest.fixture(scope="session")
def photo():
    """The sample photo that ships, a Pillow image."""
    from PIL import Image

    from pie_jax.pack import find_pack

    with Image.open(pathlib.Path(find_pack("demo")) / "photo.png") as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def fitted(photo_pack, photo):
    """That photo found, framed and fitted."""
    from pie_jax.photo.fitted import fit_photo, frame_photo

    square, landmarks = frame_photo(photo_pack, photo)
    return fit_photo(photo_pack, photo, square, landmarks)


@pytest.fixture(scope="session")
def source(fitted):
    """Its FaceParams."""
    return jax.tree.map(np.asarray, fitted.params)
