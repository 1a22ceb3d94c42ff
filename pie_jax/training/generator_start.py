"""What both stages of the generator's training begin with: its config, its first weights, its batches."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pie_jax.cli.flags import read_fields
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

if TYPE_CHECKING:
    import jax
    import numpy as np

    from pie_jax.arrays import Weights
    from pie_jax.pack import Pack

DEFAULTS = GeneratorConfig(resolution=64, channel_base=1024, channel_max=128, channel_min=16)
FLAGS = ("resolution", "channel_base", "channel_max", "channel_min")


def grow(weights: Weights, old: Any, *, zero_rgb: bool = True) -> Weights:
    """`weights` of a larger generator with every array of `old` that it shares; new toRGB layers start silent."""
    merged = {}
    for name, value in weights.items():
        if isinstance(value, dict):
            merged[name] = grow(value, old[name], zero_rgb=zero_rgb) if name in old else _silent(value, zero_rgb)
        else:
            if old[name].shape != value.shape:
                raise PackError(f"generator: {name} has {old[name].shape} in the pack, {value.shape} here; "
                                "give the channel flags of the pack's generator")
            merged[name] = old[name]
    return merged


def _silent(block, zero_rgb):
    if zero_rgb and "torgb" in block:
        block = block | {"torgb": block["torgb"] | {"weight": block["torgb"]["weight"] * 0.0}}
    return block


def initial_weights(key: jax.Array, config: GeneratorConfig, pack: Pack | None) -> tuple[Weights, Weights, str]:
    """Mapping (fitted or the pack's), synthesis (new, grown or the pack's), and a line telling which."""
    import jax
    import jax.numpy as jnp

    from pie_jax.nn.layers import initialise
    from pie_jax.nn.stylegan2 import Synthesis
    from pie_jax.training.supervised import fit_mapping, within_span

    shape = jnp.zeros((1, config.num_layers, config.w_dim))
    new = jax.jit(lambda key: initialise(Synthesis(config), key, shape))(key)
    old = pack.weights.get("generator") if pack is not None else None
    if pack is not None and old is not None:
        before = pack.configs.generator.resolution
        synthesis = grow(within_span(new, dim=config.w_dim), old["synthesis"])
        return old["mapping"], synthesis, f"from the pack's generator at {before} px"
    if not config.mapping_linear_output:  # nothing is known of the scenes: an ordinary mapping network
        from pie_jax.nn.stylegan2 import Mapping

        z = jnp.zeros((1, config.z_dim))
        mapping = jax.jit(lambda key: initialise(Mapping(config), key, z))(jax.random.fold_in(key, 1))
        return mapping, new, "new"
    mapping, r2 = fit_mapping(config)
    return mapping, within_span(new, dim=config.w_dim), f"new; mapping fitted to the scene code, R^2 {r2:.4f}"


def start_pack(arguments: argparse.Namespace) -> Pack | None:
    """The pack whose generator a training starts from: --pack where it has one, else --start, else none."""
    from pie_jax.pack import load_pack

    if (pathlib.Path(arguments.pack) / "manifest.json").is_file():
        pack = load_pack(arguments.pack, parts=("generator", "perceptual"))
        if "generator" in pack.weights:
            return pack
    return None if arguments.start == "none" else load_pack(arguments.start, parts=("generator", "perceptual"))


def pack_config(arguments: argparse.Namespace, pack: Pack | None) -> GeneratorConfig:
    """The GeneratorConfig asked for: the pack's at another resolution, or a new one of the flags.

    A new one has a mapping of two layers that can be set to codes, unless it learns from photos without codes.
    """
    if pack is not None and pack.configs.generator is not None:
        return dataclasses.replace(pack.configs.generator, resolution=arguments.resolution)
    mapping = {} if arguments.photos is not None and arguments.stage != "decoded" else {
        "mapping_layers": 2, "mapping_lr_multiplier": 1.0, "mapping_linear_output": True}
    return dataclasses.replace(read_fields(arguments, DEFAULTS, FLAGS), **mapping)


def batch_source(data: Any, *, resolution: int, batch: int, seed: int) -> Callable[[int], dict[str, np.ndarray]]:
    """step -> {"z", "image", "mask"}: `batch` images as pairs drawn from what the folder holds at that moment."""
    import numpy as np

    from pie_jax.training.data.family_data import shrink
    from pie_jax.training.losses.response import region_mask

    def make(step: int):
        rng = np.random.default_rng([seed, step])
        pairs = np.sort(rng.choice(data.count(), batch // 2, replace=False))
        rows = (2 * pairs[:, None] + np.arange(2)[None]).reshape(-1)
        mask = region_mask(data.landmarks[rows], resolution)
        return {"z": np.asarray(data.z[rows]), "image": shrink(data.images[rows], resolution),
                "mask": (mask * 255).astype(np.uint8)}

    return make
