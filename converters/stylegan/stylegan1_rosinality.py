"""StyleGAN1 of rosinality/style-based-gan-pytorch: another network than NVIDIA's, with its own scales and order.

Source of names and semantics: rosinality/style-based-gan-pytorch, model.py (read, not copied). Biases come before the
blur, instance norm has eps 1e-5, the mapping has no learning rate multiplier, every layer's gain is sqrt(2), one noise
map serves both layers of a resolution. A file always has all nine blocks, whatever it was trained to.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from converters.readers import Checkpoint, state_dict
from converters.stylegan.layouts import (
    channel_fields,
    check_blocks,
    flat,
    hwio,
    is_blur,
    log2,
    numbers,
    transposed,
    turned,
)
from converters.stylegan.plan import Options, Plan
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUT = "rosinality/style-based-gan-pytorch"
LICENCE = "the author's of the file"
_GAIN = np.float32(math.sqrt(2.0))


def find(checkpoint: Checkpoint) -> Any:
    """The averaged generator in a file of this layout, or None."""
    tree = checkpoint.tree
    values = (tree.get("g_running"), tree) if isinstance(tree, dict) else ()
    return next((v for v in values if isinstance(v, dict) and "generator.progression.0.conv1.input" in v), None)


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError where the blocks or the stated resolution do not fit."""
    where = checkpoint.path
    tensors = state_dict(generator, where=where)
    steps = numbers(tensors, r"generator\.progression\.(\d+)\.conv2\.conv\.weight_orig")
    blocks = [4 * 2**i for i in steps]
    full = check_blocks(blocks, where=where)
    resolution = options.resolution or _trained(tensors, blocks)
    if resolution not in blocks[1:]:
        raise PackError(f"{where}: it has blocks of 4..{full} px; --resolution {resolution} is not among them")
    blocks = [n for n in blocks if n <= resolution]
    layers = numbers(tensors, r"style\.(\d+)\.linear\.weight_orig")
    w_dim, z_dim = tensors[f"style.{layers[0]}.linear.weight_orig"].shape
    widths = {n: tensors[f"generator.progression.{log2(n) - 2}.conv2.conv.weight_orig"].shape[0] for n in blocks}
    config = GeneratorConfig(
        architecture="stylegan1", resolution=resolution, z_dim=z_dim, w_dim=w_dim, mapping_layers=len(layers),
        mapping_lr_multiplier=1.0, bias_before_blur=True, instance_norm_eps=1e-5,
        **channel_fields(widths, where=where))
    last = log2(resolution) - 2
    known = (*(Ignored(pattern=f"generator.progression.*.conv1.{j}.{name}", why="the filter [1, 2, 1]", holds=is_blur)
               for j in (1, 2) for name in ("weight", "weight_flip")),
             *(Ignored(pattern=f"generator.to_rgb.{i}.*", why="the image of another resolution")
               for i in steps if i != last),
             *(Ignored(pattern=f"generator.progression.{i}.*", why=f"a resolution above the trained {resolution} px")
               for i in steps if i > last))
    how = "as stated" if options.resolution else "its last block with biases; --resolution says otherwise"
    notes = (f"trained up to {resolution} px of {full}: {how}",
             "the repository repeats a style for both layers of a resolution: here each has its own in W+")
    return Plan(tensors=tensors, rules=tuple(_rules(config, layers, tensors)), known=known, config=config, notes=notes,
                noise=tuple((f"b{n}/conv0", f"b{n}/conv1") for n in blocks), w_mean=False)


def _trained(tensors: dict[str, np.ndarray], blocks: list[int]) -> int:
    """The largest resolution whose second convolution has learnt a bias (they start at zero)."""
    learnt = [n for n in blocks if np.any(tensors[f"generator.progression.{log2(n) - 2}.conv2.conv.bias"])]
    return max(learnt, default=blocks[-1])


def _fused(weight: np.ndarray) -> np.ndarray:
    """[I, O, 3, 3] of the repository's fused up-sampling, a quarter of NVIDIA's."""
    return turned(weight.transpose(2, 3, 0, 1)) * np.float32(0.25)


def _noise(weight: np.ndarray) -> np.ndarray:
    return flat(weight) * np.float32(math.sqrt(2.0 / weight.size))


def _minus_one(bias: np.ndarray) -> np.ndarray:
    """The 1 of the scales, which the stored bias contains and ours does not."""
    return np.concatenate([bias[:bias.size // 2] - np.float32(1.0), bias[bias.size // 2:]])


def _rules(config: GeneratorConfig, layers: list[int], tensors: dict[str, np.ndarray]):
    for i, layer in enumerate(layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"style.{layer}.linear.weight_orig", layout=transposed)
        yield Rule(target=f"mapping/fc{i}/bias", source=f"style.{layer}.linear.bias")
    yield Rule(target="synthesis/b4/const", source="generator.progression.0.conv1.input", shape=(1, None, 4, 4),
               layout=lambda a: a[0].transpose(1, 2, 0))
    for n in config.block_resolutions:
        block = f"generator.progression.{log2(n) - 2}"
        for place in (0, 1):
            target, source = f"synthesis/b{n}/conv{place}", f"{block}.conv{place + 1}"
            if place == 1:
                yield Rule(target=f"{target}/weight", source=f"{source}.conv.weight_orig", layout=hwio)
                yield Rule(target=f"{target}/bias", source=f"{source}.conv.bias")
            elif n > 4 and f"{source}.1.conv.weight_orig" in tensors:
                yield Rule(target=f"{target}/weight", source=f"{source}.1.conv.weight_orig", layout=hwio)
                yield Rule(target=f"{target}/bias", source=f"{source}.1.conv.bias")
            elif n > 4:
                yield Rule(target=f"{target}/weight", source=f"{source}.0.weight", layout=_fused)
                yield Rule(target=f"{target}/bias", source=f"{source}.0.bias")
            else:  # the constant has no bias
                yield Rule(target=f"{target}/bias", source="generator.progression.0.conv1.input",
                           layout=lambda a: np.zeros(a.shape[1], np.float32))
            yield Rule(target=f"{target}/noise_strength", source=f"{block}.noise{place + 1}.weight_orig", layout=_noise)
            style = f"{block}.adain{place + 1}.style.linear"
            yield Rule(target=f"{target}/style/weight", source=f"{style}.weight_orig", layout=lambda a: a.T * _GAIN)
            yield Rule(target=f"{target}/style/bias", source=f"{style}.bias", layout=_minus_one)
    image = f"generator.to_rgb.{log2(config.resolution) - 2}.conv"
    yield Rule(target="synthesis/torgb/weight", source=f"{image}.weight_orig", layout=lambda a: hwio(a) * _GAIN)
    yield Rule(target="synthesis/torgb/bias", source=f"{image}.bias")
