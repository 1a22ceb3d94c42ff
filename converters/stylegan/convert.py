"""From a checkpoint to the part "generator": finds the layout, applies its rules, completes what a file may lack."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters import converting
from converters.converting import Converted
from converters.readers import Checkpoint
from converters.stylegan import (
    stylegan1_genforce,
    stylegan1_lernapparat,
    stylegan1_rosinality,
    stylegan1_tensorflow,
    stylegan2_nvidia,
    stylegan2_rosinality,
    stylegan2_tensorflow,
)
from converters.stylegan.plan import Options, Plan
from converters.table import map_tensors
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUTS = (stylegan2_tensorflow, stylegan1_tensorflow, stylegan2_nvidia, stylegan2_rosinality, stylegan1_genforce,
           stylegan1_rosinality, stylegan1_lernapparat)
NOISE_SEED, MEAN_SEED, MEAN_SAMPLES = 0, 1, 10_000


def layout_of(checkpoint: Checkpoint) -> tuple[Any, Any] | None:
    """The layout's module and the generator in the file, or None where it holds no StyleGAN that is known here."""
    for layout in LAYOUTS:
        generator = layout.find(checkpoint)
        if generator is not None:
            return layout, generator
    return None


def recognise(checkpoint: Checkpoint) -> str | None:
    """The layout's name, or None."""
    found = layout_of(checkpoint)
    return None if found is None else found[0].LAYOUT


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The generator in a checkpoint.

    Args:
      checkpoint: what `pickles.read` gave.
      arguments: may have `resolution` and `clamp` (see `plan.Options`).
    Errors: PackError (no StyleGAN, unsupported settings), Mismatch (tensors missing, unknown or misshapen).
    """
    found = layout_of(checkpoint)
    if found is None:
        raise PackError(f"{checkpoint.path}: a {checkpoint.format} file, but no StyleGAN generator of a known layout "
                        f"({', '.join(layout.LAYOUT for layout in LAYOUTS)})")
    layout, generator = found
    names = [field.name for field in dataclasses.fields(Options)]
    options = Options(**{n: getattr(arguments, n, None) for n in names})
    try:
        plan = layout.plan(checkpoint, generator, options)
    except KeyError as error:
        raise PackError(f"{checkpoint.path}: no {error} in it, which the layout {layout.LAYOUT} needs; "
                        "it is incomplete or another network") from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        place = f"at {checkpoint.lookups[0]}: " if checkpoint.lookups else ""
        raise PackError(f"{checkpoint.path}: does not fit the layout {layout.LAYOUT} "
                        f"({place}{' '.join(str(error).split())[:160]}); it is damaged or another network") from error
    weights, table = map_tensors(plan.tensors, (rule for rule in plan.rules if plan.w_mean or rule.target != "w_mean"),
                             known=plan.known, where=checkpoint.path, layout=layout.LAYOUT)
    notes = (*plan.notes, *_complete(weights, plan))
    converted = Converted(part="generator", weights=weights, config=plan.config, layout=layout.LAYOUT,
                          licence=layout.LICENCE, table=table, notes=notes)
    converting.validate(converted, where=checkpoint.path)
    if not plan.w_mean:
        weights["w_mean"] = measured_mean(weights["mapping"], plan.config)
    return converted


def _complete(weights: dict, plan: Plan) -> tuple[str, ...]:
    """Add what the file does not hold; the notes that say so."""
    notes = []
    rng = np.random.default_rng(NOISE_SEED)
    for layers in plan.noise:
        size = int(layers[0].split("/")[0][1:])
        noise = rng.standard_normal((size, size), np.float32)
        for layer in layers:
            _layer(weights, layer)["noise_const"] = noise
    if plan.noise:
        notes.append(f"the file has no noise maps: they are drawn from seed {NOISE_SEED}")
    for layer in plan.zeros:
        size = int(layer.split("/")[0][1:])
        _layer(weights, layer).update(noise_const=np.zeros((size, size), np.float32), noise_strength=np.float32(0.0))
    if not plan.w_mean:
        weights["w_mean"] = np.zeros(plan.config.w_dim, np.float32)  # until the mapping is known to fit
        notes.append(f"the file has no mean of w: it is measured over {MEAN_SAMPLES} samples of seed {MEAN_SEED}")
    return tuple(notes)


def _layer(weights: dict, layer: str) -> dict:
    block, name = layer.split("/")
    return weights["synthesis"][block][name]


def measured_mean(mapping: Mapping, config: GeneratorConfig) -> np.ndarray:
    """Mean of w [D] over MEAN_SAMPLES samples of z."""
    z = np.random.default_rng(MEAN_SEED).standard_normal((MEAN_SAMPLES, config.z_dim), np.float32)
    return np.asarray(_w(mapping, z, config=config)).mean(axis=0, dtype=np.float64).astype(np.float32)


def _w(mapping: Mapping, z: np.ndarray, *, config: GeneratorConfig) -> np.ndarray:
    import importlib

    import jax

    from pie_jax.nn.layers import apply

    module = importlib.import_module(f"pie_jax.nn.{config.architecture}").Mapping(config)
    return np.asarray(jax.jit(lambda weights, z: apply(module, weights, z))(mapping, z))


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """w of the reference's z and image of its w_plus, as far as the reference has both sides."""
    import importlib

    import jax

    from pie_jax.nn.layers import apply

    config, weights = converted.config, converted.weights
    outputs = {}
    if {"z", "w"} <= set(reference):
        outputs["w"] = _w(weights["mapping"], np.asarray(reference["z"], np.float32), config=config)
    if {"w_plus", "image"} <= set(reference):
        module = importlib.import_module(f"pie_jax.nn.{config.architecture}").Synthesis(config)
        run = jax.jit(lambda weights, w_plus: apply(module, weights, w_plus))
        rows = [np.asarray(run(weights["synthesis"], np.asarray(row[None], np.float32)))[0]
                for row in reference["w_plus"]]
        image = np.stack(rows)
        channels_first = reference["image"].ndim == 4 and reference["image"].shape[1] == 3
        outputs["image"] = image.transpose(0, 3, 1, 2) if channels_first else image
    return outputs


def _extra(parser) -> None:
    parser.add_argument("--resolution", type=int, metavar="PX",
                        help="rosinality StyleGAN1: the resolution it was trained to, where its biases do not tell")
    parser.add_argument("--clamp", type=float, metavar="X",
                        help="bare state dicts of NVIDIA's names: the clamp of activations (0: none)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code of pie_jax/errors.py."""
    description = ("StyleGAN 1 or 2 of a public layout -> the generator of a pack. --check wants an .npz with w_plus "
                   "[B, L, D] and image [B, R, R, 3] or [B, 3, R, R] in about [-1, 1], made with the file's constant "
                   "noise, and / or z [B, Z] and w [B, D].")
    return converting.run(argv, kind="stylegan", description=description, convert=convert, recognise=recognise,
                          forward=forward, extra=_extra)
