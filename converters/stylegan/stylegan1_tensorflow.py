"""StyleGAN1 in NVIDIA's TensorFlow pickle: the third network of (G, D, Gs).

Source of names and semantics: NVlabs/stylegan, training/networks_stylegan.py (read, not copied). Its "fused"
up-sampling convolutions equal nearest up-sampling and a convolution by the kernel turned by 180 degrees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.readers import Checkpoint, state_dict
from converters.stylegan.layouts import is_zero, log2, plane, require, turned
from converters.stylegan.plan import Options, Plan
from converters.stylegan.stylegan2_tensorflow import blocks_of, generators, has, settings_of, sizes_of
from converters.table import Ignored, Rule
from pie_jax.config import GeneratorConfig
from pie_jax.errors import PackError

LAYOUT = "NVlabs/stylegan"
LICENCE = "CC BY-NC 4.0 (NVIDIA)"
FUSED_FROM = 128  # px, where fused_scale is 'auto'

_SETTINGS = {
    "num_channels": (3,), "label_size": (0,), "mapping_nonlinearity": ("lrelu",), "nonlinearity": ("lrelu",),
    "normalize_latents": (True,), "use_wscale": (True,), "use_styles": (True,), "use_noise": (True,),
    "use_pixel_norm": (False,), "use_instance_norm": (True,), "const_input_layer": (True,), "blur_filter": ([1, 2, 1],),
    "fmap_decay": (1.0,), "dtype": ("float32",), "fused_scale": ("auto", True, False),
}


def find(checkpoint: Checkpoint) -> Any:
    """The averaged generator Gs in a file of this layout, or None."""
    network = generators(checkpoint)
    return network if network is not None and has(network, "/StyleMod/weight") else None


def plan(checkpoint: Checkpoint, generator: Any, options: Options) -> Plan:
    """Errors: PackError (a conditional network, unfinished growing, settings that are not supported)."""
    where = checkpoint.path
    settings = settings_of(generator)
    require(settings, _SETTINGS, where=where)
    tensors = state_dict(generator, where=where)
    if any("LabelConcat" in name for name in tensors):
        raise PackError(f"{where}: a class-conditional generator; unconditional ones are supported")
    config = GeneratorConfig(architecture="stylegan1", **sizes_of(tensors, settings, where=where))
    known = (Ignored(pattern="lod", why="the level of progressive growing, which is over", holds=is_zero),
             Ignored(pattern="synthesis/lod", why="the level of progressive growing, which is over", holds=is_zero),
             *(Ignored(pattern=f"synthesis/ToRGB_lod{k}/*", why="the image of a lower resolution while growing")
               for k in range(1, len(blocks_of(tensors)))))
    rules = tuple(_rules(config, settings.get("fused_scale", "auto")))
    return Plan(tensors=tensors, rules=rules, known=known, config=config)


def _rules(config: GeneratorConfig, fused: Any):
    for i in range(config.mapping_layers):
        yield Rule(target=f"mapping/fc{i}/weight", source=f"mapping/Dense{i}/weight")
        yield Rule(target=f"mapping/fc{i}/bias", source=f"mapping/Dense{i}/bias")
    yield Rule(target="w_mean", source="dlatent_avg", shape=(config.w_dim,))
    yield Rule(target="synthesis/b4/const", source="synthesis/4x4/Const/const", shape=(1, None, 4, 4),
               layout=lambda a: a[0].transpose(1, 2, 0))
    for n in config.block_resolutions:
        names = ("Const", "Conv") if n == 4 else ("Conv0_up", "Conv1")
        for place, name in enumerate(names):
            source, target = f"synthesis/{n}x{n}/{name}", f"synthesis/b{n}/conv{place}"
            if name != "Const":
                flip = name == "Conv0_up" and (fused is True or (fused == "auto" and n >= FUSED_FROM))
                yield Rule(target=f"{target}/weight", source=f"{source}/weight", layout=turned if flip else np.asarray)
            yield Rule(target=f"{target}/bias", source=f"{source}/bias")
            yield Rule(target=f"{target}/noise_strength", source=f"{source}/Noise/weight")
            yield Rule(target=f"{target}/noise_const", source=f"synthesis/noise{2 * log2(n) - 4 + place}", layout=plane,
                       shape=(1, 1, n, n))
            yield Rule(target=f"{target}/style/weight", source=f"{source}/StyleMod/weight")
            yield Rule(target=f"{target}/style/bias", source=f"{source}/StyleMod/bias")
    yield Rule(target="synthesis/torgb/weight", source="synthesis/ToRGB_lod0/weight")
    yield Rule(target="synthesis/torgb/bias", source="synthesis/ToRGB_lod0/bias")
