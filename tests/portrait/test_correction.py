"""Edits of a photo's pixels, corrected by the generator of its embedding."""

import dataclasses

import jax
import numpy as np
import pytest

from pie_jax.config import EmbedConfig
from pie_jax.pack import load_pack
from pie_jax.photo.windows import narrowest, widest
from pie_jax.portrait import Embedding, PhotoEditor
from pie_jax.portrait.matching import generator_trust
from pie_jax.portrait.photo_edits import _similarity
from pie_jax.portrait.reading import read_codes


@pytest.fixture(scope="module")
def pack():
    return load_pack("demo")


@pytest.fixture(scope="module")
def embedding(pack, fitted):
    """The sample photo with the generator's mean code: its report, not its picture, says how well it fits."""
    generator = pack.configs.generator
    w_plus = np.tile(np.asarray(pack.weights["generator"]["w_mean"], np.float32), (generator.num_layers, 1))
    params = jax.tree.map(lambda a: np.asarray(a)[0], read_codes(pack, w_plus[None]))
    return Embedding(w_plus=w_plus, params=params, portrait_params=None, landmarks=None, portrait_landmarks=None,
                     trace={}, config=EmbedConfig(energy=pack.configs.energy), pack_name=pack.name,
                     pack_hash=pack.hash, report={"metrics": {"psnr_db": 20.0}}, photo=fitted)


def with_psnr(embedding, short_db, pack):
    own = pack.manifest["training"]["generator"]["held_out"]["psnr_db"]
    return dataclasses.replace(embedding, report={"metrics": {"psnr_db": own - short_db}})


@pytest.mark.parametrize("short_db, trust", [(-1.0, 1.0), (4.0, 1.0), (6.0, 0.5), (8.0, 0.0), (12.0, 0.0)])
def test_trust_falls_from_four_to_eight_db(pack, embedding, short_db, trust):
    assert generator_trust(pack.manifest, with_psnr(embedding, short_db, pack)) == pytest.approx(trust, abs=0.003)
    assert generator_trust({}, with_psnr(embedding, short_db, pack)) == 0.0  # a pack that knows no figure of its own


def test_a_trusted_generator_corrects_what_is_asked_and_nothing_else(pack, fitted, embedding):
    trusted = PhotoEditor(pack, fitted, size=256, embedding=with_psnr(embedding, 4.0, pack), corrections=0)
    plain = PhotoEditor(pack, fitted, size=256, embedding=with_psnr(embedding, 12.0, pack))
    np.testing.assert_array_equal(trusted.edit(), plain.edit())  # nothing is asked
    target = trusted.target(light=(60.0, 20.0, 0.8))
    assert plain.layers(target).correction is None
    layers = trusted.layers(target)
    assert layers.correction is not None and float(layers.correction.share.max()) == pytest.approx(1.0, abs=1e-6)
    planes = np.abs(np.asarray(layers.correction.planes)).max(axis=0)
    outside = np.asarray(layers.prepared.matte) < 0.01
    assert outside.mean() > 0.1 and (planes[narrowest(outside, 9)] == 0).all()
    assert planes.max() > 0.02 and (planes > 0).mean() > 0.1


def test_the_outlines_of_a_turned_head_are_the_generators_where_it_is_trusted_fully(pack, fitted, embedding):
    layers = {}
    for short_db in (4.0, 6.0):
        editor = PhotoEditor(pack, fitted, size=256, embedding=with_psnr(embedding, short_db, pack), corrections=0)
        layers[short_db] = editor.layers(editor.target(yaw=20.0))
    motion = layers[4.0].motion
    moved, beyond_the_face = np.hypot(*np.asarray(motion.displacement)), widest(np.asarray(motion.face) > 0, 3)
    fully, half = (np.asarray(layers[short_db].correction.share) for short_db in (4.0, 6.0))
    beyond_the_face = ~np.asarray(beyond_the_face) & (moved > 4)
    assert (fully[beyond_the_face] > 0.99).mean() > 0.3 and (half[beyond_the_face] == 0).all()
    assert (fully[moved == 0] == 0).all() and fully.max() <= 1 + 1e-6
    planes = np.asarray(layers[4.0].correction.planes)
    np.testing.assert_array_equal(planes[:, moved == 0], 0.0)


def test_a_turn_scale_and_shift_is_found():
    places = np.random.default_rng(0).uniform(0, 1, (66, 2))
    wanted = np.array([[0.9, -0.2, 0.1], [0.2, 0.9, -0.3]])
    np.testing.assert_allclose(_similarity(places, places @ wanted[:, :2].T + wanted[:, 2]), wanted, atol=1e-12)
