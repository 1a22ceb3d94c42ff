"""StyleGAN1 as lernapparat stores it: one flat state dict of NVIDIA's trainable weights, no noise maps, no mean.

Source of names: lernapparat/lernapparat, style_gan/pytorch_style_gan.ipynb (read, not copied). Kernels are NVIDIA's,
only transposed; its own instance norm has eps 1e-5, NVIDIA's 1e-8 is used here.
"""

from __future__ import annotations

from typing import Any

from converters.readers import Checkpoint, state_dict
from converters.stylegan.layouts import channel_fields, check_blocks, hwio, is_blur, numbers, transposed, turned
from converters.stylegan.plan import Options, Plan
from converters.stylegan.stylegan1_tensorflow import FUSED_FROM
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig

LAYOUT = "lernapparat/lernapparat"
LICENCE = "CC BY-NC 4.0 (NVIDIA), whose weights it holds"


def find(checkpoint: Checkpoint) -> Any:
    """The generator in a file of this layout, or None."""
    tree = checkpoint.tree
    return tree if isinstance(tree, dict) and "g_synthesis.torgb.weight" in tree else None


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError where the blocks are not those of one generator."""
    where = checkpoint.path
    tensors = state_dict(generator, where=where)
    blocks = numbers(tensors, r"g_synthesis\.blocks\.(\d+)x\1\.(?:conv|conv1)\.weight")
    resolution = check_blocks(blocks, where=where)
    layers = numbers(tensors, r"g_mapping\.dense(\d+)\.weight")
    w_dim, z_dim = tensors["g_mapping.dense0.weight"].shape
    widths = {n: tensors[f"g_synthesis.blocks.{n}x{n}.conv{'' if n == 4 else '1'}.weight"].shape[0] for n in blocks}
    config = GeneratorConfig(architecture="stylegan1", resolution=resolution, z_dim=z_dim, w_dim=w_dim,
                             mapping_layers=len(layers), **channel_fields(widths, where=where))
    known = (Ignored(pattern="*.intermediate.kernel", why="the filter [1, 2, 1]", holds=is_blur),)
    drawn = tuple((f"b{n}/conv{place}",) for n in blocks for place in (0, 1))
    return Plan(tensors=tensors, rules=tuple(_rules(config)), known=known, config=config, noise=drawn, w_mean=False,
                notes=("its own code runs instance norm with eps 1e-5; NVIDIA's 1e-8 is used here",))


def _rules(config: GeneratorConfig):
    for i in range(config.mapping_layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"g_mapping.dense{i}.weight", layout=transposed)
        yield Rule(target=f"mapping/fc{i}/bias", source=f"g_mapping.dense{i}.bias")
    for n in config.block_resolutions:
        block = f"g_synthesis.blocks.{n}x{n}"
        if n == 4:
            yield Rule(target="synthesis/b4/const", source=f"{block}.const", shape=(1, None, 4, 4),
                       layout=lambda a: a[0].transpose(1, 2, 0))
        names = ("", "conv") if n == 4 else ("conv0_up", "conv1")
        for place, name in enumerate(names):
            target, end = f"synthesis/b{n}/conv{place}", f"{block}.epi{place + 1}"
            if name:
                fused = name == "conv0_up" and n >= FUSED_FROM
                yield Rule(target=f"{target}/weight", source=f"{block}.{name}.weight",
                           layout=(lambda a: turned(hwio(a))) if fused else hwio)
            yield Rule(target=f"{target}/bias", source=f"{block}.{name}.bias" if name else f"{block}.bias")
            yield Rule(target=f"{target}/noise_strength", source=f"{end}.top_epi.noise.weight")
            yield Rule(target=f"{target}/style/weight", source=f"{end}.style_mod.lin.weight", layout=transposed)
            yield Rule(target=f"{target}/style/bias", source=f"{end}.style_mod.lin.bias")
    yield Rule(target="synthesis/torgb/weight", source="g_synthesis.torgb.weight", layout=hwio)
    yield Rule(target="synthesis/torgb/bias", source="g_synthesis.torgb.bias")
