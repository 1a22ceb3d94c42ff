"""The two implementations on the same inputs: asserted before anything is timed."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.torch_reference.energy import TorchEnergy
from benchmarks.torch_reference.tensors import tensor

TOLERANCE = 1e-3


def rows_of(described, inputs, keys):
    """What `described` draws from the pool for `keys` [B], as tensors: (rows, choice) of a `TorchEnergy`."""
    if not described.needs_edits:
        return None, None
    rows, choice = described._draw(inputs.pool, jax.random.clone(keys))  # on purpose the draw that the energy makes
    rows = {name: tensor(getattr(rows, name)) for name in ("images", "theta", "landmarks")}
    return rows, None if choice is None else tensor(choice).long()


@partial(jax.jit, static_argnames="described")
def jax_gradient(described, inputs, latent, keys):
    """Energies [B], terms and the gradient [B, L, D] of their sum."""
    def total(x):
        energies, terms = described(inputs, x, keys)
        return jnp.sum(energies), (energies, terms)

    (_, (energies, terms)), gradient = jax.value_and_grad(total, has_aux=True)(latent)
    return energies, terms, gradient


def torch_gradient(energy: TorchEnergy, latent, rows, choice=None):
    """The same three as numpy arrays, from a `TorchEnergy`."""
    moving = tensor(latent).requires_grad_(True)
    energies, terms = energy(moving, rows, choice)
    gradient = torch.autograd.grad(energies.sum(), moving)[0]
    return energies.detach().numpy(), {k: v.detach().numpy() for k, v in terms.items()}, gradient.numpy()


def relative(ours, theirs) -> float:
    """|ours - theirs| / |theirs| in the Euclidean norm."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30))


def compare(described, inputs, latent, keys, *, energy: TorchEnergy, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Relative differences "energy" and "gradient" and of every term; AssertionError above `tolerance`."""
    ours, our_terms, our_gradient = jax_gradient(described, inputs, latent, jax.random.clone(keys))
    theirs, terms, gradient = torch_gradient(energy, latent, *rows_of(described, inputs, keys))
    found = {"energy": relative(ours, theirs), "gradient": relative(our_gradient, gradient)}
    found |= {name: relative(our_terms[name], terms[name]) for name in terms}
    bad = {name: value for name, value in found.items() if not value <= tolerance}
    if bad:
        raise AssertionError(f"pie_jax and the PyTorch reference differ by more than {tolerance}: {bad}")
    return found
