"""StyleGAN2 of rosinality/stylegan2-pytorch: converted files (g_ema, latent_avg) and training checkpoints.

Source of names and semantics: rosinality/stylegan2-pytorch, model.py and convert_weight.py (read, not copied).
"""

from __future__ import annotations

from typing import Any

from converters.readers import Checkpoint, state_dict
from converters.stylegan.layouts import (
    channel_fields,
    check_blocks,
    flat,
    hwio_1,
    is_filter,
    log2,
    numbers,
    plane,
    transposed,
)
from converters.stylegan.plan import Options, Plan
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUT = "rosinality/stylegan2-pytorch"
LICENCE = "the author's of the file; NVIDIA Source Code License (non-commercial) where it was converted from NVIDIA's"

_SIGN = "conv1.conv.modulation.weight"


def find(checkpoint: Checkpoint) -> Any:
    """The generator in a file of this layout, or None."""
    tree = checkpoint.tree
    for value in (tree.get("g_ema"), tree.get("state_dict"), tree) if isinstance(tree, dict) else ():
        if isinstance(value, dict) and {_SIGN, f"module.{_SIGN}"} & set(value):
            return value
    return None


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError where the blocks are not those of one generator."""
    where = checkpoint.path
    tensors = {name.removeprefix("module."): array for name, array in state_dict(generator, where=where).items()}
    convs = numbers(tensors, r"convs\.(\d+)\.conv\.weight")
    if convs != list(range(len(convs))) or len(convs) % 2:
        raise PackError(f"{where}: convolutions {convs}; expected two for each resolution above 4 px")
    blocks = [4 * 2**i for i in range(len(convs) // 2 + 1)]
    resolution = check_blocks(blocks, where=where)
    layers = numbers(tensors, r"style\.(\d+)\.weight")
    if not layers:
        raise PackError(f"{where}: no mapping network (style.*) in it")
    w_dim, z_dim = tensors[f"style.{layers[0]}.weight"].shape
    widths = {4: tensors["conv1.conv.weight"].shape[1]}
    widths |= {n: tensors[f"convs.{2 * (log2(n) - 3) + 1}.conv.weight"].shape[1] for n in blocks[1:]}
    config = GeneratorConfig(resolution=resolution, z_dim=z_dim, w_dim=w_dim, mapping_layers=len(layers),
                             **channel_fields(widths, where=where))
    notes: tuple[str, ...] = ("the mapping's learning rate multiplier is the repository's 0.01",)
    drawn: tuple[tuple[str, ...], ...] = ()
    if not any(name.startswith("noises.") for name in tensors):
        drawn = tuple((f"b{n}/{layer}",) for n in blocks for layer in (("conv0", "conv1") if n > 4 else ("conv1",)))
    mean = checkpoint.tree.get("latent_avg") if isinstance(checkpoint.tree, dict) else None
    if mean is not None:
        tensors |= {"latent_avg": state_dict({"latent_avg": mean}, where=where)["latent_avg"]}
    known = (Ignored(pattern="*.kernel", why="the filter [1, 3, 3, 1]", holds=is_filter),)
    return Plan(tensors=tensors, rules=tuple(_rules(config, stored=not drawn)), known=known, config=config,
                notes=notes, noise=drawn, w_mean=mean is not None)


def _rules(config: GeneratorConfig, *, stored: bool):
    for i in range(config.mapping_layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"style.{i + 1}.weight", layout=transposed)
        yield Rule(target=f"mapping/fc{i}/bias", source=f"style.{i + 1}.bias")
    yield Rule(target="w_mean", source="latent_avg", layout=flat)
    yield Rule(target="synthesis/b4/const", source="input.input", shape=(1, None, 4, 4),
               layout=lambda a: a[0].transpose(1, 2, 0))
    for n in config.block_resolutions:
        k = log2(n)
        sources = {"conv1": "conv1", "torgb": "to_rgb1"} if n == 4 else {
            "conv0": f"convs.{2 * (k - 3)}", "conv1": f"convs.{2 * (k - 3) + 1}", "torgb": f"to_rgbs.{k - 3}"}
        for layer, source in sources.items():
            target = f"synthesis/b{n}/{layer}"
            yield Rule(target=f"{target}/weight", source=f"{source}.conv.weight", layout=hwio_1)
            yield Rule(target=f"{target}/affine/weight", source=f"{source}.conv.modulation.weight", layout=transposed)
            yield Rule(target=f"{target}/affine/bias", source=f"{source}.conv.modulation.bias")
            if layer == "torgb":
                yield Rule(target=f"{target}/bias", source=f"{source}.bias", layout=flat, shape=(1, 3, 1, 1))
                continue
            yield Rule(target=f"{target}/bias", source=f"{source}.activate.bias")
            yield Rule(target=f"{target}/noise_strength", source=f"{source}.noise.weight", shape=(1,),
                       layout=lambda a: a.reshape(()))
            if stored:
                index = 2 * k - (5 if layer == "conv0" else 4)
                yield Rule(target=f"{target}/noise_const", source=f"noises.noise_{index}", layout=plane,
                           shape=(1, 1, n, n))
