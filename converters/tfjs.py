"""The face descriptor of the Human library from its TensorFlow.js files: `python -m converters.tfjs FILE --pack DIR`.

faceres.json, with faceres.bin beside it, becomes the part `face_descriptor`: 1024 numbers of a face, by which the
benchmarks of photographs tell people apart. Its outputs of age and gender are left out.
--check REFERENCE.npz: `images` [B, 224, 224, 3] in 0..255 and `output_0` [B, 1024].
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.converting import Converted, run
from converters.readers import Checkpoint
from converters.table import Rule, map_tensors
from converters.tflite import forward
from pie_jax.config import GraphConfig
from pie_jax.errors import PackError

PART = "face_descriptor"
LICENCE = "Apache-2.0 (Human, Vladimir Mandic)"
_DESCRIPTOR = "global_pooling/Mean"


def recognise(checkpoint: Checkpoint) -> str | None:
    """The part that a TensorFlow.js graph becomes, or None."""
    if checkpoint.format != "tfjs":
        return None
    return PART if _DESCRIPTOR in checkpoint.tree["outputs"] else None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The network as a graph. PackError: another network, or an operator that is not known here."""
    if recognise(checkpoint) is None:
        raise PackError(f"{checkpoint.path}: not the Human library's faceres, the one TensorFlow.js graph known here")
    plan = _Plan(checkpoint.tree["arrays"], where=checkpoint.path)
    for node in checkpoint.tree["nodes"]:
        if node["op"] != "Const":
            plan.add(node)
        if node["name"] == _DESCRIPTOR:
            break
    weights, table = map_tensors(plan.tensors, plan.rules, where=checkpoint.path, layout="Human")
    config = GraphConfig(resolution=plan.resolution, operations=tuple(plan.lines),
                         outputs=(plan.numbers[_DESCRIPTOR],), low=0.0, high=255.0)
    return Converted(part=PART, weights=weights, config=config, layout="Human", licence=LICENCE, table=table)


class _Plan:
    """The lines and the weights that the nodes become; a scale and a bias behind a convolution become part of it."""

    def __init__(self, arrays: Mapping[str, np.ndarray], *, where: Any):
        self.arrays, self.where = arrays, where
        self.numbers: dict[str, int] = {}  # node -> number of the value
        self.lines: list[str] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.rules: list[Rule] = []
        self.resolution = self.side = self.channels = 0

    def add(self, node: Mapping[str, Any]) -> None:
        op, name = node["op"], node["name"]
        inputs = [i for i in node["inputs"] if i not in self.arrays]
        constants = [self.arrays[i] for i in node["inputs"] if i in self.arrays]
        if op == "Placeholder":
            self.numbers[name] = 0
            self.resolution = self.side = int(node["attributes"]["shape"]["shape"]["dim"][1]["size"])
        elif op in ("Conv2D", "DepthwiseConv2dNative"):
            self._convolution(node, inputs[0], constants[0])
        elif op in ("Mul", "Add") and len(inputs) == len(constants) == 1:
            self._fold(op, self.numbers[inputs[0]], constants[0])
            self.numbers[name] = self.numbers[inputs[0]]
        elif op == "Relu":
            self._line("relu", inputs[0], name)
        elif op == "Minimum" and constants and float(constants[0]) == 6.0:
            self._line("relu6", inputs[0], name)
        elif op == "Maximum" and constants and float(constants[0]) == 0.0:
            self.numbers[name] = self.numbers[inputs[0]]  # it changes nothing behind a relu
        elif op == "Mean" and constants and constants[0].tolist() == [1, 2]:
            size = f"{self.side}x{self.side}"
            self._line("mean_pool", inputs[0], name, kernel=size, stride="1x1", padding="valid")
            self._line("reshape", name, name, shape=self.channels)
        else:
            raise PackError(f"{self.where}: the operator {op!r} with these inputs is not known here")

    def _convolution(self, node: Mapping[str, Any], image: str, kernel: np.ndarray) -> None:
        attributes, name = node["attributes"], node["name"]
        if (attributes["padding"], attributes["data_format"], attributes["dilations"]) != ("SAME", "NHWC", [1] * 4):
            raise PackError(f"{self.where}: the convolution {name!r} has options that are not known here")
        stride = attributes["strides"][1]
        words = {"kernel": f"{kernel.shape[0]}x{kernel.shape[1]}", "stride": f"{stride}x{stride}"}
        if node["op"] == "Conv2D":
            kind, self.channels, words["features"] = "conv", kernel.shape[3], str(kernel.shape[3])
        elif kernel.shape[3] == 1:
            kind, kernel = "depthwise", kernel[..., 0]
        else:
            raise PackError(f"{self.where}: the convolution {name!r} makes several channels of one")
        self.side = -(-self.side // stride)
        number = self._line(kind, image, name, **words, padding="same")
        self._weight(number, "kernel", kernel)
        self._weight(number, "bias", np.zeros(kernel.shape[-1], np.float32))

    def _fold(self, op: str, number: int, constant: np.ndarray) -> None:
        kernel, bias = f"{number:03d}_kernel", f"{number:03d}_bias"
        if kernel not in self.tensors or number != len(self.lines):
            raise PackError(f"{self.where}: the operator {op!r} stands elsewhere than behind a convolution")
        constant = constant.reshape(-1)
        if op == "Mul":
            self.tensors[kernel] = self.tensors[kernel] * constant
            self.tensors[bias] = self.tensors[bias] * constant
        else:
            self.tensors[bias] = self.tensors[bias] + constant

    def _line(self, kind: str, image: str, output: str, **words) -> int:
        number = len(self.lines) + 1
        said = " ".join(f"{key}={value}" for key, value in words.items())
        self.lines.append(f"{number} {kind} {self.numbers[image]} {said}".rstrip())
        self.numbers[output] = number
        return number

    def _weight(self, number: int, name: str, array: np.ndarray) -> None:
        target = f"{number:03d}_{name}"
        self.tensors[target] = array
        self.rules.append(Rule(target=target, source=target, layout=lambda a: a))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="tfjs", description="Convert the face descriptor of the Human library.",
               convert=convert, recognise=recognise, forward=forward)


if __name__ == "__main__":
    sys.exit(main())
