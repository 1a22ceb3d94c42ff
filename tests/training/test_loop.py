"""The training loop: falls, resumes bit for bit, stops whole, refuses what does not fit."""

import dataclasses
import itertools
import json
import os
import signal
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pie_jax import runtime
from pie_jax.errors import NumericsError, PieError, UsageError
from pie_jax.training.core import loop
from pie_jax.training.core.checkpoints import load_checkpoint, save_checkpoint

OPTIMISER = optax.scale_by_adam()


def toy_state(seed=0):
    key = jax.random.key(seed)
    return loop.new_state(key, {"a": jnp.zeros((3,)), "b": {"c": jnp.ones((2, 2))}}, OPTIMISER)


def toy_step(state, batch):
    def loss(weights):
        noise = 0.01 * jax.random.normal(loop.step_key(state), (3,))
        return jnp.sum((weights["a"] - batch + noise) ** 2) + jnp.sum(weights["b"]["c"] ** 2)

    value, gradients = jax.value_and_grad(loss)(state.weights)
    state = loop.apply_gradients(state, gradients, optimiser=OPTIMISER,
                                 learning_rate=loop.cosine(state.fraction, peak=0.1), ema_decay=0.9)
    return state, {"loss": value}


def toy_batch(step):
    return np.float32([1, 2, 3]) + np.random.default_rng(step).normal(size=3).astype(np.float32) * 0.01


def leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves(dataclasses.replace(state, key=jax.random.key_data(state.key)))]


def run(folder, **knobs):
    return loop.run(folder, toy_state(), toy_step, batch_fn=toy_batch, quiet=True, chunk=7, **knobs)


def test_the_loss_falls_and_the_log_says_so(tmp_path):
    result = run(tmp_path, steps=200, log_seconds=0.0, evaluate=lambda state: {"error": float(state.ema["a"][0]) - 1},
                 evaluate_seconds=1e9)
    assert result.outcome == "steps" and result.steps == 200
    np.testing.assert_allclose(result.state.weights["a"], [1, 2, 3], atol=0.05)
    np.testing.assert_allclose(result.state.ema["a"], [1, 2, 3], atol=0.1)
    assert abs(result.metrics["error"]) < 0.1
    rows = [json.loads(line) for line in (tmp_path / loop.LOG).read_text().splitlines()]
    assert rows[-1]["outcome"] == "steps" and rows[0]["terms"]["loss"] > rows[-1]["terms"]["loss"]


def test_a_resumed_run_is_bit_identical(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", steps=60)
    saved = loop.save_checkpoint
    calls = []

    def save_then_stop(path, state, **knobs):
        saved(path, state, **knobs)
        calls.append(int(state.step))
        if len(calls) == 2:
            raise RuntimeError("power cut")

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", steps=60, checkpoint_seconds=0.0)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    resumed = run(tmp_path / "cut", steps=60)
    assert calls == [7, 14] and resumed.terms == whole.terms
    for a, b in zip(leaves(whole.state), leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_not_trained_further_but_a_longer_one_is(tmp_path):
    first = run(tmp_path, steps=20)
    again = run(tmp_path, steps=20)
    assert again.steps == 20
    for a, b in zip(leaves(first.state), leaves(again.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert run(tmp_path, steps=30).steps == 30
    assert run(tmp_path, steps=10, restart=True).steps == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_whole_checkpoint(tmp_path, number):
    def batch(step):
        if step == 40:
            os.kill(os.getpid(), number)
        return toy_batch(step)

    before = signal.getsignal(number)
    result = loop.run(tmp_path, toy_state(), toy_step, batch_fn=batch, quiet=True, chunk=1, steps=100_000)
    assert signal.getsignal(number) is before
    assert result.outcome == "interrupted" and 30 <= result.steps < 100_000
    state, _, _ = load_checkpoint(tmp_path / loop.CHECKPOINT, toy_state())
    for a, b in zip(leaves(state), leaves(result.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert threading.active_count() < 20


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_every_nth_step_may_be_another(tmp_path, platform):
    def still(state, batch):
        state, terms = toy_step(state, batch)
        return state, {"loss": 0.0 * terms["loss"]}

    with runtime.made_for(runtime.Backend(platform=platform)):
        every = {"a": {"occasional": (3, still)}, "b": {}, "c": {"occasional": (1, still)}}
        for name, knobs in every.items():
            run(tmp_path / name, steps=4, **knobs)
        result, plain, always = (run(tmp_path / name, steps=11, **knobs) for name, knobs in every.items())
    for one in (result, always):  # the steps themselves are the same here
        assert all(np.array_equal(a, b) for a, b in zip(leaves(one.state), leaves(plain.state), strict=True))
    assert always.terms["loss"] == 0.0 < result.terms["loss"] < plain.terms["loss"]


def test_minutes_end_a_run_and_drive_the_schedule(tmp_path, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.05 * next(ticks)))  # each look takes 50 ms
    result = run(tmp_path, minutes=0.02)
    assert result.outcome == "minutes" and 1.2 <= result.seconds < 1.5  # the minutes, and no whole chunk more
    assert 0 < float(result.state.fraction) <= 1
    assert next(ticks) * 0.05 < 30


def test_a_term_that_is_not_finite_is_named(tmp_path):
    def step(state, batch):
        state, terms = toy_step(state, batch)
        return state, terms | {"photometric": jnp.where(state.step > 10, jnp.nan, 1.0)}

    with pytest.raises(NumericsError, match="'photometric' is not finite at step 10"):
        loop.run(tmp_path, toy_state(), step, batch_fn=toy_batch, quiet=True, chunk=7, steps=30)


def test_a_field_that_an_older_version_did_not_know_is_no_difference(tmp_path):
    run(tmp_path, steps=5, description={"config": {"width": 4}})
    run(tmp_path, steps=6, description={"config": {"width": 4, "kind": "skip"}})
    with pytest.raises(PieError, match="was started with config"):
        run(tmp_path, steps=7, description={"config": {"width": 8, "kind": "skip"}})


def test_what_does_not_fit_is_refused(tmp_path):
    run(tmp_path, steps=5, description={"batch": 4})
    with pytest.raises(PieError, match="batch=4, now 8"):
        run(tmp_path, steps=5, description={"batch": 8})
    other = loop.new_state(jax.random.key(0), {"a": jnp.zeros((4,))}, OPTIMISER)
    with pytest.raises(PieError, match="pass --restart"):
        load_checkpoint(tmp_path / loop.CHECKPOINT, other)
    with pytest.raises(UsageError):
        run(tmp_path)
    (tmp_path / loop.CHECKPOINT).write_bytes(b"PK nonsense")
    with pytest.raises(PieError, match="not a checkpoint"):
        run(tmp_path, steps=5, description={"batch": 4})


def test_one_trace_and_frozen_weights_are_arguments(tmp_path):
    traces = []

    def step(state, batch, frozen):
        traces.append(0)
        return toy_step(state, batch + frozen["shift"])

    result = loop.run(tmp_path, toy_state(), step, batch_fn=toy_batch, frozen={"shift": jnp.ones((3,))}, steps=140,
                      chunk=7, quiet=True)
    assert len(traces) == 1
    np.testing.assert_allclose(result.state.weights["a"], [2, 3, 4], atol=0.1)


def test_checkpoint_keeps_typed_keys(tmp_path):
    save_checkpoint(tmp_path / "c.npz", toy_state(3), seconds=1.5, terms={"loss": 0.25})
    state, seconds, terms = load_checkpoint(tmp_path / "c.npz", toy_state(0))
    assert seconds == 1.5 and terms == {"loss": 0.25}
    np.testing.assert_array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(3)))


def test_cosine_schedule():
    at = [float(loop.cosine(jnp.float32(f), peak=2.0, final=0.1, warm_up=0.1)) for f in (0.05, 0.1, 0.55, 1.0)]
    np.testing.assert_allclose(at, [1.0, 2.0, 1.1, 0.2], rtol=1e-5)
