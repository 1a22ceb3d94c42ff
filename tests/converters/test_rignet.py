"""Public rigs and DFR: the same function as loops over their layers; what cannot be used is refused by its reason."""

import argparse

import jax
import numpy as np
import pytest
from torch_or_numpy import elu, float32, kernel, leaky, linear, relative, save

from converters import rignet
from converters.readers import read
from pie_jax.config import DFRConfig
from pie_jax.errors import PackError, UsageError
from pie_jax.nn.rignet import DFR, RigNet
from pie_jax.pack import load_pack

LAYERS, D = 4, 16


def linear_rig(inputs, *, encoder="encoder.{}", width=6, seed=0):
    rng, found = np.random.default_rng(seed), {}
    for i in range(LAYERS):
        for name, outputs, read_ in ((encoder.format(i), width, D),
                                     (encoder.replace("encoder", "decoder").format(i), D, width + inputs)):
            found |= {f"{name}.weight": kernel(rng, outputs, read_), f"{name}.bias": 0.1 * rng.normal(size=outputs)}
    return float32(found)


def given(inputs, seed=1):
    rng = np.random.default_rng(seed)
    return np.float32(rng.normal(size=(3, LAYERS, D))), np.float32(rng.normal(size=(3, inputs)))


def convert(path, **options):
    return rignet.convert(read(path), argparse.Namespace(**{"control": None, **options}))


@pytest.mark.parametrize("stem, inputs, control", [("encoder.{}", 257, "illumination"),
                                                   ("encoder.layers.{}", 257, "expression"),
                                                   ("encoder.layers.{}", 3, None), ("encoder.{}", 64, None)])
def test_linear_rigs(tmp_path, stem, inputs, control):
    t = linear_rig(inputs, encoder=stem)
    converted = convert(save(tmp_path / "rig.pt", t), control=control)
    config = converted.config
    assert config.control == (control or {3: "pose", 64: "expression"}[inputs])
    assert converted.part == f"rignet_{config.control}" and config.activation == "none"
    assert config.input == ("all" if inputs == 257 else "slice") and converted.table.complete
    w_plus, told = given(inputs)
    due = np.empty_like(w_plus)
    for i in range(LAYERS):
        code = linear(w_plus[:, i], t[f"{stem.format(i)}.weight"], t[f"{stem.format(i)}.bias"])
        decoder = stem.replace("encoder", "decoder").format(i)
        due[:, i] = w_plus[:, i] + linear(np.concatenate([code, told], axis=1), t[f"{decoder}.weight"],
                                          t[f"{decoder}.bias"])
    got = jax.jit(RigNet(config).apply)({"params": converted.weights}, w_plus, told)
    assert relative(got, due) < 1e-5


def test_deep_rig_beside_other_networks(tmp_path):
    rng, t = np.random.default_rng(2), {"arcface.input_layer.0.weight": np.ones((2, 2)), "e4e.body": np.ones(3)}
    for i in range(LAYERS):
        for name, outputs, inputs in (("E.{}.0", 5, D), ("E.{}.2", 5, 5), ("E.{}.4", 5, 5), ("D.{}.0", 7, 5 + 3),
                                      ("D.{}.2", 7, 7), ("D.{}.4", D, 7)):
            name = name.format(f"MLP_{i}")
            t |= {f"{name}.weight": kernel(rng, outputs, inputs), f"{name}.bias": 0.1 * rng.normal(size=outputs)}
    t = float32(t)
    converted = convert(save(tmp_path / "rig.pt", {"model": t}))
    assert converted.part == "rignet_pose" and converted.table.count("left out") == 2
    w_plus, told = given(3)
    due = np.empty_like(w_plus)
    for i in range(LAYERS):
        x = w_plus[:, i]
        for k in (0, 2, 4):
            x = leaky(linear(x, t[f"E.MLP_{i}.{k}.weight"], t[f"E.MLP_{i}.{k}.bias"])).astype(np.float32)
        x = np.concatenate([x, told], axis=1)
        for k in (0, 2, 4):
            x = leaky(linear(x, t[f"D.MLP_{i}.{k}.weight"], t[f"D.MLP_{i}.{k}.bias"])).astype(np.float32)
        due[:, i] = w_plus[:, i] + x
    got = jax.jit(RigNet(converted.config).apply)({"params": converted.weights}, w_plus, told)
    assert relative(got, due) < 1e-5


def test_dfr(tmp_path):
    rng = np.random.default_rng(3)
    sizes = (2 * 512, 9, 8, 257)
    t = {}
    for i in range(3):
        t |= {f"L{i + 1}.weight": kernel(rng, sizes[i + 1], sizes[i]), f"L{i + 1}.bias": rng.normal(size=sizes[i + 1])}
    t = float32(t)
    converted = convert(save(tmp_path / "dfr.pt", t))
    assert converted.part == "dfr" and converted.config == DFRConfig(num_layers=2, hidden=(9, 8))
    w_plus = np.float32(rng.normal(size=(3, 2, 512)))
    x = w_plus.reshape(3, -1)
    for i in (1, 2, 3):
        x = linear(x, t[f"L{i}.weight"], t[f"L{i}.bias"])
        x = elu(x).astype(np.float32) if i < 3 else x
    got = jax.jit(DFR(converted.config).apply)({"params": converted.weights}, w_plus)
    assert relative(got, x) < 1e-5


def test_command_writes_a_rig_and_refuses_others(tmp_path, capsys):
    t = linear_rig(257)
    file = save(tmp_path / "rig.pt", t)
    with pytest.raises(UsageError, match="--control"):
        convert(file)
    assert rignet.main([str(file), "--control", "pose", "--pack", str(tmp_path / "pack")]) == 0
    assert load_pack(tmp_path / "pack").configs.rignet("pose").num_layers == LAYERS
    capsys.readouterr()
    with pytest.raises(UsageError, match="moves pose"):
        convert(save(tmp_path / "a.pt", linear_rig(3)), control="illumination")
    with pytest.raises(PackError, match="236 parameters"):
        convert(save(tmp_path / "b.pt", linear_rig(236, encoder="encoder.layers.{}")))
    with pytest.raises(PackError, match="StyleSpace"):
        convert(save(tmp_path / "c.pt", float32({"_nets.0.weight": np.ones(2), "_nets.25.weight": np.ones(2)})))
    broken = dict(t)
    del broken["decoder.2.bias"]
    assert rignet.main([str(save(tmp_path / "d.pt", broken)), "--control", "pose", "--dry-run"]) == 4
    assert "decoder.2.bias" in capsys.readouterr().err
    assert rignet.main([str(save(tmp_path / "e.pt", t | {"encoder.1.bias": np.full(6, np.nan, np.float32)})),
                        "--control", "pose", "--dry-run"]) == 4
    assert "encoder.1.bias" in capsys.readouterr().err
