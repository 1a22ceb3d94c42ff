"""The stage loop on energies of a few lines: recurrence, spaces, independence, resume, non-finite values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pie_jax import optimise
from pie_jax.config import PRESETS, StageConfig
from pie_jax.io import read_npz, write_npz
from pie_jax.optimise import step

STAGE = StageConfig(space="w_plus", steps=12, learning_rate=0.7, rho=0.9, epsilon=1e-6, chunk=5)


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """Distance to a target plus a random pull; `poison` makes one term or gradient bad where the latent is far."""

    noise: float = 0.1
    poison: str = ""

    def __call__(self, target, latent, keys):
        pull = self.noise * jax.vmap(lambda k: jax.random.normal(k, latent.shape[1:]))(keys)
        near = jnp.sum(jnp.square(latent - target), axis=(1, 2))
        side = jnp.sum(pull * latent, axis=(1, 2))
        far = jnp.max(jnp.abs(latent), axis=(1, 2)) > 0.5
        if self.poison == "term":
            side = jnp.where(far, jnp.nan, side)
        if self.poison == "gradient":  # the slope of sqrt is infinite at 0, and infinity times 0 is nan
            side = side + jnp.sqrt(0.0 * jnp.square(latent[:, 0, 0]) + jnp.where(far, 0.0, 1.0)) - 1.0
        return near + side, {"near": near, "side": side}

    lazy_terms = ("side",)

    def without_lazy_terms(self):
        return Near()


@dataclasses.dataclass(frozen=True)
class Near:
    """The first term of `Quadratic` alone."""

    def __call__(self, target, latent, keys):
        near = jnp.sum(jnp.square(latent - target), axis=(1, 2))
        return near, {"near": near}


def begin(batch=2, *, stage=STAGE, layers=3, seeds=None):
    keys = optimise.portrait_keys(jnp.arange(batch) if seeds is None else jnp.asarray(seeds))
    return optimise.start_stage(jnp.zeros((batch, layers, 4)), keys, stage=stage)


def target(batch=2, layers=3, scale=1.0):
    return scale * jax.random.normal(jax.random.key(5), (batch, layers, 4))


def compilations():
    return step._run_chunk._cache_size() + step._run_step._cache_size()


def test_equals_the_textbook_recurrence():
    """AdaDelta, arXiv 1212.5701, algorithm 1, in numpy."""
    aim, energy = target(), Quadratic(noise=0.0)
    result = optimise.run_stage(begin(), aim, energy=energy, stage=STAGE)
    x = np.zeros((2, 3, 4), np.float32)
    squared_gradient, squared_update = np.zeros_like(x), np.zeros_like(x)
    near = []
    for _ in range(STAGE.steps):
        near.append(np.sum(np.square(x - aim), axis=(1, 2)))
        g = 2 * (x - np.asarray(aim))
        squared_gradient = STAGE.rho * squared_gradient + (1 - STAGE.rho) * g**2
        update = -np.sqrt(squared_update + STAGE.epsilon) / np.sqrt(squared_gradient + STAGE.epsilon) * g
        squared_update = STAGE.rho * squared_update + (1 - STAGE.rho) * update**2
        x = x + STAGE.learning_rate * update
    np.testing.assert_allclose(result.state.latent, x, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(result.trace["near"], near, rtol=1e-5)
    assert result.outcomes == ("finished", "finished") and result.incidents == ()
    assert result.trace["energy"].shape == (12, 2) and set(result.trace) == {"energy", "near", "side"}


def test_tied_rows_are_optimisation_of_one_code():
    """A "w" stage on L equal rows is AdaDelta on w with the energy of the repeated w."""
    stage = dataclasses.replace(STAGE, space="w")
    aim = target()
    result = optimise.run_stage(begin(stage=stage), aim, energy=Quadratic(noise=0.0), stage=stage)
    rows = np.asarray(result.state.latent)
    np.testing.assert_array_equal(rows, np.repeat(rows[:, :1], 3, axis=1))
    optimiser = optax.adadelta(stage.learning_rate, rho=stage.rho, eps=stage.epsilon)
    w = jnp.zeros((2, 4))
    memory = optimiser.init(w)
    gradient = jax.grad(lambda w: jnp.sum(jnp.square(optimise.to_latent(w, layers=3) - aim)))
    for _ in range(stage.steps):
        updates, memory = optimiser.update(gradient(w), memory, w)
        w = w + updates
    np.testing.assert_allclose(rows[:, 0], w, rtol=1e-5, atol=1e-7)


def test_adam_with_a_falling_rate_is_optax_adam():
    stage = dataclasses.replace(STAGE, optimiser="adam", learning_rate=0.3, final_rate=0.1, beta1=0.8, beta2=0.95)
    aim = target()
    result = optimise.run_stage(begin(stage=stage), aim, energy=Quadratic(noise=0.0), stage=stage)
    rate = optax.cosine_decay_schedule(0.3, stage.steps - 1, alpha=0.1)
    optimiser = optax.adam(rate, b1=0.8, b2=0.95)
    x = jnp.zeros_like(aim)
    memory = optimiser.init(x)
    for _ in range(stage.steps):
        updates, memory = optimiser.update(2 * (x - aim), memory)
        x = x + updates
    np.testing.assert_allclose(result.state.latent, x, rtol=1e-5, atol=1e-6)


def test_rates_and_lengths_share_a_compilation():
    aim, energy = target(), Quadratic()
    stage = dataclasses.replace(STAGE, optimiser="adam", steps=3)
    optimise.run_stage(begin(stage=stage), aim, energy=energy, stage=stage)
    before = compilations()
    other = dataclasses.replace(stage, space="w", steps=4, learning_rate=0.01, final_rate=0.5)
    optimise.run_stage(begin(stage=other), aim, energy=energy, stage=other)
    assert compilations() == before


@pytest.mark.parametrize("name", PRESETS)
def test_the_stages_of_a_preset_share_a_compilation(name):
    assert len({optimise.compilation_key(stage) for stage in PRESETS[name]}) == 1


def test_a_portrait_does_not_depend_on_its_neighbours():
    energy, aim = Quadratic(), target(3)
    together = optimise.run_stage(begin(3, seeds=[7, 8, 9]), aim, energy=energy, stage=STAGE)
    changed = optimise.run_stage(begin(3, seeds=[7, 1, 2]), aim.at[1:].set(30.0), energy=energy, stage=STAGE)
    alone = optimise.run_stage(begin(1, seeds=[7]), aim[:1], energy=energy, stage=STAGE)
    np.testing.assert_array_equal(together.state.latent[0], changed.state.latent[0])
    np.testing.assert_allclose(together.state.latent[0], alone.state.latent[0], atol=1e-6)
    assert not np.allclose(together.state.latent[1], changed.state.latent[1])


def test_every_step_and_stage_draws_anew():
    keys = optimise.portrait_keys([3])
    states = [optimise.start_stage(jnp.zeros((1, 1, 1)), keys, stage=STAGE, index=i) for i in (0, 1)]
    states.append(dataclasses.replace(states[0], step=jnp.ones(1, jnp.int32)))
    drawn = {tuple(np.asarray(jax.random.key_data(step.step_keys(s)))[0]) for s in states}
    assert len(drawn) == 3


def test_resume_is_bit_identical(tmp_path):
    energy, aim = Quadratic(), target()
    whole = optimise.run_stage(begin(), aim, energy=energy, stage=STAGE)
    saved = []

    def interrupt(progress):
        write_npz(tmp_path / "state.npz", optimise.state_arrays(progress.state))
        saved.append(progress)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimise.run_stage(begin(), aim, energy=energy, stage=STAGE, progress=interrupt)
    assert [p.step for p in saved] == [5, 10]
    state = optimise.state_from_arrays(read_npz(tmp_path / "state.npz"), stage=STAGE)
    rest = optimise.run_stage(state, aim, energy=energy, stage=STAGE, trace=saved[-1].trace)
    jax.tree.map(np.testing.assert_array_equal, optimise.to_host(whole.state), optimise.to_host(rest.state))
    np.testing.assert_array_equal(whole.trace["energy"], rest.trace["energy"])
    with pytest.raises(ValueError, match="state of this stage"):
        optimise.state_from_arrays({"state_0": np.zeros((2, 3, 4), np.float32)}, stage=STAGE)


@pytest.mark.parametrize(("poison", "name"), [("term", "side"), ("gradient", "gradient of side")])
def test_a_bad_value_is_named_and_the_last_good_latent_kept(poison, name):
    """Portrait 1 must pass |x| = 0.5 on its way: it is rolled back, slowed, given up; portrait 0 never knows."""
    stage = dataclasses.replace(STAGE, learning_rate=20.0, steps=60, chunk=20)
    aim = jnp.stack([jnp.zeros((3, 4)), jnp.full((3, 4), 5.0)])
    poisoned = Quadratic(noise=1e-4, poison=poison)
    result = optimise.run_stage(begin(stage=stage), aim, energy=poisoned, stage=stage)
    clean = optimise.run_stage(begin(stage=stage), aim, energy=Quadratic(noise=1e-4), stage=stage)
    assert result.outcomes == ("finished", "non-finite")
    assert [i.portrait for i in result.incidents] == [1] * 4 and [i.retry for i in result.incidents] == [0, 1, 2, 3]
    assert {i.term for i in result.incidents} == {name}
    assert float(result.state.scale[1]) == 0.5**4
    latent = np.asarray(result.state.latent)
    assert np.all(np.isfinite(latent)) and np.max(np.abs(latent[1])) <= 0.5
    np.testing.assert_array_equal(latent[0], clean.state.latent[0])


def test_a_slower_retry_can_recover():
    @dataclasses.dataclass(frozen=True)
    class Cliff:
        def __call__(self, _, latent, keys):
            x = latent[:, 0, 0]
            energy = jnp.where(x > 1.2, jnp.inf, jnp.square(x - 1.0))
            return energy, {"cliff": energy}

    stage = StageConfig(space="w_plus", steps=9, learning_rate=500.0, rho=0.9, epsilon=1e-6, chunk=10)
    state = optimise.start_stage(jnp.zeros((1, 1, 1)), optimise.portrait_keys([0]), stage=stage)
    result = optimise.run_stage(state, None, energy=Cliff(), stage=stage)
    assert result.outcomes == ("finished",) and {i.term for i in result.incidents} == {"cliff"}
    assert np.all(np.isfinite(result.trace["energy"])) and 0.0 < float(result.state.latent[0, 0, 0])


def test_one_compilation_for_all_stages_and_portraits():
    energy = Quadratic(noise=0.25)
    optimise.compile_chunk(begin(), target(), energy=energy, stage=STAGE)
    count = compilations()
    for stage in (STAGE, dataclasses.replace(STAGE, space="w", steps=7)):
        state = begin(stage=stage)
        optimise.run_stage(state, target(scale=2.0), energy=Quadratic(noise=0.25), stage=stage)
    assert compilations() == count


@pytest.mark.parametrize("interval", [1, 3])
def test_the_scan_and_single_steps_are_one_algorithm(interval):
    """Accelerators scan a chunk, a CPU calls one compiled step: same latents, same trace."""
    ours = dataclasses.replace(STAGE, lazy_interval=interval)
    energy, aim, stage = Quadratic(noise=0.25), target(), optimise.compilation_key(ours)
    more = {"energy": energy, "stage": stage}
    scanned, singles = begin(), begin()
    for _ in range(3):  # 15 > 12 steps
        scanned, trace = step._run_chunk(scanned, aim, step._Settings.of(ours), **more)
        singles, same = step._run_steps(singles, aim, step._Settings.of(ours), **more)
        np.testing.assert_array_equal(trace["step"], same["step"])
        moved = np.asarray(trace["step"]) >= 0
        np.testing.assert_allclose(trace["energy"][moved], same["energy"][moved], rtol=1e-5)
    np.testing.assert_allclose(scanned.latent, singles.latent, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------------------------- lazy terms
LAZY = dataclasses.replace(STAGE, lazy_interval=3)


def test_lazy_terms_move_every_third_step_three_times_as_hard():
    """The same recurrence by hand: the pull in steps 0, 3, 6, ..., three times as strong."""
    aim, energy, keys = target(), Quadratic(noise=1.0), optimise.portrait_keys(jnp.arange(2))
    result = optimise.run_stage(begin(stage=LAZY), aim, energy=energy, stage=LAZY)
    optimiser = optax.adadelta(LAZY.learning_rate, rho=LAZY.rho, eps=LAZY.epsilon)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
    x, near, side = jnp.zeros_like(aim), [], []
    memory = optimiser.init(x)
    for i in range(LAZY.steps):
        drawn = jax.vmap(lambda k, i=i: jax.random.fold_in(jax.random.fold_in(k, i), 0))(keys)
        pull = jax.vmap(lambda k: jax.random.normal(k, (3, 4)))(drawn)
        near.append(jnp.sum(jnp.square(x - aim), axis=(1, 2)))
        side.append(jnp.sum(pull * x, axis=(1, 2)) if i % 3 == 0 else jnp.full(2, jnp.nan))
        updates, memory = optimiser.update(2 * (x - aim) + (3 * pull if i % 3 == 0 else 0), memory, x)
        x = x + updates
    np.testing.assert_allclose(result.state.latent, x, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.trace["near"], near, rtol=1e-4)
    np.testing.assert_allclose(result.trace["side"], side, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.trace["energy"], np.add(near, side), rtol=1e-4, atol=1e-6)
    assert result.outcomes == ("finished", "finished") and result.incidents == ()


def test_lazy_terms_do_not_tie_a_portrait_to_its_neighbours():
    """One portrait is rolled back and has other turns from then on; the other one does not notice."""
    poisoned = Quadratic(poison="gradient", noise=1e-4)
    stage = dataclasses.replace(LAZY, steps=9, optimiser="adam", learning_rate=0.2)
    aim = target(2, scale=0.1).at[1].set(30.0)
    together = optimise.run_stage(begin(stage=stage), aim, energy=poisoned, stage=stage)
    alone = optimise.run_stage(begin(1, stage=stage), aim[:1], energy=poisoned, stage=stage)
    assert together.outcomes[0] == "finished" and any(i.portrait == 1 for i in together.incidents)
    np.testing.assert_allclose(together.state.latent[0], alone.state.latent[0], atol=1e-6)
    np.testing.assert_allclose(together.trace["side"][:, :1], alone.trace["side"], atol=1e-6)


def test_a_compiled_stage_with_lazy_terms_compiles_nothing_more():
    energy = Quadratic(noise=0.125)
    optimise.compile_chunk(begin(stage=LAZY), target(), energy=energy, stage=LAZY)
    count = compilations()
    optimise.run_stage(begin(stage=LAZY), target(scale=2.0), energy=energy, stage=LAZY)
    assert compilations() == count


def test_along_given_axes_adam_is_adam_of_turned_coordinates():
    plain = dataclasses.replace(STAGE, optimiser="adam", learning_rate=0.1)
    turned = dataclasses.replace(plain, optimiser="principal_adam")
    vectors = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0], jnp.float32)
    axes = optimise.Axes(vectors=vectors, scale=jnp.ones(4))
    energy = Quadratic(noise=0.0)
    ours = optimise.run_stage(begin(stage=turned), target(), energy=energy, stage=turned, axes=axes)
    bowl = target() @ vectors  # the same one, turned
    due = optimise.run_stage(begin(stage=plain), bowl, energy=energy, stage=plain)
    np.testing.assert_allclose(ours.state.latent @ vectors, due.state.latent, atol=1e-5)
    farther = dataclasses.replace(axes, scale=jnp.asarray([1.0, 1.0, 1.0, 0.0]))
    still = optimise.run_stage(begin(stage=turned), target(), energy=energy, stage=turned, axes=farther)
    np.testing.assert_allclose((still.state.latent @ vectors)[..., 3], 0.0, atol=1e-6)
    with pytest.raises(ValueError, match="principal_adam"):
        optimise.run_stage(begin(stage=turned), target(), energy=energy, stage=turned)
