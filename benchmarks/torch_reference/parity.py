"""The two implementations on the same inputs: asserted before anything is timed."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import torch

from benchmarks.components import energy_gradient
from benchmarks.torch_reference.energy import TorchEnergy
from benchmarks.torch_reference.tensors import tensor

TOLERANCE = 1e-3
BESIDE = (1e-4, -1e-4, 2e-4, -2e-4)  # relative, to the codes
NOTHING = 1e-6  # of the energy


def rows_of(described, inputs, keys):
    """What `described` draws from the pool for `keys` [B], as tensors: (rows, choice) of a `TorchEnergy`."""
    if not described.needs_edits:
        return None, None
    rows, choice = described._draw(inputs.pool, jax.random.clone(keys))  # on purpose the draw that the energy makes
    rows = {name: tensor(getattr(rows, name)) for name in ("images", "params_vector", "landmarks")}
    return rows, None if choice is None else tensor(choice).long()


@partial(jax.jit, static_argnames="described")
def jax_gradient(described, inputs, latent, keys):
    """Energies [B], terms and the gradient [B, L, D] of their sum."""
    return energy_gradient(described)(inputs, latent, keys)


def torch_gradient(energy: TorchEnergy, latent, rows, choice=None):
    """The same three as numpy arrays, from a `TorchEnergy`."""
    moving = tensor(latent).requires_grad_(True)
    energies, terms = energy(moving, rows, choice)
    gradient = torch.autograd.grad(energies.sum(), moving)[0]
    return energies.detach().numpy(), {k: v.detach().numpy() for k, v in terms.items()}, gradient.numpy()


def relative(found, reference, *, least: float = 1e-30) -> float:
    """|found - reference| / |reference| in the Euclidean norm; the divisor is at least `least`."""
    found, reference = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    return float(np.linalg.norm(found - reference) / max(np.linalg.norm(reference), least))


def cosine(found, reference) -> float:
    """Of the angle between two arrays as vectors."""
    found, reference = (np.asarray(array, np.float64).ravel() for array in (found, reference))
    return float(found @ reference / max(np.linalg.norm(found) * np.linalg.norm(reference), 1e-30))


def compare(described, inputs, latent, keys, *, energy: TorchEnergy, stepped=None,
            tolerance: float = TOLERANCE) -> dict[str, float]:
    """Relative differences "energy" and "gradient" and of every term; AssertionError above `tolerance`.

    A ReLU within rounding of its kink has two gradients that are right (at one code of the demo pack PyTorch's two
    forms differ by 5e-3 from each other, and by 1e-6 at most codes near it). So where only the gradient differs, both
    sides are compared BESIDE the codes too: "gradient" is then the median of all, "kink" the largest, and the others
    their largest.

    stepped: what `jax_gradient` gives for these, if it is at hand.
    """
    rows = rows_of(described, inputs, keys)

    def differences(latent, stepped=None):
        if stepped is None:
            stepped = jax_gradient(described, inputs, latent, jax.random.clone(keys))
        energies, our_terms, our_gradient = stepped
        reference, terms, gradient = torch_gradient(energy, latent, *rows)
        rounding = NOTHING * float(np.linalg.norm(reference))  # a term of less is the rounding of what it is made of
        return {"energy": relative(energies, reference), "gradient": relative(our_gradient, gradient),
                **{name: relative(our_terms[name], terms[name], least=rounding) for name in terms}}

    found = differences(latent, stepped)
    if found["gradient"] > tolerance >= max(value for name, value in found.items() if name != "gradient"):
        several = [found] + [differences(latent * (1 + shift)) for shift in BESIDE]
        found = {name: max(one[name] for one in several) for name in found}
        found |= {"kink": found["gradient"], "gradient": float(np.median([one["gradient"] for one in several]))}
    if bad := {name: value for name, value in found.items() if name != "kink" and not value <= tolerance}:
        raise AssertionError(f"pie_jax and the PyTorch reference differ by more than {tolerance}: {bad}")
    return found
