"""Rigs and DFR of public StyleRig re-implementations: `python -m converters.rignet FILE --control pose --pack DIR`.

    encoder.{i}, decoder.{i}                  linear, the 257 parameters of Deep3D, returns d
    encoder.layers.{i}, decoder.layers.{i}    linear, returns w + d; only where its parameters are ours: their number
                                              says which (257 all, 3 pose, 64 expression, 27 illumination)
    E.MLP_{i}.{0,2,4}, D.MLP_{i}.{0,2,4}      three layers each with leaky ReLU 0.2, 3 angles; other networks in the
                                              same file are left out
    L1, L2, L3                                DFR: W+ to the 257 parameters, ELU

The first and the last are of ronslos/Unsupervised-High-Fidelity-Facial-Texture-Generation-and-Reconstruction
(training/models.py).

A rig of all 257 parameters does not say which control it was trained for: --control does. Rigs of StyleSpace (9088
numbers, as in cassiePython/cddfm3d) do not act on W+ and are refused, and so are those of other parameters
(236 of DECA: shape, expression, pose, texture, camera, light).

--check REFERENCE.npz: `w_plus` [B, L, D], `control_input` [B, P], `w_hat` [B, L, D]; for DFR `w_plus` and `theta`.
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
from pie_jax.config import CONTROLS, DFRConfig, RigNetConfig
from pie_jax.errors import PackError, UsageError

LICENCE = "not stated in the file: ask its owner"
_CONTROL_OF = {3: "pose", 64: "expression", 27: "illumination"}


def recognise(checkpoint: Checkpoint) -> str | None:
    """The layout: "linear", "layers", "mlp", "dfr", "stylespace" (refused), or None."""
    found = _find(checkpoint)
    return None if found is None else found[0]


def _find(checkpoint: Checkpoint) -> tuple[str, str] | None:
    """(layout, where in the tree its names are)."""
    tree = checkpoint.tree
    for prefix in ("", "model", "state_dict", "rignet"):
        part = tree.get(prefix) if prefix and isinstance(tree, Mapping) else tree
        if not isinstance(part, Mapping):
            continue
        for layout, name in (("linear", "encoder.0.weight"), ("layers", "encoder.layers.0.weight"),
                             ("mlp", "E.MLP_0.0.weight"), ("stylespace", "_nets.25.weight")):
            if name in part and name.replace("encoder", "decoder").replace("E.", "D.") in part:
                return layout, prefix
        if {"L1.weight", "L2.weight", "L3.weight"} <= set(part):
            return "dfr", prefix
    return None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The rig (part rignet_CONTROL) or DFR of the file.

    PackError: another kind of rig; UsageError: --control is needed, or is another than the file's.
    """
    found = _find(checkpoint)
    if found is None:
        raise PackError(f"{checkpoint.path}: no rig and no DFR whose layout is known (encoder and decoder of every "
                        "style layer, or L1, L2, L3)")
    layout, prefix = found
    if layout == "stylespace":
        raise PackError(f"{checkpoint.path}: a rig of StyleSpace, which does not act on W+; it cannot be used here")
    tensors = checkpoint.state_dict(prefix=prefix)
    if layout == "dfr":
        return _dfr(checkpoint, tensors)
    rules, known, layers, w_dim, shape = _rig_rules(layout, tensors)
    inputs = shape.pop("inputs")
    control = _control(checkpoint, inputs, getattr(arguments, "control", None))
    config = RigNetConfig(control=control, num_layers=layers, w_dim=w_dim, input="all" if inputs == 257 else "slice",
                          **shape)
    weights, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout=f"StyleRig, {layout}")
    return Converted(part=f"rignet_{control}", weights=weights, config=config, layout=f"StyleRig, {layout}",
                     licence=LICENCE, table=table, notes=(
                         f"reads {inputs} parameters ({config.input}); it must have been trained on this generator and "
                         "regressor, which the file cannot tell",))


def _control(checkpoint: Checkpoint, inputs: int, given: str | None) -> str:
    if inputs == 257:
        if given is None:
            raise UsageError(f"{checkpoint.path}: a rig of all 257 parameters; say what it moves: --control pose, "
                             "expression or illumination")
        return given
    if inputs not in _CONTROL_OF:
        raise PackError(f"{checkpoint.path}: the decoder reads {inputs} parameters; known are Deep3D's 257, or 3 "
                        "angles, 64 expressions, 27 of light alone. Rigs of other face models cannot be used here")
    if given not in (None, _CONTROL_OF[inputs]):
        raise UsageError(f"--control {given}: the rig reads {inputs} parameters, so it moves {_CONTROL_OF[inputs]}")
    return _CONTROL_OF[inputs]


def _rig_rules(layout: str, tensors: Mapping[str, np.ndarray]):
    """(rules, known, layers, w_dim, {width, activation ..., inputs})."""
    def stacked(*arrays):
        return np.stack([a.T for a in arrays])

    def rules_of(target: str, source: str) -> list[Rule]:
        return [Rule(target=f"{target}_kernel", source=tuple(f"{source.format(i)}.weight" for i in range(layers)),
                     layout=stacked),
                Rule(target=f"{target}_bias", source=tuple(f"{source.format(i)}.bias" for i in range(layers)),
                     layout=lambda *b: np.stack(b))]

    encoder = {"linear": "encoder.{}", "layers": "encoder.layers.{}", "mlp": "E.MLP_{}.0"}[layout]
    decoder = encoder.replace("encoder", "decoder").replace("E.", "D.")
    pattern = re.escape(encoder).replace(r"\{\}", r"(\d{1,3})") + r"\.\w+"
    layers = 1 + max(int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name)))
    width, w_dim = tensors[f"{encoder.format(0)}.weight"].shape
    hidden_width, read = tensors[f"{decoder.format(0)}.weight"].shape
    if layout == "mlp":
        rules = [rule for target, source in (
            ("encoder", "E.MLP_{}.0"), ("encoder1", "E.MLP_{}.2"), ("encoder2", "E.MLP_{}.4"),
            ("hidden0", "D.MLP_{}.0"), ("hidden1", "D.MLP_{}.2"), ("decoder", "D.MLP_{}.4")) for rule in
            rules_of(target, source)]
        others = sorted({name.split(".")[0] for name in tensors} - {"E", "D"})
        known = [Ignored(pattern=f"{other}.*", why="another network kept in the same file") for other in others]
        return rules, known, layers, w_dim, {
            "width": width, "activation": "leaky_relu", "encoder_layers": 3, "hidden_layers": 2,
            "hidden_width": hidden_width, "activated_output": True, "inputs": read - width}
    return (rules_of("encoder", encoder) + rules_of("decoder", decoder), [], layers, w_dim,
            {"width": width, "activation": "none", "inputs": read - width})


def _dfr(checkpoint: Checkpoint, tensors: Mapping[str, np.ndarray]) -> Converted:
    one, two, three = (tensors[f"L{i}.weight"] for i in (1, 2, 3))
    w_dim = 512
    if one.shape[1] % w_dim:
        raise PackError(f"{checkpoint.path}: L1 reads {one.shape[1]} numbers, which are not layers of {w_dim}")
    sizes = (one.shape[1], one.shape[0], two.shape[0], 257)
    config = DFRConfig(num_layers=one.shape[1] // w_dim, w_dim=w_dim, hidden=sizes[1:3])
    rules = []
    for i in range(3):
        rules += [Rule(target=f"fc{i}/kernel", source=f"L{i + 1}.weight", layout=np.transpose,
                       shape=(sizes[i + 1], sizes[i])),
                  Rule(target=f"fc{i}/bias", source=f"L{i + 1}.bias", shape=(sizes[i + 1],))]
    weights, table = map_tensors(tensors, rules, where=checkpoint.path, layout="DFR")
    weights |= {"output_mean": np.zeros(257, np.float32), "output_std": np.ones(257, np.float32)}
    return Converted(part="dfr", weights=weights, config=config, layout="DFR", licence=LICENCE, table=table,
                     notes=("it must have been trained on this generator and regressor, which the file cannot tell",))


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """w_hat of w_plus and control_input, or DFR's theta of w_plus."""
    from pie_jax.nn.layers import apply
    from pie_jax.nn.rignet import DFR, RigNet

    arrays = {name: np.asarray(array, np.float32) for name, array in reference.items()}
    if converted.part == "dfr":
        if not {"w_plus", "theta"} <= set(arrays):
            return {}
        return {"theta": apply(DFR(converted.config), converted.weights, arrays["w_plus"])}
    if not {"w_plus", "control_input", "w_hat"} <= set(arrays):
        return {}
    return {"w_hat": apply(RigNet(converted.config), converted.weights, arrays["w_plus"],
                           arrays["control_input"])}


def _extra(p) -> None:
    p.add_argument("--control", choices=CONTROLS, help="what the rig moves, where its file does not say")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="rignet", description="Convert a rig or a DFR network into a part of a pack.",
               convert=convert, recognise=recognise, forward=forward, extra=_extra)


if __name__ == "__main__":
    sys.exit(main())
