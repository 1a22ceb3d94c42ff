"""StyleGAN2 under NVIDIA's PyTorch names: stylegan2-ada-pytorch and stylegan3-repository pickles, bare state dicts.

Source of names and semantics: NVlabs/stylegan2-ada-pytorch, training/networks.py (read, not copied).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.readers import Checkpoint, Node, state_dict
from converters.stylegan.layouts import channel_fields, check_blocks, hwio, is_filter, numbers, require, transposed
from converters.stylegan.plan import Options, Plan
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUT = "NVlabs/stylegan2-ada-pytorch"
LICENCE = "NVIDIA Source Code License (non-commercial) where NVIDIA published the file; else its author's"


def find(checkpoint: Checkpoint) -> Any:
    """The generator in a file of this layout, or None."""
    tree = checkpoint.tree
    if isinstance(tree, dict):
        for value in (tree.get("G_ema"), tree.get("g_ema"), tree.get("G"), tree):
            if isinstance(value, Node) and "_modules" in value.state:
                return value
            if isinstance(value, dict) and "synthesis.b4.const" in value:
                return value
    return tree if isinstance(tree, Node) and "_modules" in tree.state else None


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError (StyleGAN3, a conditional or an 'orig' network, settings that are not supported)."""
    where = checkpoint.path
    tensors = state_dict(generator, where=where)
    if any(name.startswith("synthesis.input.") for name in tensors):
        raise PackError(f"{where}: a StyleGAN3 generator; StyleGAN 1 and 2 are supported")
    if any(name.startswith("mapping.embed.") for name in tensors):
        raise PackError(f"{where}: a class-conditional generator; unconditional ones are supported")
    blocks = numbers(tensors, r"synthesis\.b(\d+)\.conv1\.weight")
    resolution = check_blocks(blocks, where=where)
    images = numbers(tensors, r"synthesis\.b(\d+)\.torgb\.weight")
    skips = numbers(tensors, r"synthesis\.b(\d+)\.skip\.weight")
    if images == blocks and not skips:
        synthesis = "skip"
    elif images == [resolution] and skips == blocks[1:]:
        synthesis = "resnet"
    else:
        raise PackError(f"{where}: an 'orig' generator (images at {images}, residuals at {skips} px); "
                        "'skip' and 'resnet' are supported")
    layers = numbers(tensors, r"mapping\.fc(\d+)\.weight")
    w_dim, z_dim = tensors["mapping.fc0.weight"].shape
    clamp, lr_multiplier, notes = _settings(generator, blocks, options, where)
    widths = {n: tensors[f"synthesis.b{n}.conv1.weight"].shape[0] for n in blocks}
    config = GeneratorConfig(
        resolution=resolution, z_dim=z_dim, w_dim=w_dim, mapping_layers=len(layers), clamp=clamp, synthesis=synthesis,
        mapping_lr_multiplier=lr_multiplier, **channel_fields(widths, where=where))
    quiet = tuple(f"b{n}/{layer}" for n in blocks for layer in ("conv0", "conv1")
                  if f"synthesis.b{n}.{layer}.weight" in tensors
                  and f"synthesis.b{n}.{layer}.noise_strength" not in tensors)
    known = (Ignored(pattern="*.resample_filter", why="the filter [1, 3, 3, 1]", holds=is_filter),)
    if quiet:
        notes += (f"{len(quiet)} layers use no noise: their strength is zero",)
    return Plan(tensors=tensors, rules=tuple(_rules(config, quiet)), known=known, config=config, notes=notes,
                zeros=quiet, w_mean="mapping.w_avg" in tensors)


def _rules(config: GeneratorConfig, quiet: tuple[str, ...]):
    for i in range(config.mapping_layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"mapping.fc{i}.weight", layout=transposed)
        yield Rule(target=f"mapping/fc{i}/bias", source=f"mapping.fc{i}.bias")
    yield Rule(target="w_mean", source="mapping.w_avg", shape=(config.w_dim,))
    yield Rule(target="synthesis/b4/const", source="synthesis.b4.const", layout=lambda a: a.transpose(1, 2, 0))
    for n in config.block_resolutions:
        layers = ["conv1"] if n == 4 else ["conv0", "conv1"]
        if config.synthesis == "skip" or n == config.resolution:
            layers.append("torgb")
        for layer in layers:
            source, target = f"synthesis.b{n}.{layer}", f"synthesis/b{n}/{layer}"
            yield Rule(target=f"{target}/weight", source=f"{source}.weight", layout=hwio)
            yield Rule(target=f"{target}/bias", source=f"{source}.bias")
            yield Rule(target=f"{target}/affine/weight", source=f"{source}.affine.weight", layout=transposed)
            yield Rule(target=f"{target}/affine/bias", source=f"{source}.affine.bias")
            if layer != "torgb" and f"b{n}/{layer}" not in quiet:
                yield Rule(target=f"{target}/noise_strength", source=f"{source}.noise_strength", shape=())
                yield Rule(target=f"{target}/noise_const", source=f"{source}.noise_const", shape=(n, n))
        if config.synthesis == "resnet" and n > 4:
            yield Rule(target=f"synthesis/b{n}/skip/weight", source=f"synthesis.b{n}.skip.weight", layout=hwio)


def _settings(generator: Any, blocks: list[int], options: Options, where: Any) -> tuple[float | None, float, tuple]:
    """Clamp, the mapping's learning rate multiplier, and notes: from the modules' attributes, never assumed."""
    if not isinstance(generator, Node):
        if options.clamp is None:
            raise PackError(f"{where}: a bare state dict does not say whether activations are clamped; "
                            "give --clamp 256 (stylegan2-ada default with fp16) or --clamp 0 (none)")
        return options.clamp or None, 0.01, ("the mapping's learning rate multiplier is taken to be 0.01",)
    modules = dict(_modules("", generator))
    if "synthesis" not in modules or "mapping" not in modules:
        raise PackError(f"{where}: a {generator.class_name} without mapping and synthesis, no StyleGAN2 generator")
    require(modules["synthesis"], {"img_channels": (3,)}, where=where)
    clamps, multipliers, half = set(), set(), []
    for name, state in modules.items():
        if "conv_clamp" in state and not name.endswith("skip"):
            clamps.add(None if state["conv_clamp"] is None else float(state["conv_clamp"]))
        if name.startswith("mapping.fc"):
            require(state, {"activation": ("lrelu",)}, where=f"{where}: {name}")
            multipliers.add(float(state["bias_gain"]))
        elif name.rpartition(".")[2] in ("conv0", "conv1"):
            require(state, {"activation": ("lrelu",), "act_gain": (float(np.sqrt(2)),)}, where=f"{where}: {name}")
        if state.get("use_fp16"):
            half.append(name.rpartition(".")[2][1:])
    if len(clamps) != 1 or len(multipliers) != 1:
        raise PackError(f"{where}: layers with different clamps {clamps} or learning rate multipliers {multipliers}")
    notes = (f"trained with float16 at {', '.join(half)} px; runs in float32 here",) if half else ()
    return clamps.pop(), multipliers.pop(), notes


def _modules(name: str, node: Node):
    yield name, node.state
    for key, child in node.state.get("_modules", {}).items():
        if isinstance(child, Node):
            yield from _modules(f"{name}.{key}" if name else key, child)
