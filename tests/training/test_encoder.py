"""The encoder: trained on the pack's own portraits, written as a part, and where a search may begin."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from pie_jax import embed, embed_portraits
from pie_jax.config import PRESETS, EmbedConfig, EncoderConfig, EnergyConfig, StageConfig, preset_stages
from pie_jax.errors import PackError
from pie_jax.imaging import psnr
from pie_jax.io import save_png
from pie_jax.nn.encoder import Encoder
from pie_jax.nn.layers import apply, initialise, to_w_plus
from pie_jax.pack import load_pack, read_manifest, save_pack
from pie_jax.pack.inference import encode, map_z, synthesise
from pie_jax.training import encoder
from pie_jax.training.core import loop

ENERGY = EnergyConfig(terms=("synthesis",), render_resolution=16)
CONFIG = EncoderConfig(num_layers=toy.LAYERS, w_dim=toy.W_DIM, axes=toy.W_DIM, resolution=16, stage_sizes=(1, 1),
                       width=8, hidden=32)
GUESSED = EmbedConfig(energy=ENERGY, stages=(StageConfig(space="w_plus", steps=0, encoded=True),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "toy"
    pack = toy.toy_pack(jax.random.key(0), parts=("generator", "perceptual"), energy=ENERGY)
    generator = dict(pack.weights["generator"])
    generator["mapping"] = jax.tree.map(lambda x: 20.0 * x, generator["mapping"])  # the toy's codes hardly differ
    save_pack(folder, dataclasses.replace(pack, weights={**pack.weights, "generator": generator}), storage="float32")
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The pack once 300 steps were made in two calls."""
    run = tmp_path_factory.mktemp("runs") / "encoder"
    sizes = ["--resolution", "16", "--stage-sizes", "1,1", "--width", "8", "--hidden", "32",
             "--pixels", "0", "--perceptual", "0"]
    for steps in ("100", "300"):
        assert encoder.main(["--pack", str(folder), "--run", str(run), "--steps", steps, "--batch", "8", "--rate",
                             "0.003", "--debug", *sizes]) == 0
    rows = [json.loads(line) for line in (run / loop.LOG).read_text().splitlines()]
    return load_pack(folder), rows


def test_it_learns_the_codes_of_the_packs_own_portraits(trained, folder):
    pack, rows = trained
    terms = [row["terms"] for row in rows if "terms" in row]
    assert terms[-1]["code_2"] < 0.8 * terms[0]["code_2"] and terms[-1]["loss"] < terms[0]["loss"]
    assert all(np.isfinite(row["metrics"]["own_db"]) for row in rows if "metrics" in row)
    record = read_manifest(folder)["training"]["encoder"]
    assert record["steps"] == 300 and "pie_jax.training.encoder" in record["command"]
    assert pack.configs.of("encoder") == CONFIG and pack.hash == pack_without(pack, "encoder").hash


def test_photos_are_learned_by_what_their_codes_give_and_those_left_out_are_judged(tmp_path, capsys):
    kept = [{"name": f"{i}.png", "folder": "f", "hash": f"h{i}", "held_out": i < 2} for i in range(4)]
    (tmp_path / "photos" / "pictures").mkdir(parents=True)
    for i in range(4):
        save_png(tmp_path / "photos" / "pictures" / f"h{i}.png", np.full((32, 32, 3), 0.2 * (i + 1)))
    (tmp_path / "photos" / "photographs.json").write_text(json.dumps({"resolution": 32, "format": "png",
                                                                      "kept": kept}))
    save_pack(tmp_path / "pack", toy.toy_pack(jax.random.key(0), parts=("generator",), configs=toy.SMALLEST))
    command = ["--pack", str(tmp_path / "pack"), "--run", str(tmp_path / "run"), "--steps", "1", "--batch", "4",
               "--resolution", "8", "--stage-sizes", "1", "--width", "8", "--hidden", "8", "--rounds", "1",
               "--photos", str(tmp_path / "photos")]
    assert encoder.main([*command, "--pixels", "0", "--perceptual", "0"]) == 2
    assert "--photos: expected --pixels or --perceptual above 0" in capsys.readouterr().err
    assert encoder.main(command) == 0
    record = read_manifest(tmp_path / "pack")["training"]["encoder"]
    assert record["photos"] == 2 and 0 < record["held_out"]["photos_db"] < 40


def pack_without(pack, part):
    parts = {name: entry for name, entry in pack.manifest["parts"].items() if name != part}
    return dataclasses.replace(pack, manifest=type(pack.manifest)({**pack.manifest, "parts": parts}))


def guess(pack, portraits, **knobs):
    """`encode` as one program."""
    return _encode(pack.configs, pack.weights, portraits, **knobs)


_encode = jax.jit(encode, static_argnums=0, static_argnames="rounds")


def test_a_guess_is_nearer_than_the_mean_and_a_second_round_is_another(trained):
    pack, _ = trained
    generator, weights = pack.configs.generator, pack.weights["generator"]
    codes = to_w_plus(map_z(generator, weights, jax.random.normal(jax.random.key(3), (8, generator.z_dim))), toy.LAYERS)
    paint = jax.jit(lambda codes: synthesise(generator, weights, codes))
    portraits = np.asarray(paint(codes)).clip(0.0, 1.0)
    start = jnp.broadcast_to(weights["w_mean"], codes.shape)
    one, two = (guess(pack, portraits, rounds=n) for n in (1, 2))
    assert np.square(two - codes).mean() < 0.1 * np.square(start - codes).mean() and not np.allclose(one, two)
    before, after = (np.asarray(psnr(paint(each), portraits)) for each in (start, two))
    assert np.all(after > before)
    np.testing.assert_array_equal(two, guess(pack, portraits))


def test_a_search_begins_at_the_guess(trained):
    pack, _ = trained
    portraits = np.asarray(toy.portraits(jax.random.key(4), 3, pack=pack))
    found = embed_portraits(pack, portraits, config=GUESSED, batch=2)
    guessed = np.concatenate([guess(pack, portraits[i:i + 1]) for i in range(3)])
    np.testing.assert_allclose([each.w_plus for each in found], guessed, atol=1e-5)


def test_the_default_preset_begins_at_the_guess_where_there_is_one(trained):
    pack, _ = trained
    found, = embed_portraits(pack, np.asarray(toy.portraits(jax.random.key(4), 1, pack=pack)))
    assert found.config.stages == preset_stages("fast", encoder=True) != preset_stages("fast", encoder=False)
    assert found.config.stages[0].encoded and len(found.trace["energy"]) == sum(s.steps for s in found.config.stages)


def test_the_guess_of_another_generator_is_not_taken(trained, tmp_path):
    pack, _ = trained
    save_pack(tmp_path / "pack", dataclasses.replace(pack, weights={**pack.weights, "generator": jax.tree.map(
        lambda x: 1.1 * x, pack.weights["generator"])}), storage="float32")
    other = load_pack(tmp_path / "pack")
    assert pack.has_encoder and not other.has_encoder
    portrait = np.asarray(toy.portraits(jax.random.key(4), 1, pack=pack))
    with pytest.raises(PackError, match="encoder was trained on another generator.*pie_jax.training.encoder"):
        embed_portraits(other, portrait, config=GUESSED)
    found, = embed_portraits(other, portrait, config=EmbedConfig(
        energy=ENERGY, stages=(StageConfig(space="w_plus", steps=0, encoded=True, nearest_random_codes=1),)))
    assert np.ptp(found.w_plus, axis=0).max() == 0  # a random code


def test_the_axes_are_those_in_which_codes_differ_and_their_unit_is_the_deviation():
    rng = np.random.default_rng(0)
    spread = np.zeros((5, 5))
    spread[0, 1], spread[1, 3] = 3.0, 0.5  # two directions hold all there is
    axes = encoder.largest_axes(rng.normal(size=(20_000, 5)) @ spread + 7.0)
    np.testing.assert_allclose(np.abs(axes), [[0, 3, 0, 0, 0], [0, 0, 0, 0.5, 0]], atol=0.05)


def test_layers_move_together_unless_the_code_of_each_says_otherwise():
    image, w_plus = jnp.ones((1, 16, 16, 3)), jnp.zeros((1, toy.LAYERS, toy.W_DIM))
    weights = initialise(Encoder(CONFIG), jax.random.key(0), image, image, w_plus)
    np.testing.assert_array_equal(apply(Encoder(CONFIG), weights, image, image, w_plus)[0], w_plus)  # it begins at 0
    weights["common"]["kernel"] = jnp.ones_like(weights["common"]["kernel"])
    moved, own = apply(Encoder(CONFIG), weights, image, image, w_plus)
    assert not np.any(own) and np.ptp(moved, axis=1).max() == 0 and np.abs(moved).max() > 0
    one = dataclasses.replace(CONFIG, common_only=True)
    less = {name: value for name, value in weights.items() if name != "own"}
    np.testing.assert_array_equal(apply(Encoder(one), less, image, image, w_plus)[0], moved)
    with pytest.raises(ValueError, match="portraits_01"):
        apply(Encoder(CONFIG), weights, jnp.ones((1, 8, 8, 3)), image, w_plus)


def test_without_an_encoder_the_guess_is_refused_before_any_work(tmp_path, capsys):
    pack = toy.toy_pack(jax.random.key(0), parts=("generator",), energy=ENERGY)
    with pytest.raises(PackError, match="'encoder' is missing.*pie_jax.training.encoder"):
        embed_portraits(pack, np.zeros((1, 32, 32, 3)), config=GUESSED)
    save_pack(tmp_path / "pack", pack, storage="float32")
    save_png(tmp_path / "a.png", np.full((32, 32, 3), 0.5))
    command = [str(tmp_path / "a.png"), "--pack", str(tmp_path / "pack"), "-o", str(tmp_path / "out"), "--quiet"]
    assert embed.main([*command, "--preset", "instant"]) == PackError.exit_code
    assert "'encoder' is missing" in capsys.readouterr().err
    assert embed.main([*command, "--preset", "instant", "--steps", "3,4"]) == 2
    assert "--steps: expected a whole number WPLUS, got '3,4'" in capsys.readouterr().err
    assert PRESETS["instant"][0].encoded
