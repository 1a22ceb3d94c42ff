"""StyleGAN1 as genforce (InterFaceGAN, HiGAN) stores it: one flat state dict, converted from NVIDIA's.

Source of names and semantics: genforce/interfacegan, models/stylegan_generator_model.py (read, not copied). Its fused
up-sampling layers, which have no ".conv", keep TensorFlow's order of axes.
"""

from __future__ import annotations

from typing import Any

from converters.readers import Checkpoint, state_dict
from converters.stylegan.layouts import (
    channel_fields,
    check_blocks,
    hwio,
    is_blur,
    is_zero,
    log2,
    numbers,
    plane,
    transposed,
    turned,
)
from converters.stylegan.plan import Options, Plan
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUT = "genforce/interfacegan"
LICENCE = "CC BY-NC 4.0 (NVIDIA) where it was converted from NVIDIA's file"


def find(checkpoint: Checkpoint) -> Any:
    """The generator in a file of this layout, or None."""
    tree = checkpoint.tree
    values = (tree, tree.get("generator_smooth"), tree.get("generator")) if isinstance(tree, dict) else ()
    return next((v for v in values if isinstance(v, dict) and "synthesis.layer0.first_layer" in v), None)


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError where the blocks are not those of one generator."""
    where = checkpoint.path
    tensors = state_dict(generator, where=where)
    count = len(numbers(tensors, r"synthesis\.layer(\d+)\.epilogue\.bias"))
    if count % 2:
        raise PackError(f"{where}: {count} layers; expected two for each resolution")
    blocks = [4 * 2**i for i in range(count // 2)]
    resolution = check_blocks(blocks, where=where)
    layers = numbers(tensors, r"mapping\.dense(\d+)\.linear\.weight")
    w_dim, z_dim = tensors["mapping.dense0.linear.weight"].shape
    widths = {n: tensors[f"synthesis.layer{2 * (log2(n) - 2) + 1}.epilogue.bias"].shape[0] for n in blocks}
    config = GeneratorConfig(architecture="stylegan1", resolution=resolution, z_dim=z_dim, w_dim=w_dim,
                             mapping_layers=len(layers), **channel_fields(widths, where=where))
    last = len(blocks) - 1
    known = (Ignored(pattern="synthesis.lod", why="the level of progressive growing, which is over", holds=is_zero),
             Ignored(pattern="synthesis.layer*.blur.kernel", why="the filter [1, 2, 1]", holds=is_blur),
             Ignored(pattern="truncation.truncation", why="psi of each layer, a setting of its runs"),
             *(Ignored(pattern=f"synthesis.output{j}.*", why="the image of a lower resolution while growing")
               for j in range(last)))
    fused = tuple(n for n in blocks[1:] if f"synthesis.layer{2 * (log2(n) - 2)}.weight" in tensors)
    return Plan(tensors=tensors, rules=tuple(_rules(config, fused, last)), known=known, config=config,
                w_mean="truncation.w_avg" in tensors)


def _rules(config: GeneratorConfig, fused: tuple[int, ...], last: int):
    for i in range(config.mapping_layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"mapping.dense{i}.linear.weight", layout=transposed)
        yield Rule(target=f"mapping/fc{i}/bias", source=f"mapping.dense{i}.wscale.bias")
    yield Rule(target="w_mean", source="truncation.w_avg", shape=(config.w_dim,))
    yield Rule(target="synthesis/b4/const", source="synthesis.layer0.first_layer", shape=(1, None, 4, 4),
               layout=lambda a: a[0].transpose(1, 2, 0))
    for n in config.block_resolutions:
        for place in (0, 1):
            source = f"synthesis.layer{2 * (log2(n) - 2) + place}"
            target = f"synthesis/b{n}/conv{place}"
            if place == 0 and n in fused:
                yield Rule(target=f"{target}/weight", source=f"{source}.weight", layout=turned)
            elif place == 1 or n > 4:
                yield Rule(target=f"{target}/weight", source=f"{source}.conv.weight", layout=hwio)
            end = f"{source}.epilogue"
            yield Rule(target=f"{target}/bias", source=f"{end}.bias")
            yield Rule(target=f"{target}/noise_strength", source=f"{end}.apply_noise.weight")
            yield Rule(target=f"{target}/noise_const", source=f"{end}.apply_noise.noise", layout=plane,
                       shape=(1, 1, n, n))
            style = f"{end}.style_mod.dense"
            yield Rule(target=f"{target}/style/weight", source=f"{style}.linear.weight", layout=transposed)
            yield Rule(target=f"{target}/style/bias", source=f"{style}.wscale.bias")
    yield Rule(target="synthesis/torgb/weight", source=f"synthesis.output{last}.conv.weight", layout=hwio)
    yield Rule(target="synthesis/torgb/bias", source=f"synthesis.output{last}.bias")
