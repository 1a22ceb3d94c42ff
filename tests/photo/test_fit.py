"""The fit of points that the model itself made, and of the sample photo."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import project_landmarks, render
from pie_jax.pack.inference import crop_camera
from pie_jax.photo.fit import fit_photos


def test_the_model_fits_itself(photo_pack):
    rng = np.random.default_rng(0)
    truth = FaceParams.zeros(leading=(2,))
    changes = {"rotation": 0.2, "identity": 0.5, "expression": 0.3, "illumination": 0.1}
    truth = FaceParams(**{name: np.asarray(getattr(truth, name)) + rng.normal(
        size=getattr(truth, name).shape) * changes.get(name, 0.0) for name in vars(truth)})
    truth = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), truth)
    camera = photo_pack.configs.camera
    points = jax.jit(partial(project_landmarks, camera=camera, resolution=1))(photo_pack.morphable, truth)
    draw = jax.jit(render, static_argnames=("camera", "resolution"))
    portraits = draw(photo_pack.morphable, truth, camera=camera, resolution=128).image
    fit = fit_photos(photo_pack, portraits, points)
    assert fit.residual_px.max() < 1.0
    assert np.abs(np.degrees(fit.params.rotation - truth.rotation)).max() < 5.0
    again = draw(photo_pack.morphable, fit.params, camera=crop_camera(camera), resolution=64)
    assert np.isfinite(np.asarray(again.image)).all()


def test_the_photo_is_fitted_within_a_few_pixels(fitted):
    assert fitted.residual_px < 2.5 and abs(np.degrees(fitted.params.rotation)).max() < 20
    assert fitted.matte.mean() > 60 and fitted.matte[:20, :20].mean() < 40  # a person, and a corner of background
