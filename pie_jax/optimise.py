"""AdaDelta or Adam stages over any energy: one compiled step, scanned in chunks, until every portrait has had its part.

This module knows no face and no network. An energy is a hashable callable

    energy(inputs, latent [B, L, D], keys [B]) -> (energies [B], {term: values [B]})

whose portraits do not look at each other; `inputs` is any pytree (weights, targets) passed as an argument.

Two spaces, one program: in the stage "w" the rows of a latent [L, D] are tied - each row's gradient is replaced
by the sum over rows, which is the gradient to the one code w that all rows hold - and in "w_plus" they are free.
Rows that start equal stay equal bit for bit, so "w" is optimisation of w, and both stages share one compilation.

Lazy terms (`StageConfig.lazy_interval` = n > 1) are computed in every n-th step of a portrait, n times as heavy, and
left out of the others: two compiled programs that take turns. StyleGAN2 has its regularisers so (arXiv 1912.04958).

A portrait's step draws from `fold_in(fold_in(key, step), retries)` of its own key: its result depends neither on
its neighbours nor on where a run was interrupted.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.arrays import Array, check_shape
from pie_jax.config import StageConfig

MAX_RETRIES = 3


class Energy(Protocol):
    """A hashable description with equality by value: it is a static argument of the compiled chunk.

    The last two are asked for by stages with a `lazy_interval` alone.
    """

    def __call__(self, inputs: Any, latent: Array, keys: Array) -> tuple[Array, dict[str, Array]]: ...

    @property
    def lazy_terms(self) -> tuple[str, ...]: ...  # those that may be left out of a step

    def without_lazy_terms(self) -> Energy: ...


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

    state: State  # a snapshot on the host: what `save_state` takes
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


# ------------------------------------------------------------------------------------------ parts
def direction(stage: StageConfig) -> optax.GradientTransformation:
    """Gradients to ascent directions, without a learning rate: AdaDelta (arXiv 1212.5701, algorithm 1) or Adam."""
    if stage.optimiser == "adam":
        return optax.scale_by_adam(b1=stage.beta1, b2=stage.beta2)
    return optax.scale_by_adadelta(rho=stage.rho, eps=stage.epsilon)


def learning_rate(step: Array, steps: Array, rates: Array) -> jax.Array:
    """The rate of step number `step` of `steps`: along a half cosine from rates[0] to rates[1]."""
    fraction = step / jnp.maximum(steps - 1, 1)
    return rates[1] + (rates[0] - rates[1]) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(fraction, 0.0, 1.0)))


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


def problem_names(terms: tuple[str, ...]) -> tuple[str, ...]:
    """What an index in `State.problem` means: the terms sorted, then the sum, its gradient, the new latent."""
    return (*terms, "energy", "gradient", "latent")


def _select(chosen: Array, new, old):
    """Per portrait: `new` where `chosen` [B], else `old`, over pytrees of arrays that lead with B."""
    return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old)


def _all_finite(array: Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array), axis=tuple(range(1, array.ndim)))


def _step_keys(state: State) -> jax.Array:
    fold = jax.vmap(jax.random.fold_in)
    return fold(fold(state.keys, state.step), state.retries)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settings:
    """What of a stage is data, so that stages which differ only here share one compilation."""

    steps: Array  # [] int32
    tied: Array  # [] bool: the space is "w"
    rates: Array  # [2] float32: first and last learning rate

    @classmethod
    def of(cls, stage: StageConfig) -> _Settings:
        rates = np.float32([stage.learning_rate, stage.learning_rate * stage.final_rate])
        return cls(steps=jnp.asarray(stage.steps, jnp.int32), tied=jnp.asarray(stage.space == "w"),
                   rates=jnp.asarray(rates))


def _lazy_terms(energy: Energy, stage: StageConfig) -> tuple[str, ...]:
    return energy.lazy_terms if stage.lazy_interval > 1 else ()


def _active(state: State, steps) -> Array:
    return (state.step < steps) & (state.problem < 0)


def _turns(state: State, steps, stage: StageConfig) -> Array:
    """Which portraits [B] move in this step with their lazy terms (of arrays on host or device)."""
    return _active(state, steps) & (state.step % stage.lazy_interval == 0)


def _update(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig, whole: bool = True):
    """One step of every portrait that has steps left and no problem; `whole` False: no lazy term is computed."""
    active, turns = _active(state, settings.steps), _turns(state, settings.steps, stage)
    lazy = _lazy_terms(energy, stage)
    computed = energy if whole else energy.without_lazy_terms()

    def total(latent):
        energies, terms = computed(inputs, latent, _step_keys(state))
        if lazy:
            factor = jnp.where(turns, 1.0 * stage.lazy_interval, 0.0)
            energies = sum(factor * value if name in lazy else value for name, value in terms.items())
        return jnp.sum(energies), (energies, terms)

    (_, (energies, terms)), gradient = jax.value_and_grad(total, has_aux=True)(state.latent)
    summed = jnp.sum(gradient, axis=1, keepdims=True)
    gradient = jnp.where(settings.tied, jnp.broadcast_to(summed, gradient.shape), gradient)
    ascent, optimiser = jax.vmap(direction(stage).update)(gradient, state.optimiser, state.latent)
    rate = state.scale * learning_rate(state.step, settings.steps, settings.rates)
    latent = state.latent - ascent * rate[:, None, None]

    sums = energies
    if lazy:
        unknown = jnp.full_like(energies, jnp.nan)
        terms |= {name: jnp.where(turns, terms.get(name, unknown), unknown) for name in lazy}
        sums = sum(terms.values())
    terms = dict(sorted(terms.items()))  # the order in which they leave a jit, and so that of `problem_names`
    finite = [jnp.isfinite(value) | ~turns if name in lazy else jnp.isfinite(value) for name, value in terms.items()]
    finite += [jnp.isfinite(energies), _all_finite(gradient), _all_finite(latent)]
    finite = jnp.stack(finite)  # [problems, B]
    sound = jnp.all(finite, axis=0)
    moved, broken = active & sound, active & ~sound
    good = _select(moved, (state.latent, state.optimiser, state.step),
                   (state.good_latent, state.good_optimiser, state.good_step))
    new = _select(moved, (latent, optimiser, state.step + 1), (state.latent, state.optimiser, state.step))
    trace = {"energy": sums, **terms}
    trace["step"] = jnp.where(active, state.step, -1)
    return dataclasses.replace(
        state, latent=new[0], optimiser=new[1], step=new[2],
        good_latent=good[0], good_optimiser=good[1], good_step=good[2],
        problem=jnp.where(broken, jnp.argmin(finite, axis=0).astype(jnp.int32), state.problem)), trace


@partial(jax.jit, static_argnames=("energy", "stage"), donate_argnames="state")
def _run_chunk(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig):
    # jit: traced once for eval_shape and switch
    update = jax.jit(partial(_update, energy=energy, stage=stage))
    light = jax.jit(partial(_update, energy=energy, stage=stage, whole=False)) if _lazy_terms(energy, stage) else update
    empty = jax.eval_shape(update, state, inputs, settings)[1]

    def skip(s, *_):
        nothing = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in empty.items()}
        return s, {**nothing, "step": jnp.full_like(s.step, -1)}

    def body(s, _):
        which = jnp.any(_active(s, settings.steps)).astype(jnp.int32) + jnp.any(_turns(s, settings.steps, stage))
        return jax.lax.switch(which, (skip, light, update), s, inputs, settings)

    return jax.lax.scan(body, state, length=stage.chunk)


@partial(jax.jit, static_argnames=("energy", "stage", "whole"), donate_argnames="state")
def _run_step(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig, whole: bool):
    return _update(state, inputs, settings, energy=energy, stage=stage, whole=whole)


def _run_steps(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig):
    """`_run_chunk` as single compiled steps: XLA:CPU runs a network inside a while loop 3 times slower than outside."""
    rows, steps, always = [], np.asarray(settings.steps), not _lazy_terms(energy, stage)
    while len(rows) < stage.chunk:
        now = dataclasses.replace(state, step=np.asarray(state.step), problem=np.asarray(state.problem))
        if rows and not np.any(_active(now, steps)):
            break
        whole = always or bool(np.any(_turns(now, steps, stage)))
        state, row = _run_step(state, inputs, settings, energy=energy, stage=stage, whole=whole)
        rows.append(row)
    nothing = {name: jnp.full_like(value, -1 if name == "step" else 0) for name, value in rows[0].items()}
    rows += [nothing] * (stage.chunk - len(rows))
    return state, {name: jnp.stack([row[name] for row in rows]) for name in rows[0]}


def what_compiles(stage: StageConfig) -> StageConfig:
    """The stage without what is passed as data, see `_Settings`, and what its energy says."""
    return dataclasses.replace(stage, space="w_plus", steps=0, learning_rate=1.0, final_rate=1.0, coarse=False)


def run_chunk(state: State, inputs, *, energy: Energy, stage: StageConfig) -> tuple[State, dict[str, jax.Array]]:
    """`stage.chunk` steps in one compiled scan (on a CPU: one compiled step, called so often); `state` is donated.

    Returns the new state and the trace: "energy", every term and "step" as [chunk, B]; "step" is -1 where a portrait
    did not move (it has had `stage.steps`, or a problem). Once nothing moves, the rest of the chunk costs nothing.
    """
    run = _run_steps if jax.default_backend() == "cpu" else _run_chunk
    return run(state, inputs, _Settings.of(stage), energy=energy, stage=what_compiles(stage))


def compile_chunk(state: State, inputs, *, energy: Energy, stage: StageConfig) -> None:
    """Compile `run_chunk` for these shapes (or take it from the cache) without a step; `state` is not donated."""
    stage = dataclasses.replace(stage, steps=0)

    def compile_step(whole: bool):
        return _run_step(jax.tree.map(jnp.copy, state), inputs, _Settings.of(stage), energy=energy,
                         stage=what_compiles(stage), whole=whole)

    if jax.default_backend() != "cpu":
        jax.block_until_ready(run_chunk(jax.tree.map(jnp.copy, state), inputs, energy=energy, stage=stage))
        return
    programs = (True, False) if _lazy_terms(energy, stage) else (True,)
    with ThreadPoolExecutor(len(programs)) as pool:  # XLA compiles one program on about one core
        jax.block_until_ready(list(pool.map(compile_step, programs)))


@partial(jax.jit, donate_argnames="state")
def _roll_back(state: State, which: Array) -> State:
    """Take the portraits `which` [B] back to the last good step, with half the learning rate and other samples."""
    old = (state.latent, state.optimiser, state.step, state.scale, state.retries, state.problem)
    new = (state.good_latent, state.good_optimiser, state.good_step, 0.5 * state.scale, state.retries + 1,
           jnp.full_like(state.problem, -1))
    latent, optimiser, step, scale, retries, problem = _select(which, new, old)
    return dataclasses.replace(state, latent=latent, optimiser=optimiser, step=step, scale=scale, retries=retries,
                               problem=problem)


@partial(jax.jit, static_argnames=("energy", "term"))
def _term_gradient_finite(state: State, inputs, *, energy: Energy, term: str) -> jax.Array:
    """Whether the gradient of one term alone is finite, [B]: run only after the gradient of the sum was not.

    One differentiation a term: in a common one, the zero cotangent of one term times the infinite slope of another
    would blame both.
    """
    gradient = jax.grad(lambda latent: jnp.sum(energy(inputs, latent, _step_keys(state))[1][term]))(state.latent)
    return _all_finite(gradient)


def _blame(state: State, inputs, terms: tuple[str, ...], *, energy: Energy) -> list[str]:
    """The name of the first term with a non-finite gradient, for each portrait ("gradient" where none has)."""
    blamed = ["gradient"] * state.latent.shape[0]
    for term in reversed(terms):
        finite = np.asarray(_term_gradient_finite(state, inputs, energy=energy, term=term))
        blamed = [old if ok else f"gradient of {term}" for old, ok in zip(blamed, finite, strict=True)]
    return blamed


# ------------------------------------------------------------------------------------------- loop
def run_stage(state: State, inputs, *, energy: Energy, stage: StageConfig, trace: dict[str, np.ndarray] | None = None,
              progress: Callable[[Progress], None] | None = None, max_retries: int = MAX_RETRIES) -> StageResult:
    """Run a stage to its end.

    Args:
      state: from `start_stage`, or from `load_state` to go on; it is donated.
      inputs: pytree of arrays that the energy reads.
      energy: static description, see `Energy`.
      stage: steps, constants and chunk.
      trace: what `Progress.trace` held when the state was saved; None for a new stage.
      progress: called after each chunk, on the host. An exception in it (KeyboardInterrupt too) ends the run; the
        last `Progress.state` is then where to go on from, with bit-identical results.
      max_retries: how often a portrait may be rolled back to its last good step, each time with half the learning
        rate, before it is given up and keeps that last good latent.
    Non-finite values never raise: they are in `StageResult.outcomes` and `.incidents`, by the name of the term.
    """
    batch, incidents = state.latent.shape[0], []
    trace = {name: np.array(values) for name, values in (trace or {}).items()}
    given_up = np.asarray(state.problem) >= 0
    while np.any((np.asarray(state.step) < stage.steps) & ~given_up):
        state, chunk = run_chunk(state, inputs, energy=energy, stage=stage)
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


# ---------------------------------------------------------------------------------------- storage
def _plain_keys(state: State) -> State:
    return dataclasses.replace(state, keys=jax.random.key_data(state.keys))


def to_host(state: State) -> State:
    """A copy of the state as numpy arrays (keys as their uint32 data); it outlives the donated state."""
    return jax.tree.map(np.array, jax.device_get(_plain_keys(state)))


def to_device(state: State) -> State:
    """The inverse of `to_host`."""
    state = jax.tree.map(jnp.array, state)
    return dataclasses.replace(state, keys=jax.random.wrap_key_data(state.keys))


def state_arrays(state: State) -> dict[str, np.ndarray]:
    """A state (on host or device) as named arrays for `np.savez`; `state_from_arrays` reads them."""
    host = state if isinstance(state.keys, np.ndarray) else to_host(state)
    return {f"state_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(host))}


def state_from_arrays(arrays: dict[str, np.ndarray], *, stage: StageConfig) -> State:
    """The state that `state_arrays` stored, for a stage of the same optimiser; ValueError if it is not one."""
    latent = arrays.get("state_0", np.zeros((1, 1, 1)))
    keys = jax.eval_shape(lambda: portrait_keys(np.zeros(latent.shape[0])))
    start = jax.eval_shape(lambda x, k: _plain_keys(start_stage(x, k, stage=stage)),
                           jax.ShapeDtypeStruct(latent.shape, latent.dtype), keys)
    leaves, tree = jax.tree.flatten(start)
    values = [arrays.get(f"state_{i}") for i in range(len(leaves))]
    for value, leaf in zip(values, leaves, strict=True):
        if value is None or value.shape != leaf.shape or value.dtype != leaf.dtype:
            raise ValueError(f"arrays: expected the state of this stage ({leaf.shape} {leaf.dtype}), got another")
    return to_device(tree.unflatten(values))


def save_state(file: str | os.PathLike, state: State) -> None:
    """Write the state to `file` (.npz), replacing it in one rename."""
    temporary = f"{os.fspath(file)}.{os.getpid()}.npz"
    np.savez(temporary, **state_arrays(state))
    os.replace(temporary, file)


def load_state(file: str | os.PathLike, *, stage: StageConfig) -> State:
    """Read what `save_state` wrote; no pickles."""
    with np.load(file, allow_pickle=False) as arrays:
        return state_from_arrays(dict(arrays), stage=stage)
