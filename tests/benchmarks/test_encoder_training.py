"""A training of an encoder is measured and resumed, at toy sizes."""

import jax
import toy

from benchmarks.encoder_training import measure


def test_a_training_is_measured_and_resumes_bit_identically():
    pack = toy.toy_pack(jax.random.key(0), parts=("generator", "perceptual"))
    row = measure(pack, batch=2, runs=3, sizes={"resolution": 16, "stage_sizes": (1,), "width": 8, "hidden": 8,
                                                "rounds": 1})
    assert row["resumed"] and row["finite"] and row["tflop_portrait"] >= 0 < row["temporary_mb"]
    assert (row["batch"], row["encoder_px"], row["resolution"]) == (2, 16, pack.configs.generator.resolution)
