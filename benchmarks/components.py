"""The parts of an energy step, each with its gradient, in `pie_jax` and in the PyTorch reference.

A part is a mean square of what it computes, differentiated by its input, on as many images as a step gives it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pie_jax.face3d import render
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import inference


def energy_gradient(described) -> Callable:
    """(inputs, latent [B, L, D], keys [B]) -> energies [B], terms, and the gradient [B, L, D] of the energies' sum."""
    def total(latent, inputs, keys):
        energies, terms = described(inputs, latent, keys)
        return jnp.sum(energies), (energies, terms)

    def run(inputs, latent, keys):
        (_, (energies, terms)), gradient = jax.value_and_grad(total, has_aux=True)(latent, inputs, keys)
        return energies, terms, gradient

    return run


def adadelta_step(described) -> tuple[Callable, Callable]:
    """One update as an embedding makes it, without its guards against values that are not finite (the peer has none
    either), and the state [L, D] -> before the first.

    (inputs, latent [B, L, D], state, keys [B]) -> energies [B], terms, gradient [B, L, D]; the moved latent; its state.
    """
    optimiser, gradient_of = optax.adadelta(learning_rate=1.0, rho=0.95, eps=1e-6), energy_gradient(described)

    def step(inputs, latent, state, keys):
        found = gradient_of(inputs, latent, keys)
        updates, state = jax.vmap(optimiser.update)(found[2], state, latent)
        return found, latent + updates, state

    return step, optimiser.init


def counts(described, batch: int) -> tuple[int, int]:
    """How many edited portraits a step of `batch` portraits has, and how many faces are rendered."""
    config = described.configs.energy
    each = len(described.controls) if config.control_sampling == "all" else 1
    edits = batch * each * config.samples if described.needs_edits else 0
    return edits, edits * len({"edit", "invariance"} & set(described.terms))


def example_inputs(described, inputs, latent) -> dict[str, jax.Array]:
    """The input of every part that `described` has: latents, images [N, H, W, 3] or thetas [N, 257]."""
    batch, configs = latent.shape[0], described.configs
    edits, faces = counts(described, batch)
    every = jnp.tile(latent, (1 + -(-edits // batch), 1, 1))[:batch + edits]
    images = jax.random.uniform(jax.random.key(0), (batch + edits, *inputs.target.portrait.shape[1:]))
    found = {"synthesis": every}
    if "perceptual" in inputs.weights:
        found["perceptual"] = images[:batch]
    if "regressor" in inputs.weights and (edits or "identity" in described.terms):
        found["regressor"] = images
    if "recognition" in described.terms:
        found["recognition"] = images
    if described.from_dfr and described.controls:
        found["rig"] = latent
    if faces:
        params_vector = inputs.pool.params_vector
        found["render"] = jnp.tile(params_vector, (-(-faces // params_vector.shape[0]), 1))[:faces]
    return {name: value for name, value in found.items() if name != "render" or configs.energy.photometric == "pixel"}


def ours(described, name: str) -> Callable:
    """(inputs, x) -> the part's value and gradient to x."""
    configs = described.configs

    def part(inputs, x):
        weights = inputs.weights
        if name == "synthesis":
            latent, edits = jnp.split(x, [inputs.target.portrait.shape[0]])
            if edits.shape[0] == 0:
                return described._synthesise(weights, latent)
            return described._paint(weights, latent, edits, None)  # on purpose as the energy does it
        if name == "perceptual":
            return list(inference.perceptual_features(configs, weights, x).values())
        if name == "regressor":
            return inference.regress(configs, weights, x)
        if name == "recognition":
            return inference.face_embedding(configs, weights, x)
        if name == "rig":
            source = FaceParams.from_vector(inference.params_from_latent(configs, weights, x))
            wanted = FaceParams.from_vector(inputs.target.params_vector)
            return [inference.rig(configs, weights, x, source, wanted, control=c) for c in described.controls]
        drawn = render.render(inputs.morphable, FaceParams.from_vector(x), inference.crop_camera(configs.camera),
                              resolution=configs.energy.render_resolution)
        return [drawn.image, 1e-3 * drawn.landmarks]

    def mean_square(x, inputs):
        return sum(jnp.mean(jnp.square(value)) for value in jax.tree.leaves(part(inputs, x)))

    return lambda inputs, x: jax.value_and_grad(mean_square)(x, inputs)


def theirs(energy, name: str, x) -> Callable:
    """() -> the same of a `TorchEnergy`; x is a tensor, images as [N, 3, H, W]."""
    import torch

    from benchmarks.torch_reference.raster import draw

    def part(x):
        if name == "synthesis":
            return [energy._paint(x)]
        if name == "perceptual":
            return list(energy.perceptual(x).values())
        if name == "regressor":
            return [energy._regress(x)]
        if name == "recognition":
            return [energy._describe(x)]
        if name == "rig":
            source = energy.dfr(x)
            return [rig(x, source, energy.params_vector) for rig in energy.rigs.values()]
        side = energy.configs.energy.render_resolution
        vertices, colours, landmarks = energy.face(x, resolution=side)
        return [draw(vertices, colours, energy.face.triangles, side=side)[0], 1e-3 * landmarks]

    def run():
        moving = x.detach().requires_grad_(True)
        value = sum(value.square().mean() for value in part(moving))
        return value.detach(), torch.autograd.grad(value, moving)[0]

    return run
