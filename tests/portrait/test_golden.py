"""One toy portrait's whole embedding beside what it was: a change of numerics anywhere on its way shows here.

It is embedded in a process of its own, on one processor, whose programs are compiled as users' are.
`PYTHONPATH=.:tests/support python tests/portrait/test_golden.py` writes the file anew, where a change is meant.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import toy

from pie_jax import runtime
from pie_jax.config import EmbedConfig, StageConfig
from pie_jax.io import read_npz, write_npz
from pie_jax.portrait import embed_portraits

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/embedding.npz"
STAGES = (StageConfig(space="w", steps=4, chunk=2, optimiser="adam", learning_rate=0.05),
          StageConfig(space="w_plus", steps=4, chunk=2, learning_rate=1.0))
TOLERANCE = 1e-4  # of an array's largest value: the order in which processors round sums
# The toy's random network hardly tells portraits apart: square distances of 1e-9 to 1e-8 between unit vectors.
FLOOR = {"trace/recognition": 1e-9}
# Versions of JAX draw other samples of v, and Adam's first steps carry roundings on: there only this is compared.
ANY_VERSION = {"portrait_params": 1e-4, "portrait_landmarks": 1e-4, "trace/identity": 1e-2, "trace/invariance": 1e-2,
               "params": 0.05, "metric/psnr_db": 0.05, "metric/ssim": 0.1, "metric/identity_cosine": 1e-2}


def arrays(portrait: np.ndarray) -> dict[str, np.ndarray]:
    """Code, parameters, landmarks, every term over the steps, metrics of a portrait, uint8 [R, R, 3]."""
    pack = toy.toy_pack(jax.random.key(0))
    config = EmbedConfig(energy=pack.configs.energy, stages=STAGES, seed=3)
    embedding = embed_portraits(pack, np.float32(portrait[None]) / 255, config=config)[0]
    found = {"w_plus": embedding.w_plus, "params": embedding.params.to_vector(),
             "portrait_params": embedding.portrait_params.to_vector(), "landmarks": embedding.landmarks,
             "portrait_landmarks": embedding.portrait_landmarks}
    found |= {f"trace/{name}": values for name, values in embedding.trace.items()}
    found |= {f"metric/{name}": np.float32(value) for name, value in embedding.report["metrics"].items()}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def test_a_toy_portrait_is_embedded_as_it_was(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "programs")  # the cache does not tell programs by flags
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests/support")))
    done = subprocess.run([sys.executable, __file__, tmp_path / "found.npz"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    golden, found = read_npz(GOLDEN), read_npz(tmp_path / "found.npz")
    assert found.pop("jax") == jax.__version__ and np.array_equal(found.pop("portrait"), golden.pop("portrait"))
    same_version = str(golden.pop("jax")) == jax.__version__
    assert set(found) == set(golden)
    for name, was in golden.items():
        tolerance = TOLERANCE if same_version else ANY_VERSION.get(name)
        if tolerance is not None:
            allowed = tolerance * np.abs(was).max() + FLOOR.get(name, 0.0)
            np.testing.assert_allclose(found[name], was, rtol=0, atol=allowed, err_msg=name)
    assert np.ptp(golden["w_plus"], axis=0).max() > 1e-3  # the rows of W+ did part


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):  # one processor: how many there are decides how sums are split
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    runtime.configure(device="cpu")
    own = read_npz(GOLDEN)["portrait"]  # its very bits: the draws of its search come from their hash
    path = pathlib.Path(sys.argv[1]) if sys.argv[1:] else GOLDEN
    write_npz(path, {**arrays(own), "portrait": own, "jax": np.array(jax.__version__)}, compress=True)
