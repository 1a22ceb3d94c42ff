"""The step of every portrait, and a chunk of them: one compiled program, scanned on an accelerator.

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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import StageConfig
from pie_jax.optimise.micro_batches import MicroBatches
from pie_jax.optimise.state import State, direction
from pie_jax.programs import kept
from pie_jax.runtime import backend


class Energy(Protocol):
    """A hashable description with equality by value: it is a static argument of the compiled chunk.

    The last two are asked for by stages with a `lazy_interval` alone.
    """

    def __call__(self, inputs: Any, latent: Array, keys: Array) -> tuple[Array, dict[str, Array]]: ...

    @property
    def lazy_terms(self) -> tuple[str, ...]: ...  # those that may be left out of a step

    def without_lazy_terms(self) -> Energy: ...


def learning_rate(step: Array, steps: Array, rates: Array) -> jax.Array:
    """The rate of step number `step` of `steps`: along a half cosine from rates[0] to rates[1]."""
    fraction = step / jnp.maximum(steps - 1, 1)
    return rates[1] + (rates[0] - rates[1]) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(fraction, 0.0, 1.0)))


def problem_names(terms: tuple[str, ...]) -> tuple[str, ...]:
    """What an index in `State.problem` means: the terms sorted, then the sum, its gradient, the new latent."""
    return (*terms, "energy", "gradient", "latent")


def select(chosen: Array, new: Any, old: Any) -> Any:
    """Per portrait: `new` where `chosen` [B], else `old`, over pytrees of arrays that lead with B."""
    return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old)


def all_finite(array: Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array), axis=tuple(range(1, array.ndim)))


def step_keys(state: State) -> jax.Array:
    fold = jax.vmap(jax.random.fold_in)
    return fold(fold(state.keys, state.step), state.retries)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """The axes that "principal_adam" works along."""

    vectors: Array  # [D, D] float32, orthonormal, an axis a column
    scale: Array  # [D] float32: how much farther a step goes along each


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settings:
    """What of a stage is data, so that stages which differ only here share one compilation."""

    steps: Array  # [] int32
    tied: Array  # [] bool: the space is "w"
    rates: Array  # [2] float32: first and last learning rate
    axes: Axes | None  # None: those of the coordinates

    @classmethod
    def of(cls, stage: StageConfig, axes: Axes | None = None) -> _Settings:
        principal = stage.optimiser == "principal_adam"
        if principal and axes is None:
            raise ValueError("axes: the optimiser principal_adam needs them")
        rates = np.asarray([stage.learning_rate, stage.learning_rate * stage.final_rate], np.float32)
        return cls(steps=jnp.asarray(stage.steps, jnp.int32), tied=jnp.asarray(stage.space == "w"),
                   rates=jnp.asarray(rates), axes=axes if principal else None)


def _lazy_terms(energy: Energy, stage: StageConfig) -> tuple[str, ...]:
    return energy.lazy_terms if stage.lazy_interval > 1 else ()


def _active(state: State, steps) -> Array:
    return (state.step < steps) & (state.problem < 0)


def _lazy_mask(state: State, steps, stage: StageConfig) -> Array:
    """Which portraits [B] move in this step with their lazy terms (of arrays on host or device)."""
    return _active(state, steps) & (state.step % stage.lazy_interval == 0)


def _update(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig,
            with_lazy_terms: bool = True):
    """One step of every portrait that has steps left and no problem, with its lazy terms or without them."""
    active, turns = _active(state, settings.steps), _lazy_mask(state, settings.steps, stage)
    lazy = _lazy_terms(energy, stage)
    computed = energy if with_lazy_terms else energy.without_lazy_terms()

    def total(latent):
        energies, terms = computed(inputs, latent, step_keys(state))
        if lazy:
            factor = jnp.where(turns, 1.0 * stage.lazy_interval, 0.0)
            energies = sum(factor * value if name in lazy else value for name, value in terms.items())
        return jnp.sum(energies), (energies, terms)

    (_, (energies, terms)), gradient = jax.value_and_grad(total, has_aux=True)(state.latent)
    summed = jnp.sum(gradient, axis=1, keepdims=True)
    gradient = jnp.where(settings.tied, jnp.broadcast_to(summed, gradient.shape), gradient)
    axes = settings.axes
    along = gradient if axes is None else gradient @ axes.vectors
    ascent, optimiser = jax.vmap(direction(stage).update)(along, state.optimiser, state.latent)
    if axes is not None:
        ascent = (jnp.asarray(ascent) * axes.scale[None, None]) @ axes.vectors.T
    rate = state.scale * learning_rate(state.step, settings.steps, settings.rates)
    latent = state.latent - jnp.asarray(ascent) * rate[:, None, None]

    sums = energies
    if lazy:
        unknown = jnp.full_like(energies, jnp.nan)
        terms |= {name: jnp.where(turns, terms.get(name, unknown), unknown) for name in lazy}
        sums = sum(terms.values())
    terms = dict(sorted(terms.items()))  # the order in which they leave a jit, and so that of `problem_names`
    finite = [jnp.isfinite(value) | ~turns if name in lazy else jnp.isfinite(value) for name, value in terms.items()]
    finite += [jnp.isfinite(energies), all_finite(gradient), all_finite(latent)]
    finite = jnp.stack(finite)  # [problems, B]
    sound = jnp.all(finite, axis=0)
    moved, broken = active & sound, active & ~sound
    good = select(moved, (state.latent, state.optimiser, state.step),
                   (state.good_latent, state.good_optimiser, state.good_step))
    new = select(moved, (latent, optimiser, state.step + 1), (state.latent, state.optimiser, state.step))
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
    branches, lazy = [update], bool(_lazy_terms(energy, stage))
    if lazy:
        branches.insert(0, jax.jit(partial(_update, energy=energy, stage=stage, with_lazy_terms=False)))
    empty = jax.eval_shape(update, state, inputs, settings)[1]

    def skip(s, *_):
        nothing = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in empty.items()}
        return s, {**nothing, "step": jnp.full_like(s.step, -1)}

    def body(s, _):
        which = jnp.any(_active(s, settings.steps)).astype(jnp.int32)
        if lazy:
            which += jnp.any(_lazy_mask(s, settings.steps, stage))
        return jax.lax.switch(which, (skip, *branches), s, inputs, settings)

    return jax.lax.scan(body, state, length=stage.chunk)


@kept(static_argnames=("energy", "stage", "with_lazy_terms"), donate_argnames="state", level=3)
def _run_step(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig, with_lazy_terms: bool):
    return _update(state, inputs, settings, energy=energy, stage=stage, with_lazy_terms=with_lazy_terms)


def _run_steps(state: State, inputs, settings: _Settings, *, energy: Energy, stage: StageConfig):
    """`_run_chunk` as single compiled steps: XLA:CPU is slow on a network inside a while loop."""
    rows, steps, always = [], np.asarray(settings.steps), not _lazy_terms(energy, stage)
    one = _single(stage)
    while len(rows) < stage.chunk:
        now = dataclasses.replace(state, step=np.asarray(state.step), problem=np.asarray(state.problem))
        if rows and not np.any(_active(now, steps)):
            break
        with_lazy_terms = always or bool(np.any(_lazy_mask(now, steps, stage)))
        state, row = _run_step(state, inputs, settings, energy=energy, stage=one, with_lazy_terms=with_lazy_terms)
        rows.append(row)
    nothing = {name: jnp.full_like(value, -1 if name == "step" else 0) for name, value in rows[0].items()}
    rows += [nothing] * (stage.chunk - len(rows))
    return state, {name: jnp.stack([row[name] for row in rows]) for name in rows[0]}


def compilation_key(stage: StageConfig) -> StageConfig:
    """The stage without what is passed as data, see `_Settings`, and what its energy says."""
    return dataclasses.replace(stage, space="w_plus", steps=0, learning_rate=1.0, final_rate=1.0, coarse=False,
                               nearest_random_codes=0, encoded=False)


def _single(stage: StageConfig) -> StageConfig:
    """What `_run_step` compiles for: of a chunk's length it knows nothing."""
    return dataclasses.replace(compilation_key(stage), chunk=1)


def run_chunk(state: State, inputs: Any, *, energy: Energy, stage: StageConfig,
              axes: Axes | None = None) -> tuple[State, dict[str, jax.Array]]:
    """`stage.chunk` steps in one compiled scan (on a CPU: one compiled step, called so often); `state` is donated.

    Returns the new state and the trace: "energy", every term and "step" as [chunk, B]; "step" is -1 where a portrait
    did not move (it has had `stage.steps`, or a problem). Once nothing moves, the rest of the chunk costs nothing.
    Of `MicroBatches` each part makes the whole chunk, and then the next one. ValueError: they do not divide B.
    """
    if isinstance(inputs, MicroBatches):
        return inputs.run(state, partial(run_chunk, energy=energy, stage=stage, axes=axes))
    run = _run_steps if backend().is_cpu else _run_chunk
    return run(state, inputs, _Settings.of(stage, axes), energy=energy, stage=compilation_key(stage))


def make_steps_early(state: State, inputs: Any, *, energy: Energy, stage: StageConfig,
                     axes: Axes | None = None) -> None:
    """On a CPU: begin to compile what `run_chunk` runs, in threads. Arrays may be `jax.ShapeDtypeStruct`s."""
    if backend().is_cpu:
        for with_lazy_terms in _kinds(energy, stage):
            _run_step.ahead(state, inputs, _Settings.of(stage, axes), energy=energy, stage=_single(stage),
                            with_lazy_terms=with_lazy_terms)


def _kinds(energy: Energy, stage: StageConfig) -> tuple[bool, ...]:
    """Whether the steps of a stage have lazy terms: with them, or now with and now without."""
    return (True, False) if _lazy_terms(energy, stage) else (True,)


def compile_chunk(state: State, inputs: Any, *, energy: Energy, stage: StageConfig, axes: Axes | None = None) -> None:
    """Compile `run_chunk` for these shapes (or take it from the cache) without a step; `state` is not donated."""
    if isinstance(inputs, MicroBatches):
        state, inputs = inputs.states(state)[0], inputs.parts[0]
    stage = dataclasses.replace(stage, steps=0)

    def compile_step(with_lazy_terms: bool):
        return _run_step(jax.tree.map(jnp.copy, state), inputs, _Settings.of(stage, axes), energy=energy,
                         stage=_single(stage), with_lazy_terms=with_lazy_terms)

    if not backend().is_cpu:
        copy = jax.tree.map(jnp.copy, state)
        jax.block_until_ready(run_chunk(copy, inputs, energy=energy, stage=stage, axes=axes))
        return
    kinds = _kinds(energy, stage)
    with ThreadPoolExecutor(len(kinds)) as pool:  # both compile at once
        jax.block_until_ready(list(pool.map(compile_step, kinds)))
