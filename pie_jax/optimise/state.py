"""Where portraits are in a stage: latent, optimiser, keys, last good step; on a device, on the host, in a file."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, check_shape
from pie_jax.config import StageConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Where B portraits are in one stage. Every array leads with B."""

    latent: Array  # [B, L, D]
    optimiser: Any  # optax state, every leaf [B, ...]
    keys: Array  # [B] typed keys, one a portrait
    step: Array  # [B] int32: updates made in this stage
    good_latent: Array  # [B, L, D]: the last one at which energy and gradient were finite
    good_optimiser: Any  # optax state before the update made there
    good_step: Array  # [B] int32: its step
    scale: Array  # [B]: factor of the learning rate, halved by every retry
    retries: Array  # [B] int32: roll-backs so far
    problem: Array  # [B] int32: -1, or which value was not finite (an index into `problem_names`)


def direction(stage: StageConfig) -> optax.GradientTransformation:
    """Gradients to ascent directions, without a learning rate: AdaDelta (arXiv 1212.5701, algorithm 1) or Adam."""
    if stage.optimiser in ("adam", "principal_adam"):
        return optax.scale_by_adam(b1=stage.beta1, b2=stage.beta2)
    return optax.scale_by_adadelta(rho=stage.rho, eps=stage.epsilon)


def portrait_keys(seeds: Array) -> jax.Array:
    """Typed keys [B] of integer seeds [B], one a portrait."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def to_latent(w: Array, *, layers: int) -> jax.Array:
    """Codes w [B, D] as latents [B, layers, D] with equal rows: the start of a "w" stage."""
    check_shape("w", w, (None, None))
    return jnp.repeat(jnp.asarray(w)[:, None], layers, axis=1)


def start_stage(latent: Array, keys: Array, *, stage: StageConfig, index: int = 0) -> State:
    """The state before the first step of a stage.

    Args:
      latent: [B, L, D] float; for space "w" all rows of a portrait must be equal (see `to_latent`).
      keys: [B] typed keys of the portraits; `index`, the place of the stage in the run, is folded in, so that
        W and W+ do not see the same samples.
    The transition W -> W+ is this same call on the last latent: accumulators start at zero again.
    """
    check_shape("latent", latent, (None, None, None))
    batch = latent.shape[0]
    latent = jnp.array(latent)  # a copy: the state is donated, the caller's array is not
    if stage.space == "w":
        latent = jnp.repeat(latent[:, :1], latent.shape[1], axis=1)
    optimiser = jax.vmap(direction(stage).init)(latent)

    def each(value, dtype):
        return jnp.full((batch,), value, dtype)

    return State(
        latent=latent, optimiser=optimiser, keys=jax.vmap(jax.random.fold_in, (0, None))(keys, index),
        step=each(0, jnp.int32), good_latent=jnp.copy(latent), good_optimiser=jax.tree.map(jnp.copy, optimiser),
        good_step=each(0, jnp.int32), scale=each(1.0, latent.dtype), retries=each(0, jnp.int32),
        problem=each(-1, jnp.int32))


# ---------------------------------------------------------------------------------------- storage
def plain_keys(state: State) -> State:
    """The state with its keys as their uint32 data."""
    return dataclasses.replace(state, keys=jax.random.key_data(state.keys))


def with_keys(state: State) -> State:
    """The inverse of `plain_keys`."""
    return dataclasses.replace(state, keys=jax.random.wrap_key_data(state.keys))


def to_host(state: State) -> State:
    """A copy of the state as numpy arrays (keys as their uint32 data); it outlives the donated state."""
    return jax.tree.map(np.array, jax.device_get(plain_keys(state)))


def to_device(state: State) -> State:
    """The inverse of `to_host`."""
    return with_keys(jax.tree.map(jnp.array, state))


def state_arrays(state: State) -> dict[str, np.ndarray]:
    """A state (on host or device) as named arrays; `state_from_arrays` reads them."""
    host = state if isinstance(state.keys, np.ndarray) else to_host(state)
    return {f"state_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(host))}


def state_from_arrays(arrays: dict[str, np.ndarray], *, stage: StageConfig) -> State:
    """The state that `state_arrays` stored, for a stage of the same optimiser; ValueError if it is not one."""
    latent = arrays.get("state_0", np.zeros((1, 1, 1)))
    keys = jax.eval_shape(lambda: portrait_keys(np.zeros(latent.shape[0])))
    start = jax.eval_shape(lambda x, k: plain_keys(start_stage(x, k, stage=stage)),
                           jax.ShapeDtypeStruct(latent.shape, latent.dtype), keys)
    leaves, tree = jax.tree.flatten(start)
    values = [arrays.get(f"state_{i}") for i in range(len(leaves))]
    for value, leaf in zip(values, leaves, strict=True):
        if value is None or value.shape != leaf.shape or value.dtype != leaf.dtype:
            raise ValueError(f"arrays: expected the state of this stage ({leaf.shape} {leaf.dtype}), got another")
    return to_device(tree.unflatten(values))
