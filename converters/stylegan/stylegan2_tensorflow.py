"""StyleGAN2 in NVIDIA's TensorFlow pickles (stylegan2, stylegan2-ada): the third network of (G, D, Gs).

Source of names and semantics: NVlabs/stylegan2, training/networks_stylegan2.py and dnnlib/tflib/ops/upfirdn_2d.py
(read, not copied). Before its transposed convolution TensorFlow turns the kernel of Conv0_up by 180 degrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers import Checkpoint, Node, state_dict
from converters.readers.checkpoint import is_network
from converters.stylegan.layouts import channel_fields, check_blocks, log2, numbers, plane, plus_one, require, turned
from converters.stylegan.plan import Options, Plan
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUT = "NVlabs/stylegan2"
LICENCE = "NVIDIA Source Code License (non-commercial)"

_SETTINGS = {
    "num_channels": (3,), "label_size": (0,), "mapping_nonlinearity": ("lrelu",), "nonlinearity": ("lrelu",),
    "normalize_latents": (True,), "resample_kernel": ([1, 3, 3, 1],), "use_noise": (True,), "fmap_decay": (1.0,),
    "dtype": ("float32",), "fused_modconv": (True, False),
}


def find(checkpoint: Checkpoint) -> Any:
    """The averaged generator Gs in a file of this layout, or None."""
    networks = generators(checkpoint)
    return networks if networks is not None and has(networks, "/mod_weight") else None


def generators(checkpoint: Checkpoint) -> Node | None:
    """Gs of a TensorFlow pickle (G, D, Gs), or None; PackError for another number of networks."""
    if checkpoint.format != "tf-network":
        return None
    if len(checkpoint.tree) != 3:
        raise PackError(f"{checkpoint.path}: {len(checkpoint.tree)} networks; expected (G, D, Gs)")
    return checkpoint.tree[2]


def has(network: Node, ending: str) -> bool:
    """Has the network, or a component of it, a variable whose name ends so?"""
    names = [str(name) for name, _ in network.state["variables"]]
    parts = [part for part in network.state.get("components", {}).values() if is_network(part)]
    return any(name.endswith(ending) for name in names) or any(has(part, ending) for part in parts)


def settings_of(network: Node) -> dict[str, Any]:
    """static_kwargs of a network and of its components."""
    merged: dict[str, Any] = {}
    for part in (network, *network.state.get("components", {}).values()):
        settings = part.state.get("static_kwargs") if isinstance(part, Node) else None
        merged |= settings if isinstance(settings, dict) else {}
    return merged


def sizes_of(tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any], *, where: Path) -> dict[str, Any]:
    """The fields of `GeneratorConfig` that are read in the same way in TensorFlow's StyleGAN1. Raises PackError."""
    blocks = blocks_of(tensors)
    z_dim, w_dim = tensors["mapping/Dense0/weight"].shape
    widths = {n: tensors[f"synthesis/{n}x{n}/{'Conv' if n == 4 else 'Conv1'}/weight"].shape[3] for n in blocks}
    return {"resolution": check_blocks(blocks, where=where), "z_dim": z_dim, "w_dim": w_dim,
            "mapping_layers": len(numbers(tensors, r"mapping/Dense(\d+)/weight")),
            "mapping_lr_multiplier": float(settings.get("mapping_lrmul", 0.01)), **channel_fields(widths, where=where)}


def blocks_of(tensors: Mapping[str, np.ndarray]) -> list[int]:
    """The resolutions of the synthesis blocks."""
    return numbers(tensors, r"synthesis/(\d+)x\1/(?:Conv1|Conv)/weight")


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError (configs A-D, a conditional network, settings that are not supported)."""
    where = checkpoint.path
    settings = settings_of(generator)
    require(settings, _SETTINGS, where=where)
    tensors = state_dict(generator, where=where)
    if any("ToRGB_lod" in name for name in tensors):
        raise PackError(f"{where}: a StyleGAN2 of configs A to D (an 'orig' generator); E and F are supported")
    if any("LabelEmbed" in name or "LabelConcat" in name for name in tensors):
        raise PackError(f"{where}: a class-conditional generator; unconditional ones are supported")
    blocks, sizes = blocks_of(tensors), sizes_of(tensors, settings, where=where)
    skips = numbers(tensors, r"synthesis/(\d+)x\1/Skip/weight")
    images = numbers(tensors, r"synthesis/(\d+)x\1/ToRGB/weight")
    synthesis = "resnet" if skips else "skip"
    if images != (blocks if not skips else blocks[-1:]) or skips not in ([], blocks[1:]):
        raise PackError(f"{where}: images at {images} and residuals at {skips} px; 'skip' and 'resnet' are supported")
    clamp = settings.get("conv_clamp")
    config = GeneratorConfig(synthesis=synthesis, clamp=None if clamp is None else float(clamp), **sizes)
    known = (Ignored(pattern="lod", why="the level of progressive growing, which is over", holds=_finished),)
    return Plan(tensors=tensors, rules=tuple(_rules(config)), known=known, config=config)


def _finished(array) -> bool:
    return array.size == 1 and float(array.reshape(())) == 0.0


def _rules(config: GeneratorConfig):
    for i in range(config.mapping_layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"mapping/Dense{i}/weight")
        yield Rule(target=f"mapping/fc{i}/bias", source=f"mapping/Dense{i}/bias")
    yield Rule(target="w_mean", source="dlatent_avg", shape=(config.w_dim,))
    yield Rule(target="synthesis/b4/const", source="synthesis/4x4/Const/const", shape=(1, None, 4, 4),
               layout=lambda a: a[0].transpose(1, 2, 0))
    for n in config.block_resolutions:
        names = {"conv1": "Conv"} if n == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
        if config.synthesis == "skip" or n == config.resolution:
            names["torgb"] = "ToRGB"
        for layer, name in names.items():
            source, target = f"synthesis/{n}x{n}/{name}", f"synthesis/b{n}/{layer}"
            yield Rule(target=f"{target}/weight", source=f"{source}/weight",
                       layout=turned if layer == "conv0" else np.asarray)
            yield Rule(target=f"{target}/bias", source=f"{source}/bias")
            yield Rule(target=f"{target}/affine/weight", source=f"{source}/mod_weight")
            yield Rule(target=f"{target}/affine/bias", source=f"{source}/mod_bias", layout=plus_one)
            if layer != "torgb":
                index = 2 * log2(n) - (5 if layer == "conv0" else 4)
                yield Rule(target=f"{target}/noise_strength", source=f"{source}/noise_strength", shape=())
                yield Rule(target=f"{target}/noise_const", source=f"synthesis/noise{index}", layout=plane,
                           shape=(1, 1, n, n))
        if config.synthesis == "resnet" and n > 4:
            yield Rule(target=f"synthesis/b{n}/skip/weight", source=f"synthesis/{n}x{n}/Skip/weight")
