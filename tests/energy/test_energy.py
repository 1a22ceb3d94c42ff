"""The terms of the energy on closed forms, and the whole energy on a toy pack."""

import dataclasses
import sys
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from pie_jax import energy, optimise
from pie_jax.config import TERMS, EnergyConfig, StageConfig
from pie_jax.errors import PackError
from pie_jax.face3d.render import Rendering, VertexRendering
from pie_jax.optimise import step
from pie_jax.pack.inference import synthesise

EVERYTHING = EnergyConfig(render_resolution=16, weight_l2=10.0, weight_landmark=1e-5)
portrait_energy_module = sys.modules[energy.PortraitEnergy.__module__]  # its name is also a function's
CONFIGS = dataclasses.replace(toy.SMALLEST, energy=EVERYTHING)
LAYERS = CONFIGS.generator.num_layers
STAGE = StageConfig(space="w_plus", steps=12, chunk=6, learning_rate=30.0)


@lru_cache
def setting(config=EVERYTHING, count=3, parts=None):
    """Pack, energy, its inputs and a latent [count, L, D]."""
    pack = toy.toy_pack(jax.random.key(0), configs=CONFIGS, energy=config, parts=parts)
    described = energy.portrait_energy(pack, config=config)
    target = energy.prepare_target(pack, toy.portraits(jax.random.key(1), count, pack=pack))
    latent = 0.5 * np.random.default_rng(2).normal(size=(count, LAYERS, toy.W_DIM))
    return pack, described, energy.energy_inputs(pack, target, config=config), jnp.asarray(latent, jnp.float32)


@partial(jax.jit, static_argnames="described")
def evaluate(described, inputs, latent):
    """Energies, terms and gradient; portrait i draws with the key of seed i."""
    keys = optimise.portrait_keys(jnp.arange(latent.shape[0]))

    def total(x):
        energies, terms = described(inputs, x, keys)
        return energies.sum(), (energies, terms)

    (_, (energies, terms)), gradient = jax.value_and_grad(total, has_aux=True)(latent)
    return energies, terms, gradient


def compilations():
    return step._run_chunk._cache_size() + step._run_step._cache_size()


def run(inputs, latent, *, described, **more):
    keys = optimise.portrait_keys(jnp.arange(latent.shape[0]))
    return optimise.run_stage(optimise.start_stage(latent, keys, stage=STAGE), inputs, energy=described, stage=STAGE,
                              **more)


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


def test_per_vertex_distance_samples_the_face_where_the_vertices_are():
    """A face that is linear in x and y is sampled exactly; hidden vertices do not count."""
    x, y = np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5)
    face = jnp.asarray(np.stack([x, y, x + y], -1) / 16, jnp.float32)[None]
    points = np.random.default_rng(0).uniform(0.5, 7.5, (1, 20, 2)).astype(np.float32)
    exact = np.stack([points[..., 0], points[..., 1], points.sum(-1)], -1) / 16
    np.testing.assert_allclose(energy.sample_bilinear(face, jnp.asarray(points)), exact, atol=1e-6)
    drawn = VertexRendering(position=jnp.asarray(points), colour=jnp.asarray(exact + 0.5),
                            landmarks=jnp.ones((1, 66, 2)), visible=jnp.arange(20)[None] < 7)
    np.testing.assert_allclose(energy.face_distance(face, jnp.full((1, 66, 2), 1 / 8), drawn)[0], [0.25], rtol=1e-5)
    none = dataclasses.replace(drawn, visible=jnp.zeros((1, 20), bool))
    np.testing.assert_array_equal(energy.face_distance(face, jnp.ones((1, 66, 2)), none)[0], [0.0])


def test_edit_and_invariance_terms_are_means_over_samples():
    drawn = rendering(8, (1, 2))
    faces = jnp.stack([jnp.full((8, 8, 3), 0.5), jnp.ones((8, 8, 3))])[None]
    points = jnp.full((1, 2, 66, 2), 0.5)
    np.testing.assert_allclose(energy.edit_term(faces, points, drawn)[0], [0.125])
    np.testing.assert_allclose(energy.invariance_term(faces[:, 1], points[:, 0], drawn)[0], [0.25])


# ---------------------------------------------------------------------------------------- assembly
def test_a_stage_lowers_the_energy_resumes_bit_identically_and_names_a_bad_term():
    pack, described, inputs, latent = setting()
    assert described.missing == ()
    whole = run(inputs, latent, described=described)
    count = compilations()
    assert whole.outcomes == ("finished",) * 3 and set(whole.trace) == {"energy", *TERMS}
    assert np.all(whole.trace["synthesis"][-1] < whole.trace["synthesis"][0])

    # the terms add up, and are all at work
    np.testing.assert_allclose(whole.trace["energy"], sum(whole.trace[name] for name in TERMS), rtol=1e-5)
    assert all(np.all(whole.trace[name] > 0) for name in TERMS)

    # weights are data
    heavy = dataclasses.replace(EVERYTHING, weight_identity=5.0)
    assert energy.portrait_energy(pack, config=heavy) == described
    heavier = run(energy.energy_inputs(pack, inputs.target, config=heavy), latent, described=described)
    np.testing.assert_allclose(heavier.trace["identity"][0], 5 * whole.trace["identity"][0], rtol=1e-5)

    # an interrupted run goes on
    half = []

    def stop(progress):
        half.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(inputs, latent, described=described, progress=stop)
    rest = optimise.run_stage(optimise.to_device(half[0].state), inputs, energy=described, stage=STAGE,
                              trace=half[0].trace)
    np.testing.assert_array_equal(whole.state.latent, rest.state.latent)
    np.testing.assert_array_equal(whole.trace["edit"], rest.trace["edit"])

    # neighbours do not matter
    changed = run(inputs, latent.at[1:].multiply(-2.0), described=described)
    np.testing.assert_array_equal(changed.state.latent[0], whole.state.latent[0])
    assert not np.array_equal(changed.state.latent[1], whole.state.latent[1])

    # a portrait that goes wrong is named and kept, the others never know
    params_vector = inputs.target.params_vector.at[1].set(jnp.nan)
    poisoned = dataclasses.replace(inputs, target=dataclasses.replace(inputs.target, params_vector=params_vector))
    bad = run(poisoned, latent, described=described)
    assert bad.outcomes == ("finished", "non-finite", "finished")
    assert {i.term for i in bad.incidents} == {"invariance"} and {i.portrait for i in bad.incidents} == {1}
    np.testing.assert_array_equal(bad.state.latent[0], whole.state.latent[0])
    np.testing.assert_array_equal(bad.state.latent[1], latent[1])
    assert compilations() == count

    # alone in its batch it is the same but for rounding
    first = dataclasses.replace(inputs, target=jax.tree.map(lambda x: x[:1], inputs.target))
    alone = run(first, latent[:1], described=described)
    np.testing.assert_allclose(alone.trace["energy"][0], whole.trace["energy"][0, :1], rtol=1e-5)
    np.testing.assert_allclose(alone.state.latent[0], whole.state.latent[0], atol=1e-5)


def test_gradient_against_finite_differences_in_float64(monkeypatch):
    """Along random directions; coverage and the visible triangles must not change on the way, so steps are tiny.

    The generator, which keeps to float32, is replaced by a smooth map: its own gradient is tested with it.
    """
    def paint(config, weights, w_plus, *, resolution=None, precision="float32"):
        side = config.resolution
        mixer = np.random.default_rng(0).normal(size=(LAYERS * toy.W_DIM, side * side * 3)) / 8
        flat = w_plus.reshape(w_plus.shape[0], -1)
        return 0.5 + 0.3 * jnp.sin(flat @ jnp.asarray(mixer, w_plus.dtype)).reshape(-1, side, side, 3)

    _, described, inputs, latent = setting(EVERYTHING, 1)
    with jax.enable_x64(True):
        monkeypatch.setattr(portrait_energy_module, "synthesise", paint)

        def double(tree):
            return jax.tree.map(lambda x: jnp.asarray(np.float64(x)) if x.dtype == jnp.float32 else x, tree)

        inputs, latent = double(inputs), double(latent)
        gradient = np.asarray(evaluate(described, inputs, latent)[2])
        assert gradient.dtype == np.float64
        rng, h = np.random.default_rng(0), 1e-6
        for _ in range(3):
            direction = rng.normal(size=latent.shape)
            high, low = (evaluate(described, inputs, latent + s * direction)[0] for s in (h, -h))
            np.testing.assert_allclose(np.sum(gradient * direction), float((high - low)[0]) / (2 * h), rtol=2e-4)
    evaluate.clear_cache()  # nothing traced with the replacement may be found again


def test_samples_of_one_control_each():
    """control_sampling "one": each sample is for the control that was drawn for it; "all": S samples for each."""
    pack = toy.toy_pack(jax.random.key(0), configs=CONFIGS)
    each = {"pose": 1.0, "expression": 10.0, "illumination": 100.0}
    one = energy.portrait_energy(pack, config=dataclasses.replace(EVERYTHING, control_sampling="one", samples=4))
    rows, choice = one._draw(pack.pool, optimise.portrait_keys([0, 1]))
    assert rows.params_vector.shape == (2, 4, 257) and choice.shape == (2, 4) and len(np.unique(choice)) == 3
    values = one._by_control(choice, lambda control, x: each[control] * x, jnp.ones((2, 4, 5)))
    wanted = np.array([each[c] for c in one.controls])[np.asarray(choice)]
    np.testing.assert_array_equal(values, np.repeat(wanted[..., None], 5, axis=-1))
    every = energy.portrait_energy(pack, config=dataclasses.replace(EVERYTHING, samples=2))
    rows, choice = every._draw(pack.pool, optimise.portrait_keys([0, 1]))
    assert rows.params_vector.shape == (2, 6, 257) and choice is None
    values = every._by_control(choice, lambda control, x: each[control] * x, jnp.ones((2, 6)))
    np.testing.assert_array_equal(values[0], np.repeat([each[c] for c in every.controls], 2))


# ------------------------------------------------------------------------------- edited portraits
def test_how_far_edited_portraits_are_painted():
    """As far as a reader sees, 32 px over 3/4 of the width, where the generator has such an output."""
    def resolution(detail, resolution=128, **generator):
        configs = dataclasses.replace(toy.CONFIGS, **toy.layers_for(
            dataclasses.replace(toy.GENERATOR, resolution=resolution, **generator)))
        pack = toy.toy_pack(jax.random.key(0), configs=configs)
        return energy.portrait_energy(pack, config=dataclasses.replace(EVERYTHING, edit_detail=detail)).edit_resolution

    assert [resolution(detail) for detail in (1.0, 0.75, 0.3, 9.0, None)] == [64, 32, 16, 128, 128]
    assert resolution(1.0, resolution=32) == 32
    assert resolution(0.3, synthesis="resnet") == resolution(0.3, architecture="stylegan1") == 128
    with pytest.raises(ValueError, match="edit_detail"):
        EnergyConfig(edit_detail=0.0)


@pytest.mark.parametrize("source", ["dfr", "regressor"])
def test_edited_portraits_without_the_detail_that_no_reader_sees(source):
    """Where the finer blocks add little, so does the energy of full portraits."""
    generator = dataclasses.replace(toy.GENERATOR, resolution=16)
    pack = toy.toy_pack(jax.random.key(0), configs=dataclasses.replace(
        CONFIGS, **toy.layers_for(generator), recognition=None, perceptual=None))
    pack.weights["generator"]["synthesis"]["b16"]["torgb"]["weight"] *= 0.01
    target = energy.prepare_target(pack, toy.portraits(jax.random.key(1), 2, pack=pack))
    latent = jnp.asarray(0.5 * np.random.default_rng(2).normal(size=(2, generator.num_layers, toy.W_DIM)), jnp.float32)

    def found(detail):
        config = dataclasses.replace(EVERYTHING, control_sampling="one", samples=2, rig_source=source,
                                     edit_detail=detail)
        return evaluate(energy.portrait_energy(pack, config=config),
                        energy.energy_inputs(pack, target, config=config), latent)

    low, full = found(0.3), found(None)
    assert not np.array_equal(low[0], full[0])
    np.testing.assert_allclose(low[0], full[0], rtol=2e-3)
    assert cosine(low[2], full[2]) > 0.999


def test_a_coarse_portrait_is_compared_at_the_size_that_is_read():
    """With finer blocks that add nothing: the L2 of the means over pixels, all other terms as in full."""
    generator = dataclasses.replace(toy.GENERATOR, resolution=16)
    pack = toy.toy_pack(jax.random.key(0), configs=dataclasses.replace(
        CONFIGS, **toy.layers_for(generator), recognition=None, perceptual=None))
    finest = pack.weights["generator"]["synthesis"]["b16"]["torgb"]
    finest["weight"], finest["bias"] = jnp.zeros_like(finest["weight"]), jnp.zeros_like(finest["bias"])
    config = dataclasses.replace(EVERYTHING, edit_detail=0.3)
    plain = energy.portrait_energy(pack, config=config)
    coarse = plain.in_stage(StageConfig(coarse=True))
    assert coarse.portrait_resolution == 8 and plain.portrait_resolution == 16
    assert plain.in_stage(StageConfig()) == plain == coarse.in_stage(StageConfig())
    portraits = toy.portraits(jax.random.key(1), 2, pack=pack)
    target = energy.prepare_target(pack, portraits)
    inputs = energy.energy_inputs(pack, target, config=config)
    latent = 0.3 * jax.random.normal(jax.random.key(2), (2, generator.num_layers, toy.W_DIM))

    def parts(described):
        return jax.jit(described.parts)(inputs, latent, optimise.portrait_keys(jnp.arange(2)))

    small, full = parts(coarse), parts(plain)
    paint = jax.jit(partial(synthesise, generator, resolution=8))
    images = paint(pack.weights["generator"], latent)
    expected = jnp.mean(jnp.square(images - portraits.reshape(2, 8, 2, 8, 2, 3).mean((2, 4))), axis=(1, 2, 3))
    np.testing.assert_allclose(small["l2"], expected, rtol=1e-5)
    for name in set(full) - {"l2"}:
        np.testing.assert_allclose(small[name], full[name], rtol=0.02, err_msg=name)
    light = coarse.without_lazy_terms()
    assert light.portrait_resolution == 8 and set(parts(light)) == {"l2"}
    none = energy.portrait_energy(pack, config=dataclasses.replace(config, edit_detail=None))
    assert none.in_stage(StageConfig(coarse=True)) == none
    alone = energy.portrait_energy(toy.toy_pack(jax.random.key(0), parts=("generator",), configs=dataclasses.replace(
        CONFIGS, **toy.layers_for(generator), recognition=None, perceptual=None, regressor=None)))
    assert not alone.in_stage(StageConfig(coarse=True)).coarse  # nothing says how fine it is read


def cosine(a, b):
    return float(jnp.sum(a * b) / (jnp.linalg.norm(a.ravel()) * jnp.linalg.norm(b.ravel())))


# ----------------------------------------------------------------------------------- missing parts
def test_without_rigs_the_energy_of_image2stylegan_remains():
    _, described, inputs, latent = setting(parts=("generator", "perceptual"))
    assert described.terms == ("synthesis",)
    assert ("edit", "the pack has no regressor") in described.missing
    assert ("pose", "the pack has no rignet_pose") in described.missing
    energies, terms, gradient = evaluate(described, inputs, latent)
    assert set(terms) == {"synthesis"} and np.all(np.isfinite(energies)) and np.all(np.isfinite(gradient))


def test_without_dfr_the_source_is_the_regressor():
    parts = ("generator", "regressor", "landmarks", "rignet_pose", "rignet_illumination", "morphable", "pool")
    config = dataclasses.replace(EVERYTHING, control_sampling="one", samples=2)
    _, described, inputs, latent = setting(config, 1, parts)
    assert not described.from_dfr and described.controls == ("pose", "illumination")
    _, terms, gradient = evaluate(described, inputs, latent)
    assert set(terms) == {"synthesis", "identity", "edit", "invariance"}
    assert np.all(np.isfinite(gradient)) and float(jnp.abs(gradient).max()) > 0


def test_what_a_pack_cannot_do_is_an_error():
    pack = toy.toy_pack(jax.random.key(0), parts=("generator",))
    with pytest.raises(PackError, match="no term of the energy is available"):
        energy.portrait_energy(pack, config=dataclasses.replace(EVERYTHING, terms=("edit",)))
    with pytest.raises(PackError, match="'generator' is missing"):
        energy.portrait_energy(toy.toy_pack(jax.random.key(0), parts=("regressor",)))
    pack = toy.toy_pack(jax.random.key(0))
    with pytest.raises(PackError, match="make the pool again"):
        energy.portrait_energy(pack, config=EnergyConfig(render_resolution=24))
