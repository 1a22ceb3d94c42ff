"""The landmark network from the public FAN (2D, 68 points): `python -m converters.landmarks FILE --pack DIR`.

Reads the plain state dict (.pth.tar), the TorchScript archives of face-alignment 1.2 to 1.4, and old files whose names
begin with "module.". The network keeps its 68 heat maps, because its stacks feed on them, and returns the project's 66
(without the 0-based points 60 and 64).

FAN reads a larger square than the face crop: 200 (w + h) / 195 around a face box of w x h whose middle is moved up by
0.12 h (face_alignment/api.py). For the box of Deep3D's standard 68 points that square is 1.312 face crops wide with the
same middle to 0.5 %, which is what `crop_scale` says.

Source: 1adrianb/face-alignment face_alignment/models.py as of version 1.0 (arXiv 1703.07332).
--check REFERENCE.npz: `crops_01` [B, 256, 256, 3] and `heat_maps` [B, 64, 64, 68 or 66], those of the last stack.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from converters.converting import Converted, run
from converters.readers import Checkpoint
from converters.regressor import batch_norm
from converters.table import Ignored, Rule, map_tensors
from converters.vgg import hwio
from pie_jax.config import LandmarkConfig
from pie_jax.errors import PackError

CROP_SCALE = 1.312
LICENCE = "BSD 3-Clause (face-alignment); trained on 300W-LP, which is for research"
_PREFIXES = ("", "state_dict")


def recognise(checkpoint: Checkpoint) -> str | None:
    """"fan", or None."""
    return None if _find(checkpoint) is None else "fan"


def _find(checkpoint: Checkpoint) -> dict[str, np.ndarray] | None:
    """The tensors of a FAN without a common "module.", or None."""
    tree = checkpoint.tree
    for prefix in _PREFIXES:
        if prefix and not (isinstance(tree, Mapping) and prefix in tree):
            continue
        try:
            tensors = checkpoint.state_dict(prefix=prefix)
        except PackError as error:
            if "NaN" in str(error):
                raise
            continue
        if tensors and all(name.startswith("module.") for name in tensors):
            tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
        if {"conv1.weight", "m0.b2_plus_1.conv1.weight", "l0.weight"} <= set(tensors):
            return tensors
    return None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The landmark network; sizes from the tensors. PackError for other networks, Mismatch for other tensors."""
    tensors = _find(checkpoint)
    if tensors is None:
        raise PackError(f"{checkpoint.path}: no FAN (no conv1, m0.b2_plus_1 and l0); known are the 2D networks of "
                        "face-alignment")
    points = tensors["l0.weight"].shape[0]
    if points != 68:
        raise PackError(f"{checkpoint.path}: {points} heat maps; the landmarks of the project come from the 68 of iBUG")
    width = tensors["l0.weight"].shape[1]
    stacks = 1 + max(int(name[1]) for name in tensors if name[0] == "l" and name[1:].split(".")[0].isdigit())
    depth = max(int(name.split("_")[1].split(".")[0]) for name in tensors if name.startswith("m0.b1_"))
    config = LandmarkConfig(stacks=stacks, width=width, depth=depth, num_points=points, crop_scale=CROP_SCALE)
    known = [Ignored(pattern="*.num_batches_tracked", why="a counter of the training")]
    weights, table = map_tensors(tensors, _rules(config), known=known, where=checkpoint.path,
                                 layout="face-alignment FAN")
    return Converted(part="landmarks", weights=weights, config=config, layout="face-alignment FAN", licence=LICENCE,
                     table=table, notes=("68 points, of which 66 are returned (without the inner mouth corners)",))


def _rules(config: LandmarkConfig) -> list[Rule]:
    width, rules = config.width, []

    def conv(source: str, target: str, outputs: int, inputs: int, size: int, *, bias: bool = False) -> None:
        rules.append(Rule(target=f"{target}/kernel", source=f"{source}.weight", layout=hwio,
                          shape=(outputs, inputs, size, size)))
        if bias:
            rules.append(Rule(target=f"{target}/bias", source=f"{source}.bias", shape=(outputs,)))

    def block(source: str, target: str, inputs: int, outputs: int) -> None:
        half, quarter = outputs // 2, outputs // 4
        sizes = (inputs, half, quarter, outputs - half - quarter)
        for i in range(3):
            rules.extend(batch_norm(f"{source}.bn{i + 1}", f"{target}/bn{i + 1}", sizes[i]))
            conv(f"{source}.conv{i + 1}", f"{target}/conv{i + 1}", sizes[i + 1], sizes[i], 3)
        if inputs != outputs:
            rules.extend(batch_norm(f"{source}.downsample.0", f"{target}/downsample_bn", inputs))
            conv(f"{source}.downsample.2", f"{target}/downsample_conv", outputs, inputs, 1)

    conv("conv1", "conv1", width // 4, 3, 7, bias=True)
    rules += batch_norm("bn1", "bn1", width // 4)
    block("conv2", "conv2", width // 4, width // 2)
    block("conv3", "conv3", width // 2, width // 2)
    block("conv4", "conv4", width // 2, width)
    for i in range(config.stacks):
        for level in range(config.depth, 0, -1):
            for name in ("b1", "b2", "b3"):
                block(f"m{i}.{name}_{level}", f"m{i}/{name}_{level}", width, width)
        block(f"m{i}.b2_plus_1", f"m{i}/b2_plus_1", width, width)
        block(f"top_m_{i}", f"top_m_{i}", width, width)
        conv(f"conv_last{i}", f"conv_last{i}", width, width, 1, bias=True)
        rules += batch_norm(f"bn_end{i}", f"bn_end{i}", width)
        conv(f"l{i}", f"l{i}", config.num_points, width, 1, bias=True)
        if i < config.stacks - 1:
            conv(f"bl{i}", f"bl{i}", width, width, 1, bias=True)
            conv(f"al{i}", f"al{i}", width, config.num_points, 1, bias=True)
    return rules


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The last heat maps of reference["crops_01"]; PackError unless the reference has 66 of them (or all 68)."""
    from pie_jax.nn.landmarks import FROM_68, LandmarkNet
    from pie_jax.nn.layers import apply

    if not {"crops_01", "heat_maps"} <= set(reference):
        return {}
    crops = np.asarray(reference["crops_01"], np.float32)
    found = apply(LandmarkNet(converted.config), converted.weights, crops)[-1]
    due = np.asarray(reference["heat_maps"])
    if due.shape[-1] != 68:
        return {"heat_maps": found}
    whole = np.array(due, np.float32)  # the two points that are not returned cannot be compared
    whole[..., np.asarray(FROM_68)] = found
    return {"heat_maps": whole}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="landmarks", description="Convert the public FAN into the landmark network of a pack.",
               convert=convert, recognise=recognise, forward=forward)


if __name__ == "__main__":
    sys.exit(main())
