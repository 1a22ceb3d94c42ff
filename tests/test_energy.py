"""The terms of the energy on closed forms, and the whole energy on a toy pack."""

import dataclasses
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from pie_jax.render import Rendering

from pie_jax import energy, optimise
from pie_jax.config import TERMS, EnergyConfig, StageConfig
from pie_jax.errors import PackError

EVERYTHING = EnergyConfig(render_resolution=16, samples=1)
ONE = dataclasses.replace(EVERYTHING, control_sampling="one", samples=2)


@lru_cache
def setting(config=EVERYTHING, count=3, parts=None):
    """Pack, energy, its inputs and a latent [count, L, D] with its keys."""
    pack = toy.toy_pack(jax.random.key(0), energy=config, parts=parts)
    described = energy.portrait_energy(pack, config=config)
    target = energy.prepare_target(pack, toy.portraits(jax.random.key(1), count, pack=pack))
    latent = 0.5 * jax.random.normal(jax.random.key(2), (count, toy.LAYERS, toy.W_DIM))
    return pack, described, energy.energy_inputs(pack, target, config=config), latent, optimise.portrait_keys(range(count))


@partial(jax.jit, static_argnames="described")
def evaluate(described, inputs, latent, keys):
    def total(x):
        energies, terms = described(inputs, x, keys)
        return energies.sum(), (energies, terms)

    (_, (energies, terms)), gradient = jax.value_and_grad(total, has_aux=True)(latent)
    return energies, terms, gradient


# ------------------------------------------------------------------------------------ closed forms
def test_synthesis_term():
    a, b = jnp.zeros((2, 4, 4, 3)), jnp.full((2, 4, 4, 3), 0.5)
    ours = {"x": jnp.zeros((2, 2, 2, 5)), "y": jnp.zeros((2, 1, 1, 7))}
    theirs = {"x": jnp.full((2, 2, 2, 5), 2.0), "y": jnp.full((2, 1, 1, 7), 3.0)}
    l2, perceptual = energy.synthesis_term(a, b, ours, theirs)
    np.testing.assert_allclose(l2, [0.25, 0.25])
    np.testing.assert_allclose(perceptual, [13.0, 13.0])
    np.testing.assert_array_equal(energy.synthesis_term(a, b, {}, {})[1], [0.0, 0.0])


def test_identity_term():
    rigged = jnp.stack([jnp.full((2, 3, 4), 1.0), jnp.full((2, 3, 4), 3.0)], axis=1)
    np.testing.assert_allclose(energy.identity_term(jnp.zeros((2, 3, 4)), rigged), [5.0, 5.0])


def test_recognition_term():
    e = jnp.eye(3)
    ours, edited = energy.recognition_term(e[:1], e[1:2], jnp.stack([e[0], -e[0]])[None])
    np.testing.assert_allclose(ours, [2.0])
    np.testing.assert_allclose(edited, [2.0])  # mean of 0 and 4


def rendering(resolution, leading=()):
    """A face that covers the left half, 0.5 grey, landmarks in the middle."""
    coverage = jnp.broadcast_to((jnp.arange(resolution) < resolution // 2).astype(jnp.float32),
                                (*leading, resolution, resolution))
    return Rendering(image=0.5 * coverage[..., None] * jnp.ones((1,) * coverage.ndim + (3,)), coverage=coverage,
                     landmarks=jnp.full((*leading, 66, 2), resolution / 2.0))


@pytest.mark.parametrize("resolution", [8, 32])
def test_face_distance_counts_covered_pixels_and_is_free_of_resolution(resolution):
    faces = jnp.ones((2, resolution, resolution, 3))
    landmarks = jnp.full((2, 66, 2), 0.5) + jnp.array([3.0, 4.0]).reshape(1, 1, 2) / 224.0
    photometric, landmark = energy.face_distance(faces, landmarks, rendering(resolution, (2,)))
    np.testing.assert_allclose(photometric, [0.25, 0.25])
    np.testing.assert_allclose(landmark, [25.0, 25.0], rtol=1e-4)
    empty = dataclasses.replace(rendering(resolution, (2,)), coverage=jnp.zeros((2, resolution, resolution)))
    np.testing.assert_array_equal(energy.face_distance(faces, landmarks, empty)[0], [0.0, 0.0])


def test_edit_and_invariance_terms_are_means_over_samples():
    drawn = rendering(8, (1, 2))
    faces = jnp.stack([jnp.full((8, 8, 3), 0.5), jnp.ones((8, 8, 3))])[None]
    points = jnp.full((1, 2, 66, 2), 0.5)
    np.testing.assert_allclose(energy.edit_term(faces, points, drawn)[0], [0.125])
    np.testing.assert_allclose(energy.invariance_term(faces[:, 1], points[:, 0], drawn)[0], [0.25])


# ---------------------------------------------------------------------------------------- assembly
def test_terms_add_up_and_weights_are_data():
    _, described, inputs, latent, keys = setting()
    energies, terms, _ = evaluate(described, inputs, latent, keys)
    assert described.missing == () and set(terms) == set(TERMS)
    np.testing.assert_allclose(energies, sum(terms.values()), rtol=1e-6)
    assert all(np.all(np.asarray(value) > 0) for value in terms.values())
    count = evaluate._cache_size()
    other = dataclasses.replace(EVERYTHING, weight_identity=5.0)
    pack = setting()[0]
    assert energy.portrait_energy(pack, config=other) == described
    heavier = energy.energy_inputs(pack, inputs.target, config=other)
    np.testing.assert_allclose(evaluate(described, heavier, latent, keys)[1]["identity"], 5 * terms["identity"],
                               rtol=1e-5)
    assert evaluate._cache_size() == count


@pytest.mark.parametrize("config", [EVERYTHING, ONE])
def test_portraits_do_not_look_at_each_other(config):
    _, described, inputs, latent, keys = setting(config)
    _, _, gradient = evaluate(described, inputs, latent, keys)
    changed = latent.at[1:].multiply(-2.0)
    np.testing.assert_array_equal(evaluate(described, inputs, changed, keys)[2][0], gradient[0])
    alone = dataclasses.replace(inputs, target=jax.tree.map(lambda x: x[:1], inputs.target))
    single = evaluate(described, alone, latent[:1], keys[:1])[2][0]
    np.testing.assert_allclose(single, gradient[0], atol=1e-5 * float(jnp.abs(gradient).max()))


def test_gradient_against_finite_differences_in_float64():
    """Along random directions; coverage and the visible triangles must not change on the way, so steps are tiny."""
    with jax.enable_x64(True):
        _, described, inputs, latent, keys = setting(EVERYTHING, 1)

        def double(tree):
            return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x, tree)

        inputs, latent = double(inputs), double(latent)
        gradient = evaluate(described, inputs, latent, keys)[2]
        for k in range(3):
            direction = jax.random.normal(jax.random.key(k), latent.shape, jnp.float64)
            h = 1e-6
            high, low = (evaluate(described, inputs, latent + s * direction, keys)[1] for s in (h, -h))
            numeric = sum(float((high[name] - low[name])[0]) for name in high) / (2 * h)
            np.testing.assert_allclose(float(jnp.vdot(gradient, direction)), numeric, rtol=2e-4, err_msg=str(k))


def test_one_control_at_a_time_is_the_same_in_the_mean():
    """The mean of "one" over many samples is the mean of "all"."""
    _, described, inputs, latent, _ = setting(dataclasses.replace(EVERYTHING, samples=40), 1)
    _, one, _, _, _ = setting(dataclasses.replace(ONE, samples=120), 1)
    keys = optimise.portrait_keys([5])
    all_terms = jax.jit(lambda: described(inputs, latent, keys)[1])()
    one_terms = jax.jit(lambda: one(inputs, latent, keys)[1])()
    for name in ("edit", "invariance", "recognition"):
        np.testing.assert_allclose(one_terms[name], all_terms[name], rtol=0.15, err_msg=name)


# ----------------------------------------------------------------------------------- missing parts
def test_without_rigs_the_energy_of_image2stylegan_remains():
    pack, described, inputs, latent, keys = setting(parts=("generator", "perceptual"))
    assert described.terms == ("synthesis",)
    assert ("edit", "the pack has no regressor") in described.missing
    assert ("pose", "the pack has no rignet_pose") in described.missing
    energies, terms, _ = evaluate(described, inputs, latent, keys)
    assert set(terms) == {"synthesis"} and np.all(np.isfinite(energies))


def test_nothing_left_is_an_error():
    pack = toy.toy_pack(jax.random.key(0), parts=("generator",), energy=EVERYTHING)
    with pytest.raises(PackError, match="no term of the energy is available"):
        energy.portrait_energy(pack, config=dataclasses.replace(EVERYTHING, terms=("edit",)))
    with pytest.raises(PackError, match="'generator' is missing"):
        energy.portrait_energy(toy.toy_pack(jax.random.key(0), parts=("regressor",)))
    pack = toy.toy_pack(jax.random.key(0))
    with pytest.raises(PackError, match="make the pool again"):
        energy.portrait_energy(pack, config=EnergyConfig(render_resolution=24))


def test_without_dfr_the_source_is_the_regressor():
    parts = ("generator", "regressor", "landmarks", "rignet_pose", "morphable", "pool")
    _, described, inputs, latent, keys = setting(parts=parts)
    assert not described.from_dfr and described.controls == ("pose",)
    energies, terms, gradient = evaluate(described, inputs, latent, keys)
    assert set(terms) == {"synthesis", "identity", "edit", "invariance"}
    assert np.all(np.isfinite(gradient)) and float(jnp.abs(gradient).max()) > 0


# ------------------------------------------------------------------------------------- in a stage
def test_a_stage_lowers_the_energy_resumes_bit_identically_and_names_a_bad_term():
    pack, described, inputs, latent, keys = setting()
    stage = StageConfig(space="w_plus", steps=12, chunk=6, learning_rate=30.0)
    whole = optimise.run_stage(optimise.start_stage(latent, keys, stage=stage), inputs, energy=described, stage=stage)
    assert whole.outcomes == ("finished",) * 3
    assert np.all(whole.trace["energy"][-1] < whole.trace["energy"][0])
    half = []
    count = optimise._run_chunk._cache_size()

    def stop(progress):
        half.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimise.run_stage(optimise.start_stage(latent, keys, stage=stage), inputs, energy=described, stage=stage,
                           progress=stop)
    rest = optimise.run_stage(optimise.to_device(half[0].state), inputs, energy=described, stage=stage,
                              trace=half[0].trace)
    np.testing.assert_array_equal(whole.state.latent, rest.state.latent)
    np.testing.assert_array_equal(whole.trace["edit"], rest.trace["edit"])
    theta = inputs.target.theta.at[1].set(jnp.nan)
    poisoned = dataclasses.replace(inputs, target=dataclasses.replace(inputs.target, theta=theta))
    bad = optimise.run_stage(optimise.start_stage(latent, keys, stage=stage), poisoned, energy=described, stage=stage)
    assert bad.outcomes == ("finished", "non-finite", "finished")
    assert {i.term for i in bad.incidents} == {"invariance"} and {i.portrait for i in bad.incidents} == {1}
    np.testing.assert_array_equal(bad.state.latent[0], whole.state.latent[0])
    np.testing.assert_array_equal(bad.state.latent[1], latent[1])
    assert optimise._run_chunk._cache_size() == count
