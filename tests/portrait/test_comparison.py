"""How near a synthesis comes to its portrait."""

import jax
import numpy as np
import toy

from pie_jax.config import PRECISIONS
from pie_jax.energy import prepare_target
from pie_jax.portrait.comparison import compare


def test_descriptors_are_compared_in_float32_whatever_the_search_took():
    pack = toy.toy_pack(jax.random.key(0), parts=("generator", "recognition"))
    portraits = toy.portraits(jax.random.key(1), 2, pack=pack)
    generator = pack.configs.generator
    code = np.zeros((2, generator.num_layers, generator.w_dim), np.float32)
    plain, coarse = (prepare_target(pack, portraits, precision=PRECISIONS[name]) for name in ("float32", "bfloat16"))
    assert np.abs(np.float32(coarse.descriptor) - plain.descriptor).max() > 1e-5
    expected = compare(pack, code, plain)
    found = compare(pack, code, coarse, precision=PRECISIONS["bfloat16"])
    np.testing.assert_array_equal(found["identity_cosine"], expected["identity_cosine"])
    assert found["landmarks"] is None and found["psnr"].shape == (2,)
