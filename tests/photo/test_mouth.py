"""The frame of a mouth is the same for a training and for an edit; the painting lies in the opening."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pie_jax.config import MouthConfig
from pie_jax.nn.layers import initialise
from pie_jax.nn.mouth import MouthNet
from pie_jax.photo.composite import edited_portrait
from pie_jax.photo.layers import edit_layers, painted_part, prepare_photo, sources
from pie_jax.photo.mouth import frame_axes, frame_square, rows_of
from pie_jax.photo.windows import narrowest

CONFIG = MouthConfig()


def test_training_and_edits_frame_a_mouth_alike():
    corners = np.array([[100.0, 210.0], [160.0, 190.0]])
    square = frame_square(*corners, CONFIG)
    corner, axes = (np.asarray(a) for a in frame_axes(jnp.asarray(corners), CONFIG))
    above = rows_of(CONFIG).start
    for u, v in ((0, 0), (CONFIG.width, 0), (0, CONFIG.height), (30.5, 12.5)):
        expected = square.to_photo(np.array([u, v + above]) / CONFIG.width)
        np.testing.assert_allclose(corner + u * axes[0] + v * axes[1], expected, atol=1e-3)
    left, right = square.from_photo(corners) * CONFIG.width
    np.testing.assert_allclose([right[0] - left[0], right[1] - left[1]], [CONFIG.across, 0], atol=1e-6)


def with_mouth(pack, colour):
    """A pack whose painter knows one colour."""
    frame = jnp.zeros((1, CONFIG.height, CONFIG.width, 3))
    shapes = jax.eval_shape(partial(initialise, MouthNet(CONFIG)), jax.random.key(0), frame, frame[..., :1])
    weights = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    weights["out"]["bias"] = jnp.tile(jax.scipy.special.logit(jnp.asarray(colour)), 4)
    return dataclasses.replace(pack, weights={**pack.weights, "mouth": weights},
                               configs=pack.configs.with_part("mouth", CONFIG))


def opened(pack, fitted, value):
    expression = np.array(fitted.params.expression)
    expression[pack.morphable.expression_names.index("jaw_open")] += value
    return dataclasses.replace(fitted.params, expression=expression)


def test_an_opened_mouth_is_painted_and_a_closed_one_is_not(photo_pack, fitted):
    pack, target = with_mouth(photo_pack, (0.9, 0.1, 0.9)), opened(photo_pack, fitted, 1.5)
    layers = edit_layers(pack, prepare_photo(pack, fitted), target)
    painting = np.asarray(painted_part(layers))
    inside = np.asarray(layers.motion.mouth) > 0
    assert inside.sum() > 200 and painting[inside].mean() > 0.8
    rows, columns = np.nonzero(painting > 0.5)
    middle = np.asarray(layers.motion.mouth_corners).mean(axis=0) * len(painting)
    assert abs(columns.mean() - middle[0]) < 4 and rows.mean() > middle[1]
    image = edited_portrait(layers) / 255.0
    at = tuple((np.array([rows.mean(), columns.mean()]) * image.shape[0] / len(painting)).astype(int))
    assert image[at][0] > 0.6 and image[at][1] < 0.3  # magenta, as lit there
    photo, _, filled = sources(layers)
    assert np.asarray(filled)[inside].mean() > 0.8 and np.asarray(photo)[inside].mean() < 0.2
    still = edit_layers(pack, prepare_photo(pack, fitted), fitted.params)
    assert float(np.asarray(painted_part(still)).max()) == 0


@pytest.mark.parametrize("value", (1.5, 5.0))
def test_the_painting_covers_the_opening_however_wide(photo_pack, fitted, value):
    """A frame that the mouth reaches beyond would end in it as a straight edge."""
    pack, target = with_mouth(photo_pack, (0.9, 0.1, 0.9)), opened(photo_pack, fitted, value)
    layers = edit_layers(pack, prepare_photo(pack, fitted), target)
    inside = np.asarray(narrowest(layers.motion.mouth > 0, 3))
    assert inside.sum() > 100 and np.asarray(painted_part(layers))[inside].min() > 0.8


def test_without_the_part_lips_are_stretched(photo_pack, fitted):
    weights = {name: w for name, w in photo_pack.weights.items() if name != "mouth"}
    others = tuple(pair for pair in photo_pack.configs.others if pair[0] != "mouth")
    configs = dataclasses.replace(photo_pack.configs, others=others)
    pack = dataclasses.replace(photo_pack, weights=weights, configs=configs)
    layers = edit_layers(pack, prepare_photo(pack, fitted), opened(photo_pack, fitted, 1.5))
    assert layers.painting is None and edited_portrait(layers).std() > 1
