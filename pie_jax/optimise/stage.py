"""A stage from its first step to its last: chunks, what is known between them, and what to do about bad values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import StageConfig
from pie_jax.optimise.micro_batches import MicroBatches
from pie_jax.optimise.state import State, to_host
from pie_jax.optimise.step import Axes, Energy, all_finite, problem_names, run_chunk, select, step_keys

MAX_RETRIES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Incident:
    """One non-finite value: portrait index in the batch, step, and the name of the first bad term."""

    portrait: int
    step: int
    term: str
    retry: int  # 0 for the first time in this stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What is known after a chunk. Arrays are numpy, so they outlive the donated state."""

    state: State  # a snapshot on the host: what `state_arrays` takes
    step: int  # of the portrait that is farthest behind
    steps: int  # of the stage
    trace: dict[str, np.ndarray]  # "energy" and every term: [steps, B], NaN where not reached or not computed
    incidents: tuple[Incident, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageResult:
    """The end of a stage: latents, why each portrait stopped, and the evidence."""

    state: State  # on the device; `state.latent` [B, L, D] is finite
    trace: dict[str, np.ndarray]  # "energy" and every term: [steps, B], NaN where not reached or not computed
    outcomes: tuple[str, ...]  # a portrait each: "finished" or "non-finite"
    incidents: tuple[Incident, ...]


@partial(jax.jit, donate_argnames="state")
def _roll_back(state: State, which: Array) -> State:
    """Take the portraits `which` [B] back to the last good step, with half the learning rate and other samples."""
    old = (state.latent, state.optimiser, state.step, state.scale, state.retries, state.problem)
    new = (state.good_latent, state.good_optimiser, state.good_step, 0.5 * state.scale, state.retries + 1,
           jnp.full_like(state.problem, -1))
    latent, optimiser, step, scale, retries, problem = select(which, new, old)
    return dataclasses.replace(state, latent=latent, optimiser=optimiser, step=step, scale=scale, retries=retries,
                               problem=problem)


@partial(jax.jit, static_argnames=("energy", "term"))
def _term_gradient_finite(state: State, inputs, *, energy: Energy, term: str) -> jax.Array:
    """Whether the gradient of one term alone is finite, [B]: run only after the gradient of the sum was not.

    One differentiation a term: in a common one, the zero cotangent of one term times the infinite slope of another
    would blame both.
    """
    gradient = jax.grad(lambda latent: jnp.sum(energy(inputs, latent, step_keys(state))[1][term]))(state.latent)
    return all_finite(gradient)


def _blame(state: State, inputs, terms: tuple[str, ...], *, energy: Energy) -> list[str]:
    """The name of the first term with a non-finite gradient, for each portrait ("gradient" where none has)."""
    if isinstance(inputs, MicroBatches):
        return [name for part, own in zip(inputs.states(state), inputs.parts, strict=True)
                for name in _blame(part, own, terms, energy=energy)]
    blamed = ["gradient"] * state.latent.shape[0]
    for term in reversed(terms):
        finite = np.asarray(_term_gradient_finite(state, inputs, energy=energy, term=term))
        blamed = [old if ok else f"gradient of {term}" for old, ok in zip(blamed, finite, strict=True)]
    return blamed


def run_stage(state: State, inputs: Any, *, energy: Energy, stage: StageConfig,
              trace: dict[str, np.ndarray] | None = None, progress: Callable[[Progress], None] | None = None,
              max_retries: int = MAX_RETRIES, axes: Axes | None = None) -> StageResult:
    """Run a stage to its end.

    Args:
      state: from `start_stage`, or from `state_from_arrays` to go on; it is donated.
      inputs: pytree of arrays that the energy reads, or `MicroBatches` of such.
      energy: static description, see `Energy`.
      stage: steps, constants and chunk.
      trace: what `Progress.trace` held when the state was saved; None for a new stage.
      progress: called after each chunk, on the host. An exception in it (KeyboardInterrupt too) ends the run; the
        last `Progress.state` is then where to go on from, with bit-identical results.
      axes: what "principal_adam" works along.
      max_retries: how often a portrait may be rolled back to its last good step, each time with half the learning
        rate, before it is given up and keeps that last good latent.
    Non-finite values never raise: they are in `StageResult.outcomes` and `.incidents`, by the name of the term.
    """
    batch, incidents = state.latent.shape[0], []
    trace = {name: np.array(values) for name, values in (trace or {}).items()}
    given_up = np.asarray(state.problem) >= 0
    while np.any((np.asarray(state.step) < stage.steps) & ~given_up):
        state, chunk = run_chunk(state, inputs, energy=energy, stage=stage, axes=axes)
        chunk, problem = jax.device_get((chunk, state.problem))
        chunk_steps = chunk.pop("step")
        names = problem_names(tuple(sorted(name for name in chunk if name != "energy")))
        for name, values in chunk.items():
            trace.setdefault(name, np.full((stage.steps, batch), np.nan, values.dtype))
            row, column = np.nonzero(chunk_steps >= 0)
            trace[name][chunk_steps[row, column], column] = values[row, column]
        new = (problem >= 0) & ~given_up
        if new.any():
            blamed = None
            for i in np.nonzero(new)[0]:
                term = names[problem[i]]
                if term == "gradient":
                    blamed = blamed or _blame(state, inputs, names[:-3], energy=energy)
                    term = blamed[i]
                step, retry = int(state.step[i]), int(state.retries[i])
                incidents.append(Incident(portrait=int(i), step=step, term=term, retry=retry))
            given_up |= new & (np.asarray(state.retries) >= max_retries)
            state = _roll_back(state, jnp.asarray(new))
            # those given up keep their last good latent and stay marked, so that they do not move
            state = dataclasses.replace(state, problem=jnp.asarray(np.where(given_up, problem, -1)))
        if progress is not None:
            behind = np.asarray(state.step)[~given_up].min(initial=stage.steps)
            progress(Progress(state=to_host(state), step=int(behind), steps=stage.steps, trace=trace,
                              incidents=tuple(incidents)))
    outcomes = tuple("non-finite" if bad else "finished" for bad in given_up)
    return StageResult(state=state, trace=trace, outcomes=outcomes, incidents=tuple(incidents))
