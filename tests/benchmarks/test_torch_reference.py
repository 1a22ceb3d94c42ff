"""The PyTorch reference against pie_jax, part by part: two implementations that share nothing but the description."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

torch = pytest.importorskip("torch")

from benchmarks import torch_reference  # noqa: E402
from benchmarks.torch_reference import parity, raster  # noqa: E402
from pie_jax import energy, optimise  # noqa: E402
from pie_jax.config import CameraConfig, EnergyConfig, RegressorConfig, StageConfig  # noqa: E402
from pie_jax.face3d import raster as our_raster  # noqa: E402
from pie_jax.face3d import render  # noqa: E402
from pie_jax.face3d.morphable import FaceParams  # noqa: E402

ALL = dataclasses.replace(toy.CONFIGS, energy=EnergyConfig(render_resolution=16))
SMALL = dataclasses.replace(
    toy.CONFIGS, **toy.layers_for(dataclasses.replace(toy.GENERATOR, resolution=16, clamp=1.5)),
    regressor=RegressorConfig(stage_sizes=(1, 1), bottleneck=True, width=4, resolution=16),
    energy=EnergyConfig(render_resolution=16, control_sampling="one", samples=2, rig_source="regressor"))
CASES = {"all-dfr": ALL, "one-regressor": SMALL}


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    configs = CASES[request.param]
    pack = toy.toy_pack(jax.random.key(3), configs=configs)
    # Random biases drown what 13 layers of random kernels see: descriptors would differ by rounding only.
    lively = jax.tree_util.tree_map_with_path(
        lambda path, x: x * (2.0 if path[-1].key == "kernel" else 0.5), pack.weights["recognition"])
    pack = dataclasses.replace(pack, weights={**pack.weights, "recognition": lively})
    described = energy.portrait_energy(pack)
    inputs = energy.energy_inputs(pack, energy.prepare_target(pack, toy.portraits(jax.random.key(4), 2, pack=pack)))
    latent = 0.5 * np.random.default_rng(5).normal(size=(2, configs.generator.num_layers, toy.W_DIM))
    return described, inputs, jnp.asarray(latent, jnp.float32), optimise.portrait_keys(np.arange(2))


@pytest.mark.parametrize("form", torch_reference.FORMS)
def test_every_part_and_its_gradient_agree(case, form):
    described, inputs, latent, keys = case
    theirs = torch_reference.TorchEnergy(described, inputs, form=form)
    found = parity.compare(described, inputs, latent, keys, energy=theirs)
    assert set(found) == {"energy", "gradient", *described.terms}
    rows = parity.rows_of(described, inputs, keys)
    for part in inputs.factors:
        alone = {name: jnp.float32(name == part) for name in inputs.factors}
        ours = parity.jax_gradient(described, dataclasses.replace(inputs, factors=alone), latent,
                                   jax.random.clone(keys))
        theirs.factors = {name: float(value) for name, value in alone.items()}
        energies, _, gradient = parity.torch_gradient(theirs, latent, *rows)
        assert parity.relative(ours[0], energies) < 1e-4, part
        assert parity.relative(ours[2], gradient) < 1e-3, part
        assert np.linalg.norm(gradient) > 0, part


def test_a_difference_is_an_error(case):
    described, inputs, latent, keys = case
    theirs = torch_reference.TorchEnergy(described, inputs)
    theirs.factors["identity"] *= 1.1
    with pytest.raises(AssertionError, match="identity"):
        parity.compare(described, inputs, latent, keys, energy=theirs)


def test_a_difference_of_gradients_alone_is_an_error(case, monkeypatch):
    described, inputs, latent, keys = case

    def steeper(*arguments):
        energies, terms, gradient = torch_gradient(*arguments)
        return energies, terms, 1.01 * gradient

    torch_gradient = parity.torch_gradient
    monkeypatch.setattr(parity, "torch_gradient", steeper)
    with pytest.raises(AssertionError, match="gradient"):
        parity.compare(described, inputs, latent, keys, energy=torch_reference.TorchEnergy(described, inputs))


def test_a_kink_at_the_codes_is_told_and_the_gradients_compared_beside_it(case):
    described, inputs, latent, keys = case
    energies, terms, gradient = parity.jax_gradient(described, inputs, latent, jax.random.clone(keys))
    found = parity.compare(described, inputs, latent, keys, energy=torch_reference.TorchEnergy(described, inputs),
                           stepped=(energies, terms, 1.01 * gradient))
    assert found["gradient"] < 1e-3 and found["kink"] == pytest.approx(0.01, rel=0.1)


def test_rasterizers_see_the_same_triangles():
    model = toy.toy_morphable(1, rings=20, spokes=30)
    vector = 0.3 * np.random.default_rng(0).normal(size=(3, 257)).astype(np.float32)
    vertices = render.project(model.mean_shape, FaceParams.from_vector(jnp.asarray(vector)), CameraConfig(),
                              resolution=48)
    ours = our_raster.rasterize(vertices, model.triangles, height=48, width=48).triangle_id
    theirs = raster.visible_triangles(torch.from_numpy(np.array(vertices)),
                                      torch.from_numpy(np.array(model.triangles)).long(), side=48)
    assert np.mean(np.asarray(ours) >= 0) > 0.1
    assert np.mean(np.asarray(ours) != theirs.numpy()) < 1e-3  # depths that tie within rounding


@dataclasses.dataclass(frozen=True)
class Bowl:
    """sum of (w - target)^2 by portrait, in JAX."""

    def __call__(self, inputs, latent, keys):
        value = jnp.sum(jnp.square(latent - inputs), axis=(1, 2))
        return value, {"bowl": value}


@pytest.mark.parametrize("space", ["w", "w_plus"])
def test_adadelta_takes_the_same_steps(space):
    rng = np.random.default_rng(6)
    start, target = (rng.normal(size=(2, n, 5)).astype(np.float32) for n in (1, 3))
    start = np.repeat(start, 3, axis=1)
    stage = StageConfig(space=space, steps=20, chunk=20, learning_rate=10.0)
    state = optimise.start_stage(jnp.asarray(start), optimise.portrait_keys([0, 1]), stage=stage)
    ours = optimise.run_stage(state, jnp.asarray(target), energy=Bowl(), stage=stage)

    def bowl(latent, rows, choice):
        value = (latent - torch.from_numpy(target)).square().sum((1, 2))
        return value, {"bowl": value}

    stepper = torch_reference.Stepper(bowl, torch.from_numpy(start), space=space, learning_rate=10.0)
    trace = [stepper.step(None).numpy() for _ in range(stage.steps)]
    np.testing.assert_allclose(trace, ours.trace["energy"], rtol=1e-5)
    np.testing.assert_allclose(stepper.latent.detach().expand(-1, 3, -1), ours.state.latent, rtol=1e-4, atol=1e-5)
    assert trace[-1].sum() < trace[0].sum()
