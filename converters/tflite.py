"""Face networks of MediaPipe from TensorFlow Lite files: `python -m converters.tflite FILE --pack DIR`.

    face_detection_short_range.tflite      part face_detector
    face_landmark_with_attention.tflite    part face_mesh (478 points)
    selfie_segmentation.tflite             part person_matte

The operators become lines of a GraphConfig, the float16 weights stay what they are. Which part a file is, its inputs
and outputs say. Source: google-ai-edge/mediapipe; schema.fbs of TensorFlow Lite for the file.
--check REFERENCE.npz: `images` [B, R, R, 3] and `output_0`, `output_1`, ... as TensorFlow Lite gives them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.converting import Converted, run
from converters.readers import Checkpoint
from converters.readers.tflite_file import read_options
from converters.table import Rule, map_tensors
from pie_jax.config import GraphConfig
from pie_jax.errors import PackError

LICENCE = "Apache-2.0 (MediaPipe, Google)"
# (sizes of all outputs but the batch) -> part, range of the image it reads
_NETWORKS = {
    ((896, 16), (896, 1)): ("face_detector", (-1.0, 1.0)),
    ((1, 1, 1404), (1, 1, 160), (1, 1, 142), (1, 1, 142), (1, 1, 10), (1, 1, 10), (1, 1, 1)): ("face_mesh", (0.0, 1.0)),
    ((256, 256, 1),): ("person_matte", (0.0, 1.0)),
}
_PADDING = ("same", "valid")
_FUSED = {1: "relu", 3: "relu6"}
_SIMPLE = ("sigmoid", "relu", "hard_swish", "relu6")


def recognise(checkpoint: Checkpoint) -> str | None:
    """The part that a TensorFlow Lite file becomes, or None."""
    if checkpoint.format != "tflite":
        return None
    outputs = tuple(checkpoint.tree["shapes"][n][1:] for n in checkpoint.tree["outputs"])
    return _NETWORKS[outputs][0] if outputs in _NETWORKS else None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The network as a graph. PackError: another network, an operator or an option that is not known here."""
    part = recognise(checkpoint)
    if part is None:
        raise PackError(f"{checkpoint.path}: not one of MediaPipe's networks that are known here: "
                        f"{', '.join(name for name, _ in _NETWORKS.values())}")
    tree = checkpoint.tree
    low, high = next(ends for name, ends in _NETWORKS.values() if name == part)
    plan = _Plan(tree, where=checkpoint.path)
    for operator in tree["operators"]:
        plan.add(operator)
    weights, table = map_tensors(plan.tensors, plan.rules, where=checkpoint.path, layout="MediaPipe")
    config = GraphConfig(resolution=tree["shapes"][tree["inputs"][0]][1], operations=tuple(plan.lines),
                         outputs=tuple(plan.numbers[n] for n in tree["outputs"]), low=low, high=high)
    return Converted(part=part, weights=weights, config=config, layout="MediaPipe", licence=LICENCE, table=table)


class _Plan:
    """The lines and the rules that the operators of a file become, one after the other."""

    def __init__(self, tree: Mapping[str, Any], *, where: Any):
        self.tree, self.where = tree, where
        self.numbers = {tree["inputs"][0]: 0}  # tensor of the file -> number of the value
        self.constants = dict(tree["arrays"])  # tensor -> array
        self.names = dict(enumerate(tree["names"]))
        self.lines: list[str] = []
        self.rules: list[Rule] = []
        self.tensors: dict[str, np.ndarray] = {}

    def add(self, operator: Mapping[str, Any]) -> None:
        kind, inputs, output = operator["kind"], operator["inputs"], operator["outputs"][0]
        if kind == "dequantize":
            self.constants[output], self.names[output] = self.constants[inputs[0]], self.names[inputs[0]]
        elif kind in ("conv", "depthwise", "Convolution2DTransposeBias"):
            self._convolution(operator)
        else:
            settings = self._settings(operator)
            if settings is None:  # it changes nothing
                self.numbers[output] = self.numbers[inputs[0]]
            else:
                kind, words = settings
                values = [n for n in inputs if n not in self.constants]
                number = self._line(kind, values, output, **words)
                if kind == "prelu":
                    self._weight(number, "alpha", inputs[1], lambda a: a.reshape(-1))
        activation = operator.get("activation", 0)
        if activation:
            if activation not in _FUSED:
                raise PackError(f"{self.where}: the fused activation {activation} is not known here")
            self._line(_FUSED[activation], [output], output)

    def _convolution(self, operator: Mapping[str, Any]) -> None:
        kind, (image, kernel, bias), output = operator["kind"], operator["inputs"], operator["outputs"][0]
        features, height, width, _ = self.tree["shapes"][kernel]
        size = f"{height}x{width}"
        if kind == "Convolution2DTransposeBias":
            if self.tree["shapes"][output][1] != height * self.tree["shapes"][image][1]:
                raise PackError(f"{self.where}: a transposed convolution whose blocks overlap is not known here")
            number = self._line("conv_transpose", [image], output, kernel=size, features=features)
        else:
            if (operator["dilation_x"], operator["dilation_y"], operator.get("multiplier", 1)) != (1, 1, 1):
                raise PackError(f"{self.where}: a dilated convolution is not known here")
            words = {"kernel": size, "stride": f"{operator['stride_y']}x{operator['stride_x']}"}
            if kind == "conv":
                words["features"] = features
            number = self._line(kind, [image], output, **words, padding=_PADDING[operator["padding"]])
        layout = (lambda a: a[0]) if kind == "depthwise" else (lambda a: a.transpose(1, 2, 3, 0))
        self._weight(number, "kernel", kernel, layout)
        self._weight(number, "bias", bias, lambda a: a)

    def _settings(self, operator: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        kind, inputs, output = operator["kind"], operator["inputs"], operator["outputs"][0]
        shape = self.tree["shapes"][output]
        constants = [self.constants[n] for n in inputs if n in self.constants]
        if kind in _SIMPLE or kind == "prelu" or (kind in ("add", "multiply") and not constants):
            return kind, {}
        if kind == "multiply" and constants[0].size in (1, 16):  # a number, or a matrix of them
            return "scale", {"by": ",".join(repr(float(x)) for x in constants[0].ravel())}
        if kind in ("max_pool", "mean_pool"):
            return kind, {"kernel": f"{operator['height']}x{operator['width']}",
                          "stride": f"{operator['stride_y']}x{operator['stride_x']}",
                          "padding": _PADDING[operator["padding"]]}
        if kind == "pad":
            return kind, {"pads": ",".join(str(n) for n in constants[0].ravel())}
        if kind == "reshape":
            return kind, {"shape": "x".join(str(n) for n in shape[1:])}
        if kind == "concatenate":
            return kind, {"axis": operator["axis"]}
        if kind == "resize" and operator["half_pixel"] and not operator["align_corners"]:
            return kind, {"size": f"{shape[1]}x{shape[2]}"}
        if kind == "slice" and shape == self.tree["shapes"][inputs[0]]:
            return None
        if kind == "Landmarks2TransformMatrix":
            options = read_options(operator["options"])
            if options["scale_x"] != options["scale_y"]:
                raise PackError(f"{self.where}: a crop of two scales is not known here")
            return "crop_matrix", {
                "left": options["left_rotation_idx"], "right": options["right_rotation_idx"],
                "angle": repr(float(options["target_rotation_radians"])), "scale": repr(float(options["scale_x"])),
                "size": f"{options['output_height']}x{options['output_width']}",
                "points": ",".join(str(n) for n in options["subset_idxs"])}
        if kind == "TransformTensorBilinear":
            return "crop", {"size": f"{shape[1]}x{shape[2]}"}
        if kind == "TransformLandmarks":
            return "move_points", {}
        raise PackError(f"{self.where}: the operator {kind!r} with these options is not known here")

    def _line(self, kind: str, inputs: Sequence[int], output: int, **words) -> int:
        numbers = [self.numbers[n] for n in inputs]
        number = self.numbers[output] = len(self.lines) + 1
        said = " ".join(f"{key}={value}" for key, value in words.items())
        self.lines.append(f"{number} {kind} {','.join(map(str, numbers))} {said}".rstrip())
        return number

    def _weight(self, number: int, name: str, tensor: int, layout) -> None:
        source = f"{self.names[tensor]} ({tensor})"  # names may repeat in a file, numbers do not
        self.tensors[source] = self.constants[tensor]
        self.rules.append(Rule(target=f"{number:03d}_{name}", source=source, layout=layout))


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of reference["images"] under the names output_0, output_1, ..."""
    from pie_jax.nn.graph import Graph
    from pie_jax.nn.layers import apply

    if "images" not in reference:
        return {}
    outputs = apply(Graph(converted.config), converted.weights, np.asarray(reference["images"], np.float32))
    return {f"output_{i}": np.asarray(output) for i, output in enumerate(outputs) if f"output_{i}" in reference}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="tflite", description="Convert MediaPipe's face networks into parts of a pack.",
               convert=convert, recognise=recognise, forward=forward)


if __name__ == "__main__":
    sys.exit(main())
