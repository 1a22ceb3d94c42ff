"""What the generator's edit corrects of a photo's moved pixels."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from pie_jax.photo.composite import edited_photo, edited_portrait
from pie_jax.photo.correction import corrected
from pie_jax.photo.layers import edit_layers, prepare_photo, sources
from pie_jax.photo.maps import unpack_image
from pie_jax.photo.windows import narrowest

SAME = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def prepared(photo_pack, fitted):
    return prepare_photo(photo_pack, fitted, size=256)


@pytest.fixture(scope="module")
def turned(fitted):
    return dataclasses.replace(fitted.params, rotation=fitted.params.rotation + np.float32([0, 0.2, 0]))


@pytest.fixture(scope="module")
def layers(photo_pack, prepared, turned):
    return edit_layers(photo_pack, prepared, turned)


@pytest.fixture(scope="module")
def shown(prepared):
    return np.array(unpack_image(np.asarray(prepared.portrait)))


def well_within(layers):
    return np.asarray(narrowest(layers.motion.face > 0, 61))


def test_a_generator_that_does_what_the_pixels_do_corrects_nothing_that_the_photo_shows(photo_pack, layers, turned,
                                                                                          shown):
    moved = np.array(edited_portrait(layers))
    found = corrected(photo_pack, layers, turned, before=shown, after=moved, place=SAME, trust=1.0)
    assert np.abs(np.asarray(found.correction.planes)).max() == 0
    assert np.array_equal(edited_portrait(found), moved)


def test_broad_light_follows_the_generator_and_detail_stays_the_photo_s(photo_pack, prepared, layers, turned, shown):
    moved = edited_portrait(layers).astype(np.float32)
    brighter = np.clip(moved + 30, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 25, moved.shape)
    rough = np.clip(moved + 30 + noise, 0, 255).astype(np.uint8)
    inner = well_within(layers) & np.asarray(layers.motion.seen > 0.99) & (moved.max(axis=-1) < 200)
    results = [edited_portrait(corrected(photo_pack, layers, turned, before=shown, after=after, place=SAME,
                                         trust=trust)).astype(np.float32)
               for after, trust in ((brighter, 1.0), (rough, 1.0), (brighter, 0.5))]
    added = [np.median((result - moved)[inner]) for result in results]
    np.testing.assert_allclose(added, [22.5, 22.5, 11.25], atol=2.5)
    assert (results[1] - results[0])[inner].std() < 5 < noise.std()


def test_what_the_photo_hides_is_the_generator_s(photo_pack, layers, turned, shown):
    inner = np.asarray(narrowest(layers.motion.face > 0, 61))
    rows, columns = np.nonzero(inner)
    y, x = int(rows.mean()), int(columns.mean())
    hides = dataclasses.replace(layers.motion, seen=layers.motion.seen.at[y - 8:y + 9, x - 8:x + 9].set(0.0))
    green = np.zeros_like(shown) + np.uint8([0, 200, 0])
    found, less = (corrected(photo_pack, dataclasses.replace(layers, motion=hides), turned, before=shown, after=green,
                             place=SAME, trust=trust) for trust in (1.0, 0.8))
    middle = np.s_[y - 4:y + 5, x - 4:x + 5]
    assert np.abs(edited_portrait(found)[middle].astype(int) - [0, 200, 0]).max() < 12
    _, generated, filled = (np.asarray(part) for part in sources(found))
    assert generated[middle].min() > 0.99 and filled[middle].max() < 0.01
    edge = ~np.asarray(narrowest(layers.motion.face > 0, 9)) & (np.asarray(layers.motion.seen) < 0.5)
    assert edge.any() and generated[edge].max() > 0.9  # there it is an outline, which may be the generator's
    generated = np.asarray(sources(less)[1])
    assert generated[edge].max() < 0.2  # or not be shown at all, hidden or not


def test_a_moved_frame_of_the_generator_is_put_back(photo_pack, layers, turned, shown):
    moved = np.array(edited_portrait(layers))
    shifted = np.array(Image.fromarray(moved).transform((256, 256), Image.Transform.AFFINE, (1, 0, -16, 0, 1, 8),
                                                        Image.Resampling.NEAREST))
    place = np.array([[1.0, 0.0, 16 / 256], [0.0, 1.0, -8 / 256]])
    found = corrected(photo_pack, layers, turned, before=shown, after=shifted, place=place, trust=1.0)
    inner = np.asarray(layers.motion.face > 0)
    assert np.abs(edited_portrait(found).astype(int) - moved)[inner].max() <= 3


def test_the_whole_photo_has_it_too_and_nothing_else_changes(photo_pack, photo, fitted, layers, turned, shown):
    pixels = np.array(photo)
    plain, _ = edited_photo(pixels, fitted, layers)
    moved = edited_portrait(layers).astype(np.float32)
    darker = np.clip(moved - 30, 0, 255).astype(np.uint8)
    found = corrected(photo_pack, layers, turned, before=shown, after=darker, place=SAME, trust=1.0)
    out, changed = edited_photo(pixels, fitted, found)
    assert np.array_equal(out[~changed], pixels[~changed])
    corrected_too = (plain != out).any(axis=-1)
    assert corrected_too.mean() > 0.02 and not corrected_too[~changed].any()
    assert (plain.astype(int) - out)[corrected_too].mean() > 10
