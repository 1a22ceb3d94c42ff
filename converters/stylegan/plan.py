"""What a layout's module hands back: the tensors of one generator, the rules that place them, the config they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How one file becomes a generator.

    `noise` names noise buffers that the file does not hold: they are drawn from `NOISE_SEED` ("noise_const" of each
    listed "bN/conv0"); a layout that shares one map between the layers of a block lists them as one entry.
    """

    tensors: Mapping[str, np.ndarray]
    rules: tuple[Rule, ...]
    known: tuple[Ignored, ...]
    config: GeneratorConfig
    notes: tuple[str, ...] = ()
    noise: tuple[tuple[str, ...], ...] = ()  # layers without a buffer; those of one entry share their map
    zeros: tuple[str, ...] = ()  # layers that use no noise at all: strength and map are zero
    w_mean: bool = True  # False: the file has none, it is measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may state that a file does not hold."""

    resolution: int | None = None  # rosinality StyleGAN1: the trained one
    clamp: float | None = None  # a bare state dict of NVIDIA's names; 0 says there is none
