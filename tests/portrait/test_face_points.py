"""Whose 66 points a photo is fitted by: the face mesh's, the pack's own network's, or the user's."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax import embed_portraits
from pie_jax.config import EmbedConfig, EncoderConfig, EnergyConfig, StageConfig
from pie_jax.nn.encoder import Encoder
from pie_jax.nn.layers import initialise
from pie_jax.pack import Manifest
from pie_jax.pack.inference import find_landmarks
from pie_jax.photo.align import whole
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.portrait import face_points
from pie_jax.portrait.face_points import fit_face, own_points


@pytest.fixture(scope="module")
def pack():
    """A toy pack with an encoder."""
    made = toy.toy_pack(jax.random.key(0), parts=("generator", "landmarks"), configs=toy.SMALLEST)
    generator = made.configs.generator
    config = EncoderConfig(num_layers=generator.num_layers, w_dim=generator.w_dim, axes=3, stage_sizes=(1, 1), width=8,
                           resolution=generator.resolution, hidden=8, rounds=1)
    image = np.zeros((1, generator.resolution, generator.resolution, 3), np.float32)
    code = np.zeros((1, generator.num_layers, generator.w_dim), np.float32)
    weights = initialise(Encoder(config), jax.random.key(1), image, image, code)
    return dataclasses.replace(made, weights={**made.weights, "encoder": weights},
                               configs=made.configs.with_part("encoder", config))


def known_by(pack, psnr_db):
    """The pack, as if its generator came so near to its own people."""
    return dataclasses.replace(pack, manifest=Manifest(training={"generator": {"held_out": {"psnr_db": psnr_db}}}))


def test_a_pack_s_own_network_is_asked_about_faces_that_its_generator_knows(pack):
    portrait = np.asarray(toy.portraits(jax.random.key(1), 1, pack=pack))[0]
    found = own_points(known_by(pack, 5.0), portrait)
    camera = pack.configs.camera
    in_crop = np.asarray(jax.jit(partial(find_landmarks, pack.configs))(pack.weights, portrait[None]))[0]
    np.testing.assert_allclose(found, in_crop * camera.crop_size + (camera.crop_x, camera.crop_y), atol=1e-5)
    assert own_points(known_by(pack, 60.0), portrait) is None  # a guess so far off is another kind of picture
    assert own_points(pack, portrait) is None  # nobody measured how near it comes
    less = dataclasses.replace(pack, weights={part: pack.weights[part] for part in ("generator", "encoder")})
    assert own_points(known_by(less, 5.0), portrait) is None


def test_known_landmarks_take_the_place_of_those_that_the_pack_finds(pack):
    portraits = np.asarray(toy.portraits(jax.random.key(1), 3, pack=pack))
    energy = EnergyConfig(terms=("synthesis",), render_resolution=16)
    config = EmbedConfig(energy=energy, stages=(StageConfig(steps=0),))
    camera, known = pack.configs.camera, np.random.default_rng(0).uniform(0.3, 0.7, (66, 2))
    plain = embed_portraits(pack, portraits, config=config, batch=2)
    found = embed_portraits(pack, portraits, config=config, batch=2, landmarks=[known, None, None])
    in_crop = (known - (camera.crop_x, camera.crop_y)) / camera.crop_size
    np.testing.assert_allclose(found[0].portrait_landmarks, in_crop, atol=1e-6)
    np.testing.assert_array_equal(found[1].portrait_landmarks, plain[1].portrait_landmarks)
    with pytest.raises(ValueError, match="landmarks: expected 3 entries, got 1"):
        embed_portraits(pack, portraits, config=config, landmarks=[known])


def test_the_points_whose_fit_shows_the_face_better_are_taken(photo_pack, fitted, monkeypatch):
    """The sample photo: points that are far off against those of the face mesh."""
    size = fitted.portrait.shape[0]
    square, picture = whole((size, size)), Image.fromarray(fitted.portrait)

    def fit(points, own, **options):
        monkeypatch.setattr(face_points, "own_points", lambda pack, portrait: own)
        return fit_face(photo_pack, picture, square, points * size, **options)

    better, worse = fitted.landmarks, fitted.landmarks + np.float32([0.1, 0.05])
    taken = fit(worse, better)
    assert taken.landmarks_by == "landmarks" and taken.residual_px < 2.5
    np.testing.assert_array_equal(taken.landmarks, better)
    kept = fit(better, worse)
    assert kept.landmarks_by == "face_mesh"
    np.testing.assert_allclose(kept.params.to_vector(), fitted.params.to_vector(), atol=0.05)
    strangers = []
    assert fit(worse, better, known=True, before_fit=strangers.append).landmarks_by == "user"
    fit(better, worse, before_fit=strangers.append), fit(better, None, before_fit=strangers.append)
    assert strangers == [True, False, True]
    assert FittedPhoto.from_arrays(taken.to_arrays()).landmarks_by == "landmarks"
    older = {name: array for name, array in taken.to_arrays().items() if name != "landmarks_by"}
    assert FittedPhoto.from_arrays(older).landmarks_by == "face_mesh"
