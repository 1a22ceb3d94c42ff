"""What bfloat16 in each network alone does to the energy of a portrait, to its gradient, and to the time of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.components import energy_gradient
from benchmarks.quality.portraits import Portrait
from pie_jax import energy, optimise
from pie_jax.config import IN_BFLOAT16, PRECISIONS, PrecisionConfig
from pie_jax.pack import Pack

POLICIES: Mapping[str, PrecisionConfig] = PRECISIONS | {
    part: PrecisionConfig(bfloat16=(part,)) for part in IN_BFLOAT16}


class Compiled:
    """The energy of one portrait and its gradient under one policy, compiled once for all portraits."""

    def __init__(self, pack: Pack, precision: PrecisionConfig):
        self.pack, self.precision = pack, precision
        self.run = jax.jit(energy_gradient(energy.portrait_energy(pack, precision=precision)))

    def inputs(self, portrait: Portrait):
        target = energy.prepare_target(self.pack, jnp.asarray(portrait.image)[None], precision=self.precision)
        return energy.energy_inputs(self.pack, target)

    def at(self, portrait: Portrait, w_plus: np.ndarray):
        """(energy [1], terms, gradient [1, L, D]) at a code [L, D], with the draws of the portrait's seed."""
        keys = optimise.portrait_keys(np.asarray([portrait.seed], np.uint32))
        return jax.device_get(self.run(self.inputs(portrait), jnp.asarray(w_plus)[None], keys))

    def timed(self, portrait: Portrait, w_plus: np.ndarray):
        """() -> one evaluation, its inputs made beforehand."""
        inputs, latent = self.inputs(portrait), jnp.asarray(w_plus)[None]
        return lambda: self.run(inputs, latent, optimise.portrait_keys(np.asarray([portrait.seed], np.uint32)))


def network_rows(pack: Pack, portraits: Sequence[Portrait], embedded: Sequence[np.ndarray]) -> list[dict]:
    """A row for each of POLICIES: how far it is from float32 at w_mean and at the portraits' codes [L, D], and ms.

    Of the portraits the worst: `energy` and `terms` are relative differences, `cosine` and `length` those of the
    gradient to w_plus against float32's.
    """
    w_mean = np.broadcast_to(np.asarray(pack.weights["generator"]["w_mean"]), embedded[0].shape)
    places = {"w_mean": [w_mean] * len(portraits), "embedded": list(embedded)}
    found, calls = {}, {}
    for name, precision in POLICIES.items():
        compiled = Compiled(pack, precision)
        found[name] = {place: [compiled.at(portrait, code) for portrait, code in zip(portraits, codes, strict=True)]
                       for place, codes in places.items()}
        calls[name] = compiled.timed(portraits[0], embedded[0])
    spreads = harness.run_blocked(calls)
    return [{"policy": name, "bfloat16": list(POLICIES[name].bfloat16), "portraits": len(portraits)}
            | {place: apart(found[name][place], found["float32"][place]) for place in places}
            | {key: value for key, value in spreads[name].row().items() if key in ("ms", "cpu_ms", "runs")}
            for name in POLICIES]


def apart(found: Sequence, exact: Sequence) -> dict:
    """The worst of several evaluations against their float32 ones: see `network_rows`."""
    def relative(a, b):
        return float(abs(a[0] - b[0]) / max(abs(b[0]), 1e-12))

    pairs = list(zip(found, exact, strict=True))
    gradients = [(a[2].ravel().astype(np.float64), b[2].ravel().astype(np.float64)) for a, b in pairs]
    lengths = [np.linalg.norm(a) / np.linalg.norm(b) for a, b in gradients]
    return {"energy": max(relative(a[0], b[0]) for a, b in pairs),
            "terms": {name: max(relative(a[1][name], b[1][name]) for a, b in pairs) for name in exact[0][1]},
            "cosine": float(min(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in gradients)),
            "length": float(max(lengths, key=lambda length: abs(length - 1.0)))}
