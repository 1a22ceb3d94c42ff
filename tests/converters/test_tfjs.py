"""TensorFlow.js graphs: a small network against plain arithmetic, and files that are refused."""

import argparse
import base64
import json

import jax
import numpy as np
import pytest

from converters import tfjs
from converters.readers import read
from pie_jax.errors import PackError
from pie_jax.nn.graph import Graph
from pie_jax.nn.layers import apply

RNG = np.random.default_rng(0)
SIZE = 8


def text(word):
    return {"s": base64.b64encode(word.encode()).decode()}


def conv(name, op, inputs, stride):
    numbers = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
    return {"name": name, "op": op, "input": inputs, "attr": {
        "strides": numbers, "padding": text("SAME"), "data_format": text("NHWC"),
        "dilations": {"list": {"i": ["1"] * 4}}}}


def write(folder, *, nodes=None, quantised=True, path="w.bin", **arrays):
    """A depthwise network of the shape that MobileNet's blocks have; `arrays` replace its own."""
    weights = {"k1": RNG.normal(size=(3, 3, 3, 4)), "b1": RNG.normal(size=4), "k2": RNG.normal(size=(3, 3, 4, 1)),
               "m2": RNG.normal(size=4), "b2": RNG.normal(size=4), "six": np.array(6.0), "zero": np.array(0.0),
               "axes": np.array([1, 2], np.int32)} | arrays
    nodes = nodes or [
        {"name": "x", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": [
            {"size": str(n)} for n in (-1, SIZE, SIZE, 3)]}}}},
        *({"name": name, "op": "Const", "input": []} for name in weights),
        conv("c1", "Conv2D", ["x", "k1"], 2), {"name": "a1", "op": "Add", "input": ["c1", "b1"]},
        {"name": "r1", "op": "Relu", "input": ["a1"]}, {"name": "n1", "op": "Minimum", "input": ["r1", "six"]},
        {"name": "x1", "op": "Maximum", "input": ["n1", "zero"]},
        conv("c2", "DepthwiseConv2dNative", ["x1", "k2"], 1), {"name": "m", "op": "Mul", "input": ["c2", "m2"]},
        {"name": "a2", "op": "Add", "input": ["m", "b2"]}, {"name": "r2", "op": "Relu", "input": ["a2"]},
        {"name": "global_pooling/Mean", "op": "Mean", "input": ["r2", "axes"]}]
    entries, body = [], b""
    for name, array in weights.items():
        integer = array.dtype.kind == "i"
        half = quantised and not integer
        entries.append({"name": name, "shape": list(array.shape), "dtype": "int32" if integer else "float32"}
                       | ({"quantization": {"dtype": "float16"}} if half else {}))
        body += array.astype("<i4" if integer else "<f2" if half else "<f4").tobytes()
    (folder / "w.bin").write_bytes(body)
    model = {"format": "graph-model", "signature": {"outputs": {"global_pooling/Mean": {}}},
             "modelTopology": {"node": nodes}, "weightsManifest": [{"paths": [path], "weights": entries}]}
    (folder / "net.json").write_text(json.dumps(model))
    return folder / "net.json", {name: array.astype(np.float16).astype(np.float32) for name, array in weights.items()}


def convolved(x, kernel, stride, groups):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                        feature_group_count=groups)


def test_a_network_gives_what_its_nodes_say(tmp_path):
    path, w = write(tmp_path)
    converted = tfjs.convert(read(path), argparse.Namespace())
    x = RNG.uniform(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    y = np.clip(np.asarray(convolved(x, w["k1"], 2, 1)) + w["b1"], 0, 6)
    y = np.maximum(np.asarray(convolved(y, w["k2"].transpose(0, 1, 3, 2), 1, 4)) * w["m2"] + w["b2"], 0)
    found = apply(Graph(converted.config), converted.weights, x)[0]
    np.testing.assert_allclose(found, y.mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert converted.part == "face_descriptor" and (converted.config.low, converted.config.high) == (0, 255)


def test_the_file_of_weights_lies_beside_the_graph(tmp_path):
    for path in ("../w.bin", "/etc/passwd", ".."):
        with pytest.raises(PackError, match="not beside it"):
            read(write(tmp_path, path=path)[0])
    with pytest.raises(PackError, match="cannot be read"):
        read(write(tmp_path, path="gone.bin")[0])


def test_a_truncated_file_and_another_quantisation_are_refused(tmp_path):
    path, _ = write(tmp_path)
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes()[:-4])
    with pytest.raises(PackError, match="ends behind its file"):
        read(path)
    model = json.loads(write(tmp_path)[0].read_text())
    model["weightsManifest"][0]["weights"][0]["quantization"] = {"dtype": "uint8"}
    path.write_text(json.dumps(model))
    with pytest.raises(PackError, match="stored as 'uint8'"):
        read(path)


def test_an_unknown_operator_is_named(tmp_path):
    nodes = [{"name": "x", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": [{"size": "8"}] * 4}}}},
             {"name": "s", "op": "Softplus", "input": ["x"]},
             {"name": "global_pooling/Mean", "op": "Mean", "input": ["s"]}]
    with pytest.raises(PackError, match="'Softplus'"):
        tfjs.convert(read(write(tmp_path, nodes=nodes)[0]), argparse.Namespace())
