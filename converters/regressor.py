"""The MoFA regressor from Deep3DFaceRecon's checkpoint: `python -m converters.regressor epoch_20.pth --pack DIR`.

The network is torchvision's ResNet (v1.5) without fc and seven 1x1 convolutions, whose outputs are identity 80,
expression 64, texture 80, angles 3, illumination 27, translation 2 and 1: joined they are the 257-vector of
`pie_jax.face3d.morphable.VECTOR_ORDER`. Input: RGB in 0..1, no mean and deviation, the 224 px face crop.

The pack's camera becomes that crop in a portrait aligned as FFHQ's are. FFHQ: the square around
eyes + 0.1 (mouth - eyes) with half side max(2 |eye to eye|, 1.8 |eye to mouth|) (NVlabs/ffhq-dataset
`recreate_aligned_images`). Deep3D: 102 px a unit of its standard five points around their origin
(util/preprocess.py, `align_img`). In those units the eyes are 0.6214 apart, 0.2901 up, the mouth 0.3813 down.

Source: sicxu/Deep3DFaceRecon_pytorch models/networks.py (arXiv 1903.08527).
--check REFERENCE.npz: `crops_01` [B, R, R, 3] and `theta` [B, 257].
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from converters.converting import Converted, run
from converters.readers import Checkpoint
from converters.table import Ignored, Rule, map_tensors
from converters.vgg import hwio
from pie_jax.config import CameraConfig, RegressorConfig
from pie_jax.errors import PackError

HEAD = (80, 64, 80, 3, 27, 2, 1)
LICENCE = "MIT (Deep3DFaceRecon_pytorch); its output are coefficients of the Basel Face Model, which has its own terms"
_EYES, _EYE_Y, _MOUTH_Y = 0.62134, 0.29005, -0.3813  # Deep3D's standard points, in its units
_PX = 102.0  # pixels of the 224 px crop a unit


def ffhq_camera() -> CameraConfig:
    """Deep3D's camera with its crop where it lies in an FFHQ-aligned portrait of the standard face."""
    side = 2 * max(2.0 * _EYES, 1.8 * (_EYE_Y - _MOUTH_Y))  # of the portrait, in units
    middle = _EYE_Y - 0.1 * (_EYE_Y - _MOUTH_Y)  # of the portrait, above the crop's middle
    size = 224.0 / _PX / side
    return CameraConfig(crop_x=round(0.5 - size / 2, 4), crop_y=round(0.5 + middle / side - size / 2, 4),
                        crop_size=round(size, 4))


def recognise(checkpoint: Checkpoint) -> str | None:
    """"deep3d" (the trainer's dict or its net_recon alone), or None."""
    return "deep3d" if _tensors_at(checkpoint) is not None else None


def _tensors_at(checkpoint: Checkpoint) -> str | None:
    tree = checkpoint.tree
    if isinstance(tree, Mapping):
        for prefix in ("net_recon", ""):
            part = tree.get(prefix) if prefix else tree
            if isinstance(part, Mapping) and "backbone.conv1.weight" in part:
                return prefix
    return None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The regressor; sizes from the tensors. PackError for other networks, Mismatch for other tensors."""
    prefix = _tensors_at(checkpoint)
    if prefix is None:
        raise PackError(f"{checkpoint.path}: no Deep3DFaceRecon regressor (no backbone.conv1.weight, also not in "
                        "net_recon)")
    tensors = checkpoint.state_dict(prefix=prefix)
    if "backbone.fc.weight" in tensors:
        raise PackError(f"{checkpoint.path}: trained with use_last_fc, whose one layer is another head than the "
                        "published one; use the published epoch_20.pth")
    stages = [0, 0, 0, 0]
    for name in tensors:
        if match := re.match(r"backbone\.layer([1-4])\.(\d{1,3})\.", name):
            stage = int(match[1]) - 1
            stages[stage] = max(stages[stage], int(match[2]) + 1)
    bottleneck = any(re.match(r"backbone\.layer\d\.0\.(conv|bn)3\.", name) for name in tensors)
    width = tensors["backbone.conv1.weight"].shape[0]
    config = RegressorConfig(stage_sizes=tuple(stages), bottleneck=bottleneck, width=width)
    rules = _rules(config)
    known = [Ignored(pattern="*.num_batches_tracked", why="a counter of the training")]
    weights, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout="Deep3DFaceRecon_pytorch")
    weights |= {"output_mean": np.zeros(257, np.float32), "output_std": np.ones(257, np.float32)}
    camera = ffhq_camera()
    note = (f"camera: the face crop is at x {camera.crop_x}, y {camera.crop_y}, side {camera.crop_size} of an "
            "FFHQ-aligned portrait")
    return Converted(part="regressor", weights=weights, config=config, layout="Deep3DFaceRecon_pytorch",
                     licence=LICENCE, table=table, notes=(note,), camera=camera)


def _rules(config: RegressorConfig) -> list[Rule]:
    rules: list[Rule] = []

    def conv(source: str, target: str, outputs: int, inputs: int, size: int) -> None:
        rules.append(Rule(target=f"{target}/kernel", source=f"{source}.weight", layout=hwio,
                          shape=(outputs, inputs, size, size)))

    def norm(source: str, target: str, channels: int) -> None:
        rules.extend(batch_norm(source, target, channels))

    conv("backbone.conv1", "conv1", config.width, 3, 7)
    norm("backbone.bn1", "bn1", config.width)
    inputs = config.width
    for stage, blocks in enumerate(config.stage_sizes):
        n = config.width * 2**stage
        outputs = 4 * n if config.bottleneck else n
        for i in range(blocks):
            source, target = f"backbone.layer{stage + 1}.{i}", f"layer{stage + 1}_{i}"
            sizes = [(n, inputs, 1), (n, n, 3), (outputs, n, 1)] if config.bottleneck else [(n, inputs, 3), (n, n, 3)]
            for k, (to, come, size) in enumerate(sizes, 1):
                conv(f"{source}.conv{k}", f"{target}/conv{k}", to, come, size)
                norm(f"{source}.bn{k}", f"{target}/bn{k}", to)
            if (stage > 0 and i == 0) or inputs != outputs:
                conv(f"{source}.downsample.0", f"{target}/downsample_conv", outputs, inputs, 1)
                norm(f"{source}.downsample.1", f"{target}/downsample_bn", outputs)
            inputs = outputs
    kernels = tuple(f"final_layers.{i}.weight" for i in range(len(HEAD)))
    rules += [Rule(target="head/kernel", source=kernels, layout=lambda *k: _joined(k, inputs)),
              Rule(target="head/bias", source=tuple(f"final_layers.{i}.bias" for i in range(len(HEAD))),
                   layout=_joined_biases)]
    return rules


def _joined_biases(*biases: np.ndarray) -> np.ndarray:
    """Seven [n] -> [257]."""
    if [b.shape for b in biases] != [(n,) for n in HEAD]:
        raise PackError(f"final_layers.*.bias: expected {', '.join(map(str, HEAD))} numbers, got "
                        f"{[list(b.shape) for b in biases]}; another order or number of coefficients")
    return np.concatenate(biases)


def _joined(kernels: tuple[np.ndarray, ...], inputs: int) -> np.ndarray:
    """Seven [n, I, 1, 1] -> [I, 257]."""
    shapes = [k.shape for k in kernels]
    if shapes != [(n, inputs, 1, 1) for n in HEAD]:
        raise PackError(f"final_layers: expected {', '.join(map(str, HEAD))} outputs of {inputs} channels, got "
                        f"{[list(s) for s in shapes]}; another order or number of coefficients")
    return np.concatenate([k[:, :, 0, 0] for k in kernels]).T


def batch_norm(source: str, target: str, channels: int) -> list[Rule]:
    """Rules of a torch BatchNorm in evaluation."""
    pairs = (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var"))
    return [Rule(target=f"{target}/{ours}", source=f"{source}.{theirs}", shape=(channels,)) for ours, theirs in pairs]


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """theta of reference["crops_01"]."""
    from pie_jax.nn.layers import apply
    from pie_jax.nn.regressor import Regressor

    if not {"crops_01", "theta"} <= set(reference):
        return {}
    crops = np.asarray(reference["crops_01"], np.float32)
    return {"theta": apply(Regressor(converted.config), converted.weights, crops)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="regressor", description="Convert Deep3DFaceRecon's regressor into a part of a pack.",
               convert=convert, recognise=recognise, forward=forward)


if __name__ == "__main__":
    sys.exit(main())
