"""Every tensor of every kind of file missing, empty, of another rank, size or type: exit code 4, and it is named."""

import argparse

import jax
import numpy as np
import pytest
import scipy.io
from test_landmarks import tensors_of as fan
from test_morphable import basel_2009, deep3d
from test_regressor import tensors_of as resnet
from test_rignet import linear_rig
from test_vgg import layers, torchvision

from converters import landmarks, morphable, regressor, rignet, stylegan, vgg
from converters.converting import converted_by, validate
from converters.prefixes import under_prefix
from converters.readers import Checkpoint, read
from pie_jax.errors import PackError

DAMAGES = {
    "missing": lambda a: None, "empty": lambda a: np.zeros(0, np.float32), "scalar": lambda a: np.ones((), np.float32),
    "half": lambda a: a[:len(a) // 2] if np.ndim(a) and len(a) > 1 else np.zeros((7, 5), np.float32),
    "one more axis": lambda a: np.asarray(a)[None], "three numbers": lambda a: np.ones(3, np.float32),
    "text": lambda a: "not an array", "a dict": lambda a: {"a": 1}, "number": lambda a: 1.5, "none": lambda a: None}


def flame():
    rng = np.random.default_rng(0)
    triangles = np.stack([rng.permutation(90)[:3] for _ in range(120)])
    return {"v_template": rng.normal(size=(90, 3)), "shapedirs": rng.normal(size=(90, 3, 400)), "posedirs": np.ones(3),
            "f": triangles.astype(np.uint32)}




KINDS = {
    "torchvision": (vgg, "torch-zip", lambda: dict(torchvision(layers()))),
    "deep3d": (morphable, "mat", lambda: dict(deep3d())),
    "basel 2009": (morphable, "mat", lambda: dict(basel_2009(np.random.default_rng(0), 90))),
    "flame": (morphable, "pickle", flame),
    "regressor": (regressor, "torch-zip", lambda: dict(resnet("resnet18"))),
    "fan": (landmarks, "torch-zip", lambda: dict(fan())),
    "rig": (rignet, "torch-zip", lambda: dict(linear_rig(3)))}
# what the rest of a file is measured by, or is told as a group: the words of the message
GROUPS = {"backbone.conv1.weight": "wrong|final_layers", "features.0.weight": "wrong",
          "meanshape": "wrong|has shape", "shapeMU": "wrong|has shape", "v_template": "wrong|has shape",
          "final_layers": "final_layers", "keypoints": "landmarks", "encoder": "decoder", "decoder": "encoder"}
ARGUMENTS = argparse.Namespace(landmarks="approximate", deep3d=None, heads=None, control=None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_every_kind(tmp_path, kind):
    module, form, make = KINDS[kind]

    def outcome(tree):
        checkpoint = Checkpoint(path=tmp_path / "net.pth", format=form, tree=tree)
        converted = converted_by(module.convert, under_prefix(checkpoint, module.recognise), ARGUMENTS)
        validate(converted, where=checkpoint.path)
        return converted

    whole = make()
    converted = outcome(dict(whole))
    needed = {row.name for row in converted.table.rows if row.status == "used"}
    assert needed
    names = sorted(needed)
    chosen = names if len(names) < 40 else [names[i] for i in np.random.default_rng(0).permutation(len(names))[:25]]
    for name in chosen:
        for damage, change in DAMAGES.items():
            changed = change(np.asarray(whole[name]))
            tree = {key: value for key, value in whole.items() if key != name}
            if damage != "missing":
                tree = {key: (changed if key == name else value) for key, value in whole.items()}
            if isinstance(changed, np.ndarray) and changed.shape == np.shape(whole[name]):
                continue
            try:
                found = outcome(tree)
            except PackError as error:
                text = str(error)
                assert error.exit_code == 4 and "\n" not in text
                if module.recognise(Checkpoint(path=tmp_path / "net.pth", format=form, tree=tree)) is not None:
                    told = next((words for start, words in GROUPS.items() if name.startswith(start)), name)
                    assert name in text or any(word in text for word in told.split("|")), (name, damage, text)
            else:  # the same numbers in another shape, which the layout flattens
                if damage == "half" and name in ("tri", "tl", "f"):
                    continue  # a mesh of fewer triangles
                assert damage == "one more axis", (name, damage)
                same = jax.tree.map(np.array_equal, found.weights, converted.weights)
                assert all(jax.tree.leaves(same)), (name, damage)


def test_a_mean_texture_of_three_numbers(tmp_path):
    whole = deep3d()
    for name, size in (("meantex", 3), ("meantex", 0), ("texBase", 3), ("exBase", 3), ("idBase", 30)):
        scipy.io.savemat(tmp_path / "a.mat", whole | {name: whole[name].reshape(-1)[:size].reshape(1, -1)})
        with pytest.raises(PackError, match=name):
            morphable.convert(read(tmp_path / "a.mat"), ARGUMENTS)
    model = basel_2009(np.random.default_rng(0), 90)
    for name in ("shapeEV", "texEV", "texMU", "texPC", "shapePC"):
        scipy.io.savemat(tmp_path / "b.mat", model | {name: np.asarray(model[name]).reshape(-1)[:1].reshape(1, 1)})
        with pytest.raises(PackError, match=name):
            morphable.convert(read(tmp_path / "b.mat"), ARGUMENTS)


def test_of_the_command_too(tmp_path, capsys):
    scipy.io.savemat(tmp_path / "a.mat", deep3d() | {"meantex": np.ones((1, 3))})
    assert morphable.main([str(tmp_path / "a.mat"), "--pack", str(tmp_path / "pack")]) == 4
    assert "meantex" in capsys.readouterr().err and not (tmp_path / "pack").exists()
    assert stylegan.main([str(tmp_path / "a.mat"), "--dry-run"]) == 4
