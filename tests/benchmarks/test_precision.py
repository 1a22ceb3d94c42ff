"""Mixed precision: the policies, what stays float32 whatever they say, and how near bfloat16 comes to float32."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from benchmarks.precision.__main__ import summary
from benchmarks.precision.networks import apart
from pie_jax import energy, optimise
from pie_jax.config import (
    IN_BFLOAT16,
    PRECISIONS,
    EmbedConfig,
    EnergyConfig,
    PrecisionConfig,
    StageConfig,
    from_dict,
    to_dict,
)
from pie_jax.embed.arguments import embed_config, parse
from pie_jax.nn import layers
from pie_jax.pack import inference
from pie_jax.portrait import Embedding, embed_portraits

CONFIGS = toy.SMALLEST


# ------------------------------------------------------------------------------------------ policies
def test_policies_are_checked_and_come_back_from_their_dictionaries():
    for policy in (*PRECISIONS.values(), PrecisionConfig(bfloat16=IN_BFLOAT16)):
        assert from_dict(PrecisionConfig, json.loads(json.dumps(to_dict(policy)))) == policy
    assert PRECISIONS["float32"].bfloat16 == () and PRECISIONS["bfloat16"].of("generator") == "bfloat16"
    for part in ("landmarks", "dfr", "rignet_pose"):
        assert all(policy.of(part) == "float32" for policy in PRECISIONS.values())
        with pytest.raises(ValueError, match="bfloat16"):
            PrecisionConfig(bfloat16=(part,))
    with pytest.raises(ValueError, match="float16"):
        EmbedConfig(precision="float16")


def test_auto_is_settled_for_a_device_and_float32_where_nobody_measured():
    assert embed_config(parse(["x"]), EnergyConfig()).precision == EmbedConfig().precision == "auto"
    assert {EmbedConfig().on(platform).precision for platform in ("gpu", "tpu", "METAL")} == {"float32"}
    assert EmbedConfig().on("cpu").precision in PRECISIONS
    for name in PRECISIONS:
        config = EmbedConfig(precision=name)
        assert config.on("cpu") == config == from_dict(EmbedConfig, json.loads(json.dumps(to_dict(config))))


# ------------------------------------------------------------------------------------------ networks
def test_a_convolution_follows_its_input_and_a_normalisation_rounds_once():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 3)), jnp.float32)
    for settings in ({"kernel_size": 1}, {"padding": 1}, {"kernel_size": 7, "stride": 2, "padding": 3}):
        module = layers.Conv(4, use_bias=True, **settings)
        weights = module.init(jax.random.key(0), x)["params"]
        kept = layers.precompute(module, weights, x)
        exact = module.apply({"params": weights}, x)
        rough = module.apply({"params": weights, layers.PRECOMPUTED: kept}, x.astype(jnp.bfloat16))
        assert (exact.dtype, rough.dtype) == (jnp.float32, jnp.bfloat16)
        np.testing.assert_allclose(rough.astype(jnp.float32), exact, atol=0.03)
    norm = layers.BatchNorm()
    weights = norm.init(jax.random.key(0), x)["params"] | {"mean": jnp.full(3, 100.0)}
    near = (x + 100.0).astype(jnp.bfloat16)
    due = (near.astype(jnp.float32) - 100.0) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(norm.apply({"params": weights}, near).astype(jnp.float32), due, atol=2e-2)


@pytest.mark.parametrize("architecture", ["stylegan2", "stylegan1"])
def test_networks_give_float32_near_what_they_give_in_it(architecture):
    generator = dataclasses.replace(toy.GENERATOR, resolution=8, architecture=architecture)
    configs = dataclasses.replace(CONFIGS, **toy.layers_for(generator))
    weights = inference.precompute(toy.toy_pack(jax.random.key(0), configs=configs).weights, configs=configs)
    rng = np.random.default_rng(1)
    w_plus = jnp.asarray(rng.normal(size=(2, generator.num_layers, toy.W_DIM)), jnp.float32)
    images = jnp.asarray(rng.uniform(size=(2, 8, 8, 3)), jnp.float32)
    looks = {"synthesise": partial(inference.synthesise, generator, weights["generator"], w_plus)}
    if architecture == "stylegan2":  # the others are the same
        looks |= {name: partial(look, configs, weights, images) for name, look in (
            ("perceive", inference.perceptual_features), ("regress", inference.regress),
            ("describe", inference.face_embedding))}
    for name, look in looks.items():
        exact, rough = (jax.jit(partial(look, precision=precision))() for precision in ("float32", "bfloat16"))
        for a, b in zip(jax.tree.leaves(rough), jax.tree.leaves(exact), strict=True):
            assert a.dtype == b.dtype == jnp.float32, name
            far = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
            assert 0 < far < 0.02, name  # another number, so it was computed otherwise


# -------------------------------------------------------------------------------------------- energy
def test_energy_and_gradient_in_bfloat16_are_near_and_float32():
    """Two portraits, all terms and controls: energies within 1 %, gradients at a cosine above 0.99."""
    pack = toy.toy_pack(jax.random.key(0), configs=CONFIGS)
    portraits = toy.portraits(jax.random.key(1), 2, pack=pack)
    rng = np.random.default_rng(2)
    latent = jnp.asarray(0.5 * rng.normal(size=(2, CONFIGS.generator.num_layers, toy.W_DIM)), jnp.float32)

    def evaluate(policy):
        described = energy.portrait_energy(pack, precision=policy)
        inputs = energy.energy_inputs(pack, energy.prepare_target(pack, portraits, precision=policy))

        def total(x, inputs):
            energies, terms = described(inputs, x, optimise.portrait_keys(np.arange(2)))
            return energies.sum(), (energies, terms)

        (_, (energies, terms)), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(latent, inputs)
        return energies, terms, gradient

    due, due_terms, due_gradient = evaluate(PRECISIONS["float32"])
    energies, terms, gradient = evaluate(PRECISIONS["bfloat16"])
    for array in (energies, gradient, *terms.values()):
        assert array.dtype == jnp.float32 and bool(jnp.isfinite(array).all())
    assert bool((energies != due).any())
    np.testing.assert_allclose(energies, due, rtol=0.01)
    for name, values in terms.items():  # descriptors of the toy network are all but equal: a term of 1e-8
        np.testing.assert_allclose(values, due_terms[name], rtol=0.05, atol=1e-5, err_msg=name)
    for a, b in zip(np.asarray(gradient), np.asarray(due_gradient), strict=True):
        assert a.ravel() @ b.ravel() > 0.99 * np.linalg.norm(a) * np.linalg.norm(b)


def test_a_portrait_and_its_own_code_have_no_synthesis_error_in_bfloat16():
    """Both are looked at in the same type: rounding is no difference."""
    pack = toy.toy_pack(jax.random.key(0), configs=CONFIGS, parts=("generator", "perceptual", "recognition"))
    policy = PRECISIONS["bfloat16"]
    latent = jnp.zeros((1, CONFIGS.generator.num_layers, toy.W_DIM))
    synthesise = jax.jit(partial(inference.synthesise, CONFIGS.generator, precision="bfloat16"))
    portrait = synthesise(pack.weights["generator"], latent)
    described = energy.portrait_energy(pack, precision=policy)
    inputs = energy.energy_inputs(pack, energy.prepare_target(pack, portrait, precision=policy))
    terms = jax.jit(described)(inputs, latent, optimise.portrait_keys(np.arange(1)))[1]
    assert float(terms["synthesis"][0]) < 1e-6


# ----------------------------------------------------------------------------------------- embedding
def test_an_embedding_says_what_it_was_made_in_and_old_files_load(tmp_path):
    pack = toy.toy_pack(jax.random.key(0), configs=CONFIGS, parts=("generator",), energy=EnergyConfig(
        terms=("synthesis",), render_resolution=16))
    portraits = toy.portraits(jax.random.key(1), 1, pack=pack)
    stages = (StageConfig(space="w_plus", steps=2, chunk=2),)
    made = {}
    for name in ("auto", "bfloat16"):
        config = EmbedConfig(energy=pack.configs.energy, stages=stages, precision=name)
        made[name] = embed_portraits(pack, portraits, config=config)[0]
        assert made[name].config == config.on("cpu") and made[name].w_plus.dtype == np.float32
        made[name].save(tmp_path / "embedding.npz")
        with np.load(tmp_path / "embedding.npz") as file:  # as files were before there were policies: a name
            assert json.loads(str(file["facts"]))["config"]["precision"] == config.on("cpu").precision
        assert Embedding.load(tmp_path).config == made[name].config
    assert not np.array_equal(made["auto"].w_plus, made["bfloat16"].w_plus)
    assert made["bfloat16"].trace["energy"].dtype == np.float32


# ----------------------------------------------------------------------------------------- benchmark
def test_the_benchmark_compares_medians_and_finds_the_worst():
    rows = [{"seed": seed, "precision": name, "psnr_db": 30.0 + seed - worse * (seed == 2), "truth_error": 0.04 + more,
             "ms_step": ms} for seed in range(3) for name, worse, more, ms in (("float32", 0, 0, 50.0),
                                                                              ("bfloat16", 0.5, 0.001, 100.0))]
    networks = [{"policy": name, "ms": ms} for name, ms in (("float32", 40.0), ("bfloat16", 100.0))]
    found = summary([*rows, {"seed": 9, "precision": "float32"}], networks)
    assert found["count"] == 3 and found["psnr_change"] == 0.0 and found["psnr_db_worst"] == pytest.approx(-0.5)
    assert found["truth_error_change"] == found["largest_change"] == pytest.approx(0.025)
    assert not found["within_2_percent"] and found["ms_ratio"] == 2.5

    theirs = [(np.ones(1), {"edit": np.ones(1)}, np.array([[[1.0, 0.0]]]))]
    ours = [(np.full(1, 1.1), {"edit": np.full(1, 0.8)}, np.array([[[0.5, 0.5]]]))]
    far = apart(ours, theirs)
    assert far["energy"] == pytest.approx(0.1) and far["terms"]["edit"] == pytest.approx(0.2)
    assert far["cosine"] == pytest.approx(np.sqrt(0.5)) and far["length"] == pytest.approx(np.sqrt(0.5))
