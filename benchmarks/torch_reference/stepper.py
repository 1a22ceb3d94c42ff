"""Optimisation steps: the gradient of the energy to the latent, and PyTorch's own AdaDelta (arXiv 1212.5701)."""

from __future__ import annotations

import torch


class Stepper:
    """A latent [B, L, D] and its optimiser; `step(rows, choice)` moves it once and returns the energies [B].

    space "w": one code for all layers, the gradient summed over them. compiled: the energy goes through torch.compile.
    """

    def __init__(self, energy, latent: torch.Tensor, *, space: str = "w_plus", learning_rate: float = 1.0,
                 rho: float = 0.95, epsilon: float = 1e-6, compiled: bool = False):
        self.layers = latent.shape[1]
        self.latent = (latent[:, :1] if space == "w" else latent).clone().requires_grad_(True)
        self.energy = torch.compile(energy.__call__) if compiled else energy
        self.optimiser = torch.optim.Adadelta([self.latent], lr=learning_rate, rho=rho, eps=epsilon)

    def gradient(self, rows, choice=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies [B] and their gradient in the latent's own shape."""
        energies, _ = self.energy(self.latent.expand(-1, self.layers, -1), rows, choice)
        return energies.detach(), torch.autograd.grad(energies.sum(), self.latent)[0]

    def step(self, rows, choice=None) -> torch.Tensor:
        """One update; the energies are those before it."""
        energies, self.latent.grad = self.gradient(rows, choice)
        self.optimiser.step()
        return energies
