"""The light of faces whose light and skin are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import light, light_direction, render
from pie_jax.pack.inference import crop_camera
from pie_jax.photo.light import find_light

LAMPS = ((50.0, 10.0, 0.6), (-40.0, 30.0, 0.6))


@pytest.fixture(scope="module")
def lit_faces(photo_pack):
    """Two faces [2] turned by 11 degrees, one of dark and one of light skin, each in a lamp of `LAMPS`, and crops."""
    camera = crop_camera(photo_pack.configs.camera)

    @jax.jit
    def made(model):
        params = FaceParams.zeros(leading=(2,))
        illumination = jnp.stack([light(*lamp, ambient=0.38) for lamp in LAMPS])
        texture = jnp.zeros((2, 80)).at[:, 0].set(jnp.array([-1.8, 0.5]))
        params = FaceParams(**{**vars(params), "illumination": illumination, "texture": texture,
                               "rotation": params.rotation.at[:, 1].set(0.2)})
        return params, render(model, params, camera, resolution=64).image

    return made(photo_pack.morphable)


def found(pack, params, crops):
    """Azimuth, elevation, intensity [2] and texture [2, 80] that are found where only the geometry is known."""
    unknown = FaceParams(**{**vars(params), "illumination": jnp.zeros((2, 27)), "texture": jnp.zeros((2, 80))})
    illumination, texture, _ = jax.jit(find_light, static_argnums=2)(
        pack.morphable, crops, crop_camera(pack.configs.camera), unknown)
    return [np.asarray(value) for value in light_direction(illumination)], np.asarray(texture)


def test_light_is_told_from_skin(photo_pack, lit_faces):
    params, crops = lit_faces
    (azimuth, elevation, intensity), texture = found(photo_pack, params, crops)
    np.testing.assert_allclose(azimuth, [lamp[0] for lamp in LAMPS], atol=10)
    np.testing.assert_allclose(elevation, [lamp[1] for lamp in LAMPS], atol=10)
    np.testing.assert_allclose(intensity, [lamp[2] for lamp in LAMPS], atol=0.15)
    np.testing.assert_allclose(texture[:, 0], params.texture[:, 0], atol=0.6)


def test_hair_over_a_third_of_a_face_does_not_change_where_its_light_comes_from(photo_pack, lit_faces):
    params, crops = lit_faces
    (azimuth, elevation, _), _ = found(photo_pack, params, crops.at[:, :24].set(0.05))
    np.testing.assert_allclose(azimuth, [lamp[0] for lamp in LAMPS], atol=25)
    np.testing.assert_allclose(elevation, [lamp[1] for lamp in LAMPS], atol=30)


def test_without_a_face_light_is_what_is_usual(photo_pack, lit_faces):
    params, _ = lit_faces
    away = FaceParams(**{**vars(params), "translation": params.translation.at[:, 0].set(50.0)})
    (azimuth, _, intensity), texture = found(photo_pack, away, jnp.ones((2, 64, 64, 3)))
    assert np.abs(azimuth).max() < 5 and (intensity > 0.2).all() and np.abs(texture).max() < 1e-3


@pytest.mark.parametrize("value", [0.0, 1.0, 40.0])
def test_a_crop_of_one_colour_has_finite_light(photo_pack, lit_faces, value):
    params, crops = lit_faces
    angles, texture = found(photo_pack, params, jnp.full_like(crops, value))
    assert all(np.isfinite(angle).all() for angle in angles) and np.abs(texture).max() < 10
