"""The branches that an accelerator takes, made and run on a CPU: the same results within rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from flax import linen as nn

from pie_jax import energy, optimise, runtime
from pie_jax.bounds import committed_bounds
from pie_jax.config import StageConfig
from pie_jax.face3d import raster, visibility
from pie_jax.nn import layers
from pie_jax.optimise import step
from pie_jax.training.core import loop

GPU = runtime.Backend(platform="gpu")
CPU = runtime.Backend(platform="cpu")
ONE_THREAD = runtime.Backend(platform="cpu", bounds=committed_bounds(1, shares_products=True))


def both(function, *, cpu=CPU):
    """What `function()` gives on a CPU's branches and on an accelerator's."""
    found = []
    for backend in (cpu, GPU):
        with runtime.made_for(backend):
            found.append(jax.device_get(function()))
    return found


def test_the_backend_is_that_of_the_chosen_device(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: pytest.fail("the default backend was asked for"))
    assert runtime.backend() == CPU
    with jax.default_device(jax.devices("cpu")[0]):
        assert runtime.backend().is_cpu
    with runtime.made_for(GPU):
        assert runtime.backend() == GPU and not runtime.backend().is_cpu
    assert runtime.backend() == CPU


def test_equal_programs_of_two_backends_are_compiled_apart():
    traces = []

    @jax.jit
    def program(x):
        traces.append(runtime.backend())
        return x + 1

    both(lambda: program(1.0))
    both(lambda: program(2.0))
    assert traces == [CPU, GPU]


class Net(nn.Module):
    """A modulated convolution of few and one of many channels, both up and level, and a plain one."""

    @nn.compact
    def __call__(self, x, w):
        x = layers.Conv(8, padding=1, name="plain")(x)
        x = layers.ModulatedConv(64, 16, name="wide")(x, w)
        x = layers.ModulatedConv(64, 16, name="same")(x, w)
        return layers.ModulatedConv(3, 32, up=True, name="up")(x, w)


def test_precomputed_convolutions_of_both_backends_agree():
    keys = jax.random.split(jax.random.key(0), 3)
    x, w = jax.random.normal(keys[0], (2, 16, 16, 3)), jax.random.normal(keys[1], (2, 6))
    weights = jax.jit(Net().init)(keys[2], x, w)["params"]
    names = []

    def run():
        values = jax.jit(lambda p: layers.precompute(Net(), p, x, w))(weights)
        names.append((set(values["same"]), set(values["up"])))
        apply = lambda x, w: Net().apply({"params": weights, "precomputed": values}, x, w)  # noqa: E731
        total = jax.jit(jax.value_and_grad(lambda x, w: jnp.sum(jnp.square(apply(x, w))), argnums=(0, 1)))
        return jax.jit(apply)(x, w), total(x, w)

    cpu, gpu = both(run, cpu=ONE_THREAD)
    assert names == [({"power", "winograd"}, {"power", "fused_upsample"}), ({"power", "adjoint"}, {"power", "kernels"})]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4 * np.abs(b).max()), cpu, gpu)


def test_rows_of_few_channels_agree():
    keys = jax.random.split(jax.random.key(1), 2)
    x, weight = jax.random.normal(keys[0], (1, 32, 32, 8)), jax.random.normal(keys[1], (3, 3, 8, 8)) / 8

    def run():
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.square(
            layers.conv(x, weight, adjoint=layers.adjoint_kernel(weight))))))(x)

    (value, gradient), (other, other_gradient) = both(run)
    np.testing.assert_allclose(value, other, rtol=1e-5)
    np.testing.assert_allclose(gradient, other_gradient, atol=1e-4 * np.abs(gradient).max())


def test_the_rasterizer_draws_the_same_in_turns_of_any_size():
    rng = np.random.default_rng(0)
    vertices = jnp.asarray(np.concatenate([rng.uniform(-4, 44, (2, 300, 2)), rng.uniform(1, 9, (2, 300, 1))], -1),
                           jnp.float32)
    triangles = jnp.asarray(rng.integers(0, 300, (500, 3)), jnp.int32)
    draw = jax.jit(lambda v: raster.rasterize(v, triangles, height=40, width=40))
    assert visibility.CPU_CHUNK != visibility.CHUNK
    cpu, gpu = both(lambda: draw(vertices))
    np.testing.assert_array_equal(cpu.triangle_id, gpu.triangle_id)
    np.testing.assert_allclose(cpu.barycentric, gpu.barycentric, atol=1e-5)


@pytest.mark.parametrize("lazy", [1, 2])
def test_a_scanned_chunk_is_its_single_steps(lazy):
    """The whole energy of a toy pack: 7 of 12 steps, in one program and step by step."""
    pack = toy.toy_pack(jax.random.key(0), configs=toy.SMALLEST)
    described = energy.portrait_energy(pack)
    target = energy.prepare_target(pack, toy.portraits(jax.random.key(1), 2, pack=pack))
    inputs = energy.energy_inputs(pack, target)
    start = np.random.default_rng(2).normal(size=(2, 1, toy.W_DIM))
    latent = jnp.repeat(jnp.asarray(start, jnp.float32), toy.SMALLEST.generator.num_layers, axis=1)
    stage = StageConfig(space="w_plus", steps=12, chunk=4, learning_rate=0.02, optimiser="adam", lazy_interval=lazy)
    keys = optimise.portrait_keys(jnp.arange(2))

    def run():
        state = optimise.start_stage(latent, keys, stage=stage)
        optimise.compile_chunk(state, inputs, energy=described, stage=stage)
        state, trace = optimise.run_chunk(state, inputs, energy=described, stage=stage)
        return state.latent, trace

    before = step._run_chunk._cache_size()
    (latents, trace), (scanned, scanned_trace) = both(run)
    assert step._run_chunk._cache_size() == before + 1  # the accelerator's form ran, once compiled
    np.testing.assert_array_equal(trace["step"], scanned_trace["step"])
    np.testing.assert_allclose(trace["energy"], scanned_trace["energy"], rtol=2e-4)
    np.testing.assert_allclose(latents, scanned, atol=2e-3)


def test_a_training_is_the_same_scanned_and_step_by_step(tmp_path):
    optimiser = optax.scale_by_adam()

    def one(state, batch):
        value, gradients = jax.value_and_grad(lambda w: jnp.sum(jnp.square(w["a"] - batch)))(state.weights)
        state = loop.apply_gradients(state, gradients, optimiser=optimiser, learning_rate=0.1)
        return state, {"loss": value}

    def run():
        state = loop.new_state(jax.random.key(0), {"a": jnp.zeros(3)}, optimiser)
        result = loop.run(tmp_path / runtime.backend().platform, state, one, steps=20, chunk=7, quiet=True,
                          batch_fn=lambda step: np.float32([step % 3, 1, 2]))
        return dataclasses.asdict(result.state)["weights"]

    cpu, gpu = both(run)
    np.testing.assert_allclose(cpu["a"], gpu["a"], rtol=1e-5)
