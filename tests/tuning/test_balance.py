"""The rule that sets the energy's weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from pie_jax.config import StageConfig
from pie_jax.tuning import balance


def test_weights_give_the_asked_pulls():
    pull = {"l2": 2.0, "perceptual": 40.0, "identity": 0.1, "edit_photometric": 0.3, "edit_landmark": 60.0,
            "invariance_photometric": 0.5, "invariance_landmark": 90.0, "recognition_w": 4.0, "recognition_edit": 0.4}
    got = balance._weights(pull, balance.RATIOS)
    for name in ("perceptual", "identity", "recognition_w", "recognition_edit"):
        assert got[f"weight_{name}"] * pull[name] == pytest.approx(
            balance.LEVEL * balance.RATIOS[name] * pull["l2"], rel=0.01)
    for term in ("edit", "invariance"):
        photometric, landmark = pull[f"{term}_photometric"], got["weight_landmark"] * pull[f"{term}_landmark"]
        assert 0.8 < photometric / landmark < 1.25
        assert got[f"weight_{term}"] * np.hypot(photometric, landmark) == pytest.approx(
            balance.LEVEL * balance.RATIOS[term] * pull["l2"], rel=0.01)


@dataclasses.dataclass(frozen=True)
class Known:
    """Parts, not in alphabetical order, whose gradients have the lengths 3, 5 and 7."""

    def parts(self, inputs, latent, keys):
        first = latent[:, 0, 0]
        return {"l2": 3.0 * first, "edit": 5.0 * first, "identity": 7.0 * first}


def test_pulls_are_the_gradients_of_the_parts_they_are_named_after():
    keys = jax.random.split(jax.random.key(0), 2)
    pulls = balance._pulls(Known(), None, jnp.ones((2, 3, 4)), keys, draws=1)
    assert pulls == {"edit": 5.0, "identity": 7.0, "l2": 3.0}


def test_a_pack_with_synthesis_alone_is_balanced_and_says_why():
    configs = dataclasses.replace(toy.CONFIGS, **toy.layers_for(dataclasses.replace(toy.GENERATOR, resolution=8)))
    pack = toy.toy_pack(jax.random.key(0), configs=configs, parts=("generator", "perceptual"))
    stages = (StageConfig(space="w", steps=4, chunk=4),)
    portraits = toy.portraits(jax.random.key(1), 2, pack=pack)
    config, evidence = balance.balance_weights(jax.random.key(2), pack, portraits, near=stages, draws=1)
    assert config.weight_l2 == balance.LEVEL and config.weight_perceptual != 1.0 and config.weight_edit == 1.0
    assert set(evidence["pull"]) == {"mean", "near"} and set(evidence["pull"]["near"]) == {"l2", "perceptual"}
    pulls = [evidence["pull"][place] for place in ("mean", "near")]
    ratio = np.prod([config.weight_perceptual / config.weight_l2 * p["perceptual"] / p["l2"] for p in pulls]) ** 0.5
    assert ratio == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("finer", [0.001, 3.0])
def test_partial_images_stand_for_the_full_ones_only_where_they_are_like_them(finer):
    """`finer`: how much the block above the partial image adds to it."""
    generator = dataclasses.replace(toy.GENERATOR, resolution=64)
    pack = toy.toy_pack(jax.random.key(0), configs=dataclasses.replace(toy.CONFIGS, **toy.layers_for(generator)))
    for block, factor in (("b8", 0.1), ("b16", 0.1), ("b32", finer), ("b64", finer)):
        for name in ("weight", "bias"):
            pack.weights["generator"]["synthesis"][block]["torgb"][name] *= factor
    pack = dataclasses.replace(pack, configs=dataclasses.replace(
        pack.configs, energy=dataclasses.replace(pack.configs.energy, edit_detail=0.3)))
    px, near_db = balance.detail_fidelity(jax.random.key(1), pack, count=3)
    assert px == 16 and (near_db > balance.DETAIL_DB) == (finer < 1)
    full = dataclasses.replace(pack, configs=dataclasses.replace(
        pack.configs, energy=dataclasses.replace(pack.configs.energy, edit_detail=9.0)))
    assert balance.detail_fidelity(jax.random.key(1), full) == (64, float("inf"))
