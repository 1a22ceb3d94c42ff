"""The axes of a search: an orthonormal basis in which styles follow a code, and steps as long as codes differ there."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from pie_jax.config import PRESETS, EmbedConfig, StageConfig
from pie_jax.pack.inference import map_z
from pie_jax.portrait import embed_portraits
from pie_jax.portrait.axes import axes_for

CONFIGS = dataclasses.replace(toy.SMALLEST, recognition=None)
STAGE = StageConfig(space="w_plus", steps=4, chunk=2, optimiser="principal_adam", learning_rate=0.1)


@pytest.mark.parametrize("architecture", ["stylegan1", "stylegan2"])
def test_axes_are_those_of_the_styles_and_as_long_as_codes_differ(architecture):
    generator = dataclasses.replace(CONFIGS.generator, architecture=architecture)
    pack = toy.toy_pack(jax.random.key(0), configs=dataclasses.replace(CONFIGS, **toy.layers_for(generator)))
    config = EmbedConfig(energy=pack.configs.energy, stages=(STAGE,))
    axes = axes_for(pack, config)
    vectors, scale = np.asarray(axes.vectors), np.asarray(axes.scale)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(scale)), atol=1e-5)

    name = {"stylegan1": "style", "stylegan2": "affine"}[architecture]
    blocks = pack.weights["generator"]["synthesis"].values()
    layers = [layer for block in blocks for layer in block.values() if isinstance(layer, dict)]
    styles = [np.asarray(layer[name]["weight"]) for layer in layers if name in layer]
    assert len(styles) == {"stylegan1": generator.num_layers, "stylegan2": generator.num_layers + 1}[architecture]
    # Along them the styles of all layers are moved by amounts that rise, and by no two together.
    changes = [vectors.T @ style for style in styles]  # [axes, channels] of each layer
    moved = sum(change @ change.T / change.shape[1] for change in changes)
    rises = np.diag(moved)
    assert (np.diff(rises) > -1e-5 * rises[-1]).all() and rises[-1] > 2 * np.median(rises)
    np.testing.assert_allclose(moved, np.diag(rises), atol=1e-5 * rises[-1])

    w = map_z(generator, pack.weights["generator"], jax.random.normal(jax.random.key(3), (4096, generator.z_dim)))
    spread = np.std(np.asarray(w) @ vectors, axis=0)
    due = np.sqrt(np.maximum(spread / spread.mean(), 0.1))
    np.testing.assert_allclose(scale, due, rtol=0.15)
    assert axes_for(pack, dataclasses.replace(config, stages=PRESETS["paper"])) is None


def test_a_search_along_them_lowers_the_energy():
    pack, early = toy.toy_pack(jax.random.key(0), configs=CONFIGS), []
    config = EmbedConfig(energy=pack.configs.energy, stages=(dataclasses.replace(STAGE, steps=20),))
    portraits = toy.portraits(jax.random.key(1), 1, pack=pack)

    def progress(now):
        if now.phase == "optimise" and now.step == STAGE.chunk:
            early.extend(now.checkpoints())

    found = embed_portraits(pack, portraits, config=config, progress=progress)[0]
    # The codes v that an energy is made of are drawn for each step: only the same steps can be compared.
    there = dataclasses.replace(early[0], state=early[0].state | {"state_0": found.w_plus[None]})
    again = embed_portraits(pack, portraits, config=config, resume=[there])[0]
    steps = slice(STAGE.chunk, STAGE.chunk + 4)
    assert (again.trace["energy"][steps] < found.trace["energy"][steps]).all()


def test_a_mapping_network_that_is_not_finite_is_named():
    pack = toy.toy_pack(jax.random.key(0), configs=CONFIGS)
    bad = jax.tree.map(lambda a: a.at[0].set(np.nan), pack.weights["generator"]["mapping"])
    pack = dataclasses.replace(pack, weights=pack.weights | {"generator": pack.weights["generator"] | {"mapping": bad}})
    config = EmbedConfig(energy=pack.configs.energy, stages=PRESETS["fast"])
    axes = axes_for(pack, config)
    np.testing.assert_array_equal(axes.vectors, np.eye(pack.configs.generator.w_dim))
    portrait = toy.portraits(jax.random.key(1), 1, pack=toy.toy_pack(jax.random.key(0), configs=CONFIGS))
    few = tuple(dataclasses.replace(stage, steps=2) for stage in PRESETS["fast"])
    embedding = embed_portraits(pack, portrait, config=dataclasses.replace(config, stages=few))[0]
    assert np.isfinite(embedding.w_plus).all()  # begun at the mean code, which needs no mapping
