"""Batches in several programs: the portraits, their evidence and how they are resumed, as in batches of that size."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from pie_jax.config import EmbedConfig, EnergyConfig, GeneratorConfig, StageConfig
from pie_jax.portrait import embed_portraits
from pie_jax.portrait.micro_batch import micro_batch_of

ENERGY = EnergyConfig(terms=("synthesis",), render_resolution=16)
CONFIG = EmbedConfig(energy=ENERGY, stages=(StageConfig(space="w", steps=4, chunk=2, nearest_random_codes=2),
                                            StageConfig(space="w_plus", steps=4, chunk=2)))


@pytest.fixture(scope="module")
def pack():
    return toy.toy_pack(jax.random.key(0), parts=("generator", "regressor", "landmarks", "perceptual"), energy=ENERGY,
                        configs=toy.SMALLEST)


@pytest.fixture(scope="module")
def portraits(pack):
    return np.asarray(toy.portraits(jax.random.key(1), 3, pack=pack))


@pytest.fixture(scope="module")
def alone(pack, portraits):
    return embed_portraits(pack, portraits, config=CONFIG)


def test_one_in_a_program_is_the_same_in_every_batch(pack, portraits, alone):
    together = embed_portraits(pack, portraits, config=CONFIG, batch=3, micro_batch=1)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.w_plus, b.w_plus)
        np.testing.assert_array_equal(a.synthesis, b.synthesis)
        for name in b.trace:
            np.testing.assert_array_equal(a.trace[name], b.trace[name])
        assert a.report["metrics"] == b.report["metrics"]
        assert (a.report["batch"], a.report["micro_batch"]) == (3, 1)


def test_the_whole_batch_in_one_program_differs_by_rounding(pack, portraits, alone):
    whole = embed_portraits(pack, portraits, config=CONFIG, batch=3)
    assert whole[0].report["micro_batch"] == 3
    for a, b in zip(whole, alone, strict=True):
        np.testing.assert_allclose(a.w_plus, b.w_plus, atol=1e-4)


def test_the_last_part_is_filled_up_and_a_run_goes_on(pack, portraits):
    whole = embed_portraits(pack, portraits, config=CONFIG, batch=4, micro_batch=2)
    assert whole[0].report["micro_batch"] == 2
    saved = []

    def stop(event):
        if event.phase == "optimise" and event.step >= 6:
            saved.extend(event.checkpoints())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_portraits(pack, portraits, config=CONFIG, batch=4, micro_batch=2, progress=stop)
    assert len(saved) == 3
    resumed = embed_portraits(pack, portraits, config=CONFIG, batch=4, micro_batch=2, resume=saved)
    for a, b in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(a.w_plus, b.w_plus)


def test_an_encoder_guesses_for_every_part(pack, portraits, monkeypatch):
    from pie_jax.portrait import inversion

    seen = []

    def guess(_, images):
        seen.append(len(images))
        return np.zeros((len(images), toy.SMALLEST.generator.num_layers, toy.W_DIM), np.float32)

    monkeypatch.setattr(inversion, "guessed_codes", guess)
    encoding = dataclasses.replace(pack, weights={**pack.weights, "encoder": {}})
    stages = (StageConfig(space="w_plus", steps=0, encoded=True),)
    found = embed_portraits(encoding, portraits, config=dataclasses.replace(CONFIG, stages=stages), batch=3,
                            micro_batch=1)
    assert seen == [1, 1, 1] and not np.any([embedding.w_plus for embedding in found])


def test_how_many_go_together():
    small, large = GeneratorConfig(resolution=256), GeneratorConfig()

    def of(batch, generator, platform="cpu", **asked):
        return micro_batch_of(batch, generator=generator, platform=platform, **asked)

    assert of(16, small) == 4 and of(6, small) == 3 and of(1, small) == 1
    assert of(16, large) == 1 and of(16, large, asked=4) == 4 and of(3, large, asked=4) == 3
    assert of(16, large, platform="gpu") == 16
    with pytest.raises(ValueError, match="micro_batch"):
        of(16, large, asked=0)


def test_a_bad_number_is_refused(pack, portraits):
    with pytest.raises(ValueError, match="micro_batch: expected 1 or more, got 0"):
        embed_portraits(pack, portraits, config=CONFIG, batch=2, micro_batch=0)
