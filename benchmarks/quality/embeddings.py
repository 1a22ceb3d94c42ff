"""Embeddings of portraits, kept in a folder: new measures need no new embedding."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.portraits import Portrait
from pie_jax.config import PRESETS, EmbedConfig, StageConfig, preset_stages
from pie_jax.errors import InputError
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, embed_portraits
from pie_jax.runtime import local_devices


def add_arguments(parser: argparse.ArgumentParser, *, preset: str, count: int) -> None:
    """What is embedded and how: --pack, --count, --seed, --preset and --steps."""
    parser.add_argument("--pack", default="demo")
    parser.add_argument("--count", type=int, default=count, help="portraits (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=100, help="of the first portrait (default: %(default)s)")
    parser.add_argument("--preset", choices=tuple(PRESETS), default=preset, help="(default: %(default)s)")
    parser.add_argument("--steps", metavar="W,WPLUS", help="instead of the preset's")


def stages_of(arguments: argparse.Namespace, *, encoder: bool = False) -> tuple[StageConfig, ...]:
    """The preset's stages with the steps of --steps; encoder: whether the pack has one.

    SystemExit: not as many numbers as stages.
    """
    stages = preset_stages(arguments.preset, encoder=encoder)
    if arguments.steps is None:
        return stages
    steps = arguments.steps.split(",")
    if len(steps) != len(stages) or not all(part.isdigit() for part in steps):
        raise SystemExit(f"--steps: expected {len(stages)} whole numbers, got {arguments.steps!r}")
    return tuple(dataclasses.replace(stage, steps=int(part)) for stage, part in zip(stages, steps, strict=True))


def label_of(arguments: argparse.Namespace, *more: str) -> str:
    """What made an embedding, beside the pack: part of a row's key and the name of the embeddings' folder."""
    steps = (arguments.steps or "").replace(",", "-")
    return "_".join(part for part in (arguments.preset, steps, "-".join(more)) if part)


def embedded(pack: Pack, portraits: Sequence[Portrait], config: EmbedConfig, folder: pathlib.Path, *,
             batch: int = 1) -> list[Embedding]:
    """The Embedding of every portrait: read from `folder` where this pack and config made it, else made and kept.

    `report["seconds_per_portrait"]` is the time of the whole call that made it, compiling included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, found = config.on(local_devices(count=1)[0].platform), {}
    for portrait in portraits:
        try:
            embedding = Embedding.load(folder / f"{portrait.seed:06d}.npz")
        except InputError:
            continue
        if embedding.pack_hash == pack.hash and embedding.config == config:
            found[portrait.seed] = embedding
    missing = [portrait for portrait in portraits if portrait.seed not in found]
    if missing:
        began = time.perf_counter()
        made = embed_portraits(pack, np.stack([p.image for p in missing]), config=config, batch=batch)
        seconds = (time.perf_counter() - began) / len(missing)
        for portrait, embedding in zip(missing, made, strict=True):
            embedding = dataclasses.replace(embedding, report=embedding.report | {"seconds_per_portrait": seconds})
            embedding.save(folder / f"{portrait.seed:06d}.npz")
            found[portrait.seed] = embedding
    return [found[portrait.seed] for portrait in portraits]
