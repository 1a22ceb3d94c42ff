"""The one training loop: scanned in chunks, checkpointed, resumable, silent but for one progress line.

A training is a step function `(state, batch) -> (state, terms)`; with `frozen` arrays (the weights of networks
that do not move) it is `(state, batch, frozen) -> (state, terms)`. `terms` is a dict of scalars, the term named
"loss" being the one that is minimised. Randomness inside a step comes from `step_key(state)` and batches are a
function of the step number, so a resumed run repeats an uninterrupted one bit for bit (when it ends by steps;
a run that ends by the clock takes its learning rates from the clock).

Flags, exit codes and the manifest's record are in `commands`, the checkpoint file in `checkpoints`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pie_jax.cli.progress import Progress, duration
from pie_jax.cli.signals import StopRequest
from pie_jax.errors import NumericsError, PieError, ResourceError, UsageError
from pie_jax.io import clear_unfinished, replace_file
from pie_jax.runtime import backend
from pie_jax.training.core.checkpoints import load_checkpoint, save_checkpoint

CHECKPOINT = "checkpoint.npz"
LOG = "log.jsonl"
DESCRIPTION = "run.json"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """All that changes while a network is trained; a pytree, saved whole.

    `fraction` in [0, 1] is how much of the run is over: `run` sets it before every step, schedules read it.
    """

    weights: Any  # nested dict of float32
    ema: Any  # like weights: the exponential moving average that is written to the pack
    optimiser: Any  # the optax state
    extra: Any  # anything else a training carries: running statistics, a second network, {} if none
    step: jax.Array  # [] int32, steps done
    fraction: jax.Array  # [] float32
    key: jax.Array  # [] typed PRNG key of the run, constant: see step_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a call of `run` ended. outcome: "steps", "minutes" (its budget is spent) or "interrupted"."""

    state: TrainState
    outcome: str
    steps: int
    seconds: float  # of training in all, earlier calls on the same run folder included
    items_per_second: float  # of this call, first (compiling) chunk excluded; 0 if nothing ran
    terms: dict[str, float]  # running means at the end
    metrics: dict[str, float]  # what `evaluate` returned last


def new_state(key: jax.Array, weights: Any, optimiser: optax.GradientTransformation, *,
              extra: Any = None) -> TrainState:
    """The state before the first step. `optimiser` is optax without a learning rate, see `apply_gradients`.

    weights: nested dict of float32; extra: any pytree of arrays. The moving average starts at the weights.
    """
    ema, optimiser_state = jax.jit(lambda weights: (jax.tree.map(jnp.copy, weights), optimiser.init(weights)))(weights)
    return TrainState(weights=weights, ema=ema, optimiser=optimiser_state, extra={} if extra is None else extra,
                      step=jnp.zeros((), jnp.int32), fraction=jnp.zeros((), jnp.float32), key=key)


def step_key(state: TrainState) -> jax.Array:
    """The key of this step: the run's key with the step number folded in."""
    return jax.random.fold_in(state.key, state.step)


def cosine(fraction: jax.Array, *, peak: float, final: float = 0.03, warm_up: float = 0.0,
           flat: float = 0.0) -> jax.Array:
    """Learning rate [] at `fraction` of the run: rises over `warm_up`, flat until `flat`, cosine to final * peak."""
    start = max(flat, warm_up)
    rise = jnp.clip(fraction / warm_up, 0.02, 1.0) if warm_up > 0 else 1.0
    fall = jnp.clip((fraction - start) / max(1.0 - start, 1e-6), 0.0, 1.0)
    return peak * rise * (final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * fall)))


def apply_gradients(state: TrainState, gradients: Any, *, optimiser: optax.GradientTransformation,
                    learning_rate: jax.Array | float = 1.0, ema_decay: float = 0.999, extra: Any = None) -> TrainState:
    """One update: weights - learning_rate * optimiser(gradients); moving average; step + 1.

    `optimiser` maps gradients to an ascent direction of unit scale (`optax.scale_by_adam`): the sign is here; one that
    descends by itself (`optax.adadelta`) is given as `optax.chain(adadelta, optax.scale(-1.0))`.
    The decay of the average is capped at (1 + step) / (10 + step), so that a short run does not remember its start.
    """
    direction, optimiser_state = optimiser.update(gradients, state.optimiser, state.weights)
    weights = jax.tree.map(lambda w, d: w - learning_rate * d, state.weights, direction)
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
    ema = jax.tree.map(lambda e, w: e + (1.0 - decay) * (w - e), state.ema, weights)
    return dataclasses.replace(state, weights=weights, ema=ema, optimiser=optimiser_state, step=state.step + 1,
                               extra=state.extra if extra is None else extra)


def _terms_text(terms: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _differ(before, now) -> bool:
    """Whether two descriptions differ; a field that an older version did not know yet is no difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        return any(name not in now or _differ(value, now[name]) for name, value in before.items())
    return before != now


def _check_description(folder: pathlib.Path, description: dict) -> None:
    path = folder / DESCRIPTION
    encoded = json.loads(json.dumps(description))
    if path.is_file() and (folder / CHECKPOINT).is_file():
        before = json.loads(path.read_text())
        for name in sorted(set(before) | set(encoded)):
            if _differ(before.get(name), encoded.get(name)):
                raise PieError(f"{folder}: was started with {name}={before.get(name)}, now {encoded.get(name)}; "
                               "pass --restart, or another --run")
    else:
        replace_file(path, json.dumps(encoded, indent=1).encode())


def run(run_dir: str | os.PathLike, state: TrainState, step_fn: Callable, *, steps: int | None = None,
        minutes: float | None = None, batch_fn: Callable[[int], Any] | None = None, frozen: Any = None,
        batch_size: int = 1, chunk: int = 8, checkpoint_seconds: float = 60.0, restart: bool = False,
        evaluate: Callable[[TrainState], dict[str, float]] | None = None, evaluate_seconds: float = 120.0,
        description: dict | None = None, log_seconds: float = 10.0, quiet: bool = False,
        name: str | None = None, occasional: tuple[int, Callable] | None = None) -> RunResult:
    """Train until `steps` or `minutes` (whichever is first) are spent, all calls on this folder counted together.

    run_dir: folder of the run, made if absent; a checkpoint in it is resumed unless `restart`.
    state: the state before the first step (its structure is what a checkpoint is checked against).
    step_fn: `(state, batch) -> (state, terms)`, or `(state, batch, frozen)` when `frozen` is given; traced once,
      scanned over `chunk` steps inside jit. It must add 1 to state.step (`apply_gradients` does).
    batch_fn: step number -> batch (pytree of numpy arrays); a function of the number alone, called ahead in a thread.
      None: batch is None and the step draws what it needs from `step_key`.
    batch_size: images (or codes) a step, for the speed that is shown. evaluate: state -> held-out metrics.
    occasional: (n, step) where another step, of the same terms, takes the place of `step_fn` at every n-th, from 0 on.
    description: what must be equal when a run is resumed (sizes, weights of the loss), stored in run.json.
    Errors: PieError when the folder belongs to another configuration, NumericsError when a term is not finite.
    """
    if steps is None and minutes is None:
        raise UsageError("a training needs an end: pass --steps or --minutes")
    folder = pathlib.Path(run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(folder)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be made ({error.strerror}); pass another --run") from error
    if restart:
        for old in (CHECKPOINT, LOG, DESCRIPTION):
            (folder / old).unlink(missing_ok=True)
    _check_description(folder, description or {})
    progress = Progress(quiet=quiet)
    name = name or folder.name
    progress.start(name)
    seconds_before, terms = 0.0, {}
    state = jax.tree.map(jnp.copy, state)  # the chunk donates it; the caller's arrays stay alive
    if (folder / CHECKPOINT).is_file():
        state, seconds_before, terms = load_checkpoint(folder / CHECKPOINT, state)
        progress.note(f"{name}: resumed at step {int(state.step)} after {duration(seconds_before)}")
    return _Loop(folder, step_fn, steps, minutes, batch_fn, frozen, batch_size, chunk, checkpoint_seconds, evaluate,
                 evaluate_seconds, log_seconds, progress, name, occasional).train(state, seconds_before, terms)


def _one(step_fn: Callable) -> Callable:
    """A step that knows how much of the run is over."""
    def one(state, batch, frozen, clock_fraction, total_steps):
        by_steps = state.step.astype(jnp.float32) / total_steps
        state = dataclasses.replace(state, fraction=jnp.minimum(jnp.maximum(by_steps, clock_fraction), 1.0))
        return step_fn(state, batch) if frozen is None else step_fn(state, batch, frozen)

    return one


@functools.lru_cache(maxsize=4)
def _jitted(step_fn: Callable) -> Callable:
    """`_one`, compiled once for runs of one step function in a process."""
    return jax.jit(_one(step_fn), donate_argnums=0)


@dataclasses.dataclass
class _Loop:
    """The knobs of one call of `run`, already checked; `train` is the loop."""

    folder: pathlib.Path
    step_fn: Callable
    steps: int | None
    minutes: float | None
    batch_fn: Callable | None
    frozen: Any
    batch_size: int
    chunk: int
    checkpoint_seconds: float
    evaluate: Callable | None
    evaluate_seconds: float
    log_seconds: float
    progress: Progress
    name: str
    occasional: tuple[int, Callable] | None

    def _compiled_chunk(self):
        every, occasional = (1, self.step_fn) if self.occasional is None else self.occasional
        if backend().is_cpu:  # XLA:CPU is slow on a convolution's gradient inside a while loop, or a branch
            step, rare = _jitted(self.step_fn), _jitted(occasional)

            def run_steps(state, batches, frozen, clock_fraction, total_steps, *, length):
                rows, first = [], int(state.step)
                for i in range(length):
                    batch = jax.tree.map(lambda leaf, i=i: leaf[i], batches)
                    chosen = step if (first + i) % every else rare
                    state, terms = chosen(state, batch, frozen, clock_fraction, total_steps)
                    rows.append(terms)
                return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

            return run_steps

        usual, other = _one(self.step_fn), _one(occasional)

        def run_chunk(state, batches, frozen, clock_fraction, total_steps, *, length):
            def body(carry, batch):
                inputs = carry, batch, frozen, clock_fraction, total_steps
                if self.occasional is None:
                    return usual(*inputs)
                return jax.lax.cond(carry.step % every == 0, other, usual, *inputs)

            return jax.lax.scan(body, state, batches, length=length)

        return jax.jit(run_chunk, static_argnames="length", donate_argnums=0)

    def _batches(self, first: int, length: int):
        if self.batch_fn is None or length <= 0:
            return None
        parts = [self.batch_fn(step) for step in range(first, first + length)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)

    def _length(self, step: int) -> int:
        return self.chunk if self.steps is None else min(self.chunk, self.steps - step)

    def _log(self, **row):
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(row) + "\n")

    def train(self, state: TrainState, seconds_before: float, means: dict[str, float]) -> RunResult:
        compiled = self._compiled_chunk()
        total_steps = np.float32(self.steps if self.steps is not None else np.inf)
        start = time.monotonic()
        step = first_step = int(state.step)
        metrics: dict[str, float] = {}
        steady = None  # (time, step) after the first chunk: speed excludes compiling
        last_checkpoint = last_log = last_evaluation = start

        def spent():
            return seconds_before + time.monotonic() - start

        with StopRequest() as stop, concurrent.futures.ThreadPoolExecutor(1) as ahead:
            pending = ahead.submit(self._batches, step, self._length(step))
            outcome = "steps"
            while True:
                if self.steps is not None and step >= self.steps:
                    break
                if self.minutes is not None and spent() >= 60 * self.minutes:
                    outcome = "minutes"
                    break
                if stop.asked:
                    outcome = "interrupted"
                    break
                length = self._length(step)
                batches = pending.result()
                pending = ahead.submit(self._batches, step + length, self._length(step + length))
                if step == first_step:
                    self.progress.note(f"{self.name}: compiling ...")
                clock = np.float32(spent() / (60 * self.minutes) if self.minutes is not None else 0.0)
                state, terms = compiled(state, batches, self.frozen, clock, total_steps, length=length)
                terms = {key: np.asarray(value, np.float64) for key, value in terms.items()}
                for key, value in terms.items():
                    if not np.isfinite(value).all():
                        at = step + int(np.argmin(np.isfinite(value)))
                        raise NumericsError(f"{self.folder}: the term {key!r} is not finite at step {at}; the last "
                                            "checkpoint is whole: lower the learning rate and run again")
                    weight = min(1.0, length / 50) if key in means else 1.0
                    means[key] = (1 - weight) * means.get(key, 0.0) + weight * float(value.mean())
                step += length
                now = time.monotonic()
                if steady is None:
                    self.progress.note(f"{self.name}: first chunk after {now - start:.1f} s")
                    steady = (now, step)
                speed = (step - steady[1]) / max(now - steady[0], 1e-9)
                rate = speed * self.batch_size
                self._show(step, speed, rate, means, spent())
                if now - last_log >= self.log_seconds:
                    last_log = now
                    self._log(step=step, seconds=round(spent(), 2), items_per_second=round(rate, 2), terms=means)
                if self.evaluate is not None and now - last_evaluation >= self.evaluate_seconds:
                    metrics = self._evaluate(state, step, spent())
                    last_evaluation = time.monotonic()
                if now - last_checkpoint >= self.checkpoint_seconds:
                    save_checkpoint(self.folder / CHECKPOINT, state, seconds=spent(), terms=means)
                    last_checkpoint = time.monotonic()
            seconds = spent()
            if step > first_step or not (self.folder / CHECKPOINT).is_file():
                save_checkpoint(self.folder / CHECKPOINT, state, seconds=seconds, terms=means)
            pending.cancel()
        rate = 0.0
        if steady is not None and step > steady[1]:
            rate = (step - steady[1]) / max(now - steady[0], 1e-9) * self.batch_size
        if outcome == "interrupted":
            self.progress.note(f"{self.name}: interrupted at step {step}, saved in {self.folder}: the same command "
                               "goes on")
        else:
            if self.evaluate is not None:
                metrics = self._evaluate(state, step, seconds)
            self.progress.note(f"{self.name}: done: step {step}, {duration(seconds)}, {rate:.1f} images/s, "
                               f"{_terms_text(means)}")
        self._log(step=step, seconds=round(seconds, 2), items_per_second=round(rate, 2), terms=means, outcome=outcome)
        return RunResult(state=state, outcome=outcome, steps=step, seconds=seconds, items_per_second=rate, terms=means,
                         metrics=metrics)

    def _evaluate(self, state, step, seconds) -> dict[str, float]:
        assert self.evaluate is not None
        metrics = {key: float(value) for key, value in self.evaluate(state).items()}
        self._log(step=step, seconds=round(seconds, 2), metrics=metrics)
        self.progress.note(f"{self.name}: step {step} held out: {_terms_text(metrics)}")
        return metrics

    def _show(self, step: int, speed: float, rate: float, means: dict[str, float], seconds: float) -> None:
        """The bar: how much of the budget is spent, the terms, the speed and what is left."""
        left, fractions = [], [0.0]
        if self.steps is not None:
            fractions.append(step / max(self.steps, 1))
            if speed > 0:
                left.append((self.steps - step) / speed)
        if self.minutes is not None:
            fractions.append(seconds / (60 * self.minutes))
            left.append(60 * self.minutes - seconds)
        facts = [f"step {step}" + (f"/{self.steps}" if self.steps is not None else ""), _terms_text(means),
                 f"{rate:.1f} images/s"]
        self.progress.status(max(fractions), facts + ([f"ETA {duration(min(left))}"] if left else []))
