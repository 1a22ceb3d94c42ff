"""The weights of the energy's parts, set by a rule and recorded with its evidence in the pack's manifest.

`python -m pie_jax.tuning.balance --pack DIR [--photos FOLDER]`. AdaDelta does not see the scale of the energy, so
only ratios matter, and a gradient's length is what a part pulls with. The rule: with its weight, each part pulls with
`RATIOS[part]` times the pull of the L2 part, in the geometric mean of two places - the mean code, where every run
starts, and where some steps of synthesis alone have led, where it ends - and in the median over portraits and draws.
The paper's own weights are not known to us; the ratios are ours.

It also decides whether portraits that are only read may be painted coarsely (`EnergyConfig.edit_detail`): where the
generator's partial image at that size is not its full one shrunk, they are painted in full.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax import energy as energies
from pie_jax import optimise
from pie_jax.arrays import Array
from pie_jax.cli import command
from pie_jax.config import EnergyConfig, StageConfig
from pie_jax.imaging import psnr, resize_area
from pie_jax.nn.layers import to_w_plus
from pie_jax.pack import Pack, find_pack, inference, load_pack, update_configs

# Pull of each part relative to L2. Synthesis leads: its two parts together outweigh what comes with random samples of
# v, whose gradients point another way each step; those of the portrait itself (identity, recognition) stay gentle, and
# E_edit too: edits are corrected by looking (`portrait.response`), and what it pulls is lost to the portrait.
RATIOS = {"l2": 1.0, "perceptual": 1.0, "identity": 0.1, "edit": 0.05, "invariance": 0.2, "recognition_w": 0.2,
          "recognition_edit": 0.1}
# AdaDelta forgets the energy's scale only where gradients are well above the root of its epsilon (1e-4): the L2 part, a
# mean over pixels, pulls at a single coordinate with about that much, so all parts are raised alike.
LEVEL = 1000.0
# PSNR of the partial image to the full one shrunk, from which on the first may stand for the second. Up-sampling alone
# blurs by some dB; an image whose colours are still to come is far below.
DETAIL_DB = 25.0
NEAR = (StageConfig(space="w", steps=150, chunk=25), StageConfig(space="w_plus", steps=75, chunk=25))


@partial(jax.jit, static_argnames="described")
def _pull(inputs: energies.Inputs, latent: Array, keys: Array, which: Array, *, described: energies.PortraitEnergy):
    """Length [B] of the gradient of part number `which`, in the order of sorted names, to the latents."""
    def one(x):
        parts = described.parts(inputs, x, keys)
        return jnp.sum(jnp.stack([parts[name] for name in sorted(parts)])[which])

    return jnp.sqrt(jnp.sum(jnp.square(jax.grad(one)(latent)), axis=(1, 2)))


def _pulls(described, inputs, latent, keys, *, draws: int) -> dict[str, float]:
    """Median over portraits and draws of v of every part's pull."""
    names = sorted(jax.eval_shape(lambda i, x, k: described.parts(i, x, k), inputs, latent, keys))
    found = {}
    for index, name in enumerate(names):
        values = []
        for draw in range(draws):
            folded = jax.vmap(jax.random.fold_in, (0, None))(keys, draw)
            values.append(np.asarray(_pull(inputs, latent, folded, jnp.asarray(index), described=described)))
        found[name] = float(np.median(np.stack(values)))
    return found


def balance_weights(key: Array, pack: Pack, portraits: Array, *, ratios: dict[str, float] | None = None,
                    near: tuple[StageConfig, ...] = NEAR, draws: int = 4) -> tuple[EnergyConfig, dict]:
    """The pack's energy with balanced weights.

    Args:
      key: decides the samples of v.
      pack: what is balanced; parts of the energy that it lacks keep their weight.
      portraits: [B, R, R, 3] in 0..1, a few of the domain.
      ratios: the pull of each part relative to L2; default `RATIOS`.
      near: stages of synthesis alone that lead to the second place.
      draws: samples of v for each portrait and place.
    Returns:
      the EnergyConfig, and the evidence: {"ratios", "level", "portraits", "draws", "near_steps",
      "pull": {place: {part: x}}}.
    """
    ratios = RATIOS if ratios is None else ratios
    plain = dataclasses.replace(pack.configs.energy, **{f"weight_{name}": 1.0 for name in (
        "l2", "perceptual", "identity", "photometric", "landmark", "edit", "invariance", "recognition_w",
        "recognition_edit")})
    described = energies.portrait_energy(pack, config=plain)
    target = energies.prepare_target(pack, portraits)
    inputs = energies.energy_inputs(pack, target, config=plain)
    generator, batch = pack.configs.generator, portraits.shape[0]
    keys = jax.random.split(key, batch)
    latent = jnp.repeat(to_w_plus(pack.weights["generator"]["w_mean"], generator.num_layers)[None], batch, axis=0)
    pull = {"mean": _pulls(described, inputs, latent, keys, draws=draws)}

    # nearer: synthesis alone, with L2 and perceptual part already balanced
    perceptual = pull["mean"]["l2"] / max(pull["mean"].get("perceptual", 1.0), 1e-30)
    alone = dataclasses.replace(plain, terms=("synthesis",), weight_perceptual=perceptual)
    synthesis, its_inputs = (energies.portrait_energy(pack, config=alone),
                             energies.energy_inputs(pack, target, config=alone))
    for index, stage in enumerate(near):
        state = optimise.start_stage(latent, keys, stage=stage, index=index)
        latent = optimise.run_stage(state, its_inputs, energy=synthesis, stage=stage).state.latent
    pull["near"] = _pulls(described, inputs, latent, keys, draws=draws)

    mean = {name: float(np.sqrt(pull["mean"][name] * pull["near"][name])) for name in pull["mean"]}
    evidence = {"ratios": ratios, "level": LEVEL, "portraits": batch, "draws": draws,
                "near_steps": [stage.steps for stage in near], "pull": pull}
    return dataclasses.replace(pack.configs.energy, **_weights(mean, ratios)), evidence


def detail_fidelity(key: Array, pack: Pack, *, count: int = 4) -> tuple[int, float]:
    """To which px `edit_detail` lets edited portraits be painted, and how near that is to the full ones shrunk to it.

    Median PSNR in dB over `count` codes drawn with `key`; inf where they are painted in full anyhow.
    """
    asked = dataclasses.replace(pack.configs.energy, edit_detail=pack.configs.energy.edit_detail or 1.0)
    generator, weights = pack.configs.generator, pack.weights["generator"]
    px = energies.portrait_energy(pack, config=asked).edit_resolution
    if px == generator.resolution:
        return px, float("inf")

    @jax.jit
    def decibels(weights):
        w = inference.map_z(generator, weights, jax.random.normal(key, (count, generator.z_dim)))
        w_plus = to_w_plus(w, generator.num_layers)
        partial_image, full = (
            jnp.clip(resize_area(inference.synthesise(generator, weights, w_plus, resolution=r), px), 0, 1)
            for r in (px, generator.resolution))
        return psnr(partial_image, full)

    return px, float(np.median(decibels(weights)))


def _weights(pull: dict[str, float], ratios: dict[str, float]) -> dict[str, float]:
    """EnergyConfig fields from the pulls of the unweighted parts; three digits, for they are no better known."""
    def to(name, value):
        return float(f"{LEVEL * ratios[name] * pull['l2'] / value:.3g}") if value > 0 else LEVEL

    weights = {"weight_l2": LEVEL}
    for name in ("perceptual", "identity", "recognition_w", "recognition_edit"):
        if name in pull:
            weights[f"weight_{name}"] = to(name, pull[name])
    terms = [term for term in ("edit", "invariance") if f"{term}_landmark" in pull]
    pairs = [(pull[f"{term}_photometric"], pull[f"{term}_landmark"]) for term in terms]
    if pairs and all(value > 0 for pair in pairs for value in pair):
        # inside l(I', theta) both parts pull alike
        landmark = float(f"{np.exp(np.mean([np.log(p / q) for p, q in pairs])):.3g}")
        weights |= {"weight_photometric": 1.0, "weight_landmark": landmark}
        for term, (photometric, points) in zip(terms, pairs, strict=True):
            # the two parts' gradients are taken as orthogonal
            weights[f"weight_{term}"] = to(term, float(np.hypot(photometric, landmark * points)))
    return weights


def own_portraits(key: Array, pack: Pack, *, count: int) -> jax.Array:
    """Portraits [count, R, R, 3] that the pack's generator paints: its own domain, where no photos are given."""
    generator, weights = pack.configs.generator, pack.weights["generator"]
    w = inference.map_z(generator, weights, jax.random.normal(key, (count, generator.z_dim)))
    return jnp.clip(inference.synthesise(generator, weights, to_w_plus(w, generator.num_layers)), 0.0, 1.0)


@command.guarded_main
def main(argv: list[str]) -> None:
    parser = command.Parser(module="pie_jax.tuning.balance", description=__doc__)
    parser.add_argument("--pack", default="demo", metavar="DIR")
    parser.add_argument("--photos", metavar="FOLDER", help="portraits of the domain; default: the generator's own")
    parser.add_argument("--count", type=int, default=6, help="how many portraits (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)

    command.configure("auto", autotune=arguments.autotune)
    folder = find_pack(arguments.pack)
    pack = load_pack(folder)
    pack.require("generator")
    key, portrait_key = jax.random.split(jax.random.key(arguments.seed))
    if arguments.photos:
        portraits = _photos(Path(arguments.photos), arguments.count, pack.configs.generator.resolution)
    else:
        portraits = own_portraits(portrait_key, pack, count=arguments.count)
    config, evidence = balance_weights(key, pack, portraits)
    px, near_db = detail_fidelity(jax.random.fold_in(key, 1), pack)
    config = dataclasses.replace(config, edit_detail=(config.edit_detail or 1.0) if near_db >= DETAIL_DB else None)
    evidence["detail"] = {"px": px, "psnr_db": round(near_db, 2) if np.isfinite(near_db) else None}
    recipe = f"python -m pie_jax.tuning.balance --count {arguments.count} --seed {arguments.seed}"
    evidence |= {"command": recipe + (" --photos FOLDER" if arguments.photos else ""), "seed": arguments.seed}
    update_configs(folder, energy=config, record=evidence)
    for field in dataclasses.fields(config):
        if field.name.startswith("weight_"):
            print(f"{field.name.removeprefix('weight_')} {getattr(config, field.name):g}", file=sys.stderr)
    if config.edit_detail is None:
        print(f"edited portraits are painted in full: at {px} px the generator's partial image is only "
              f"{near_db:.1f} dB near the full one", file=sys.stderr)


def _photos(folder: Path, count: int, resolution: int) -> jax.Array:
    from pie_jax.errors import InputError
    from pie_jax.io import is_picture, load_portrait

    files = [file for file in sorted(folder.iterdir()) if is_picture(file)]
    if not files:
        raise InputError(f"{folder}: no photos in it; give a folder of PNG, JPEG or WebP portraits")
    return jnp.stack([load_portrait(file, resolution=resolution) for file in files[:count]])


if __name__ == "__main__":
    raise SystemExit(main())
