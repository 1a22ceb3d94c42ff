"""The shipped pack and its sample photo, loaded once."""

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from pie_jax.pack import find_pack, load_pack
from pie_jax.photo.fitted import PARTS, fit_photo, frame_photo


@pytest.fixture(scope="session")
def pack():
    return load_pack("demo", parts=PARTS)


@pytest.fixture(scope="session")
def photo():
    with Image.open(pathlib.Path(find_pack("demo")) / "photo.png") as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def fitted(pack, photo):
    square, face = frame_photo(pack, photo)
    return fit_photo(pack, photo, square, face)


@pytest.fixture(scope="session")
def source(fitted):
    return jax.tree.map(np.asarray, fitted.params)
