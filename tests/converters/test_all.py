"""One folder of downloads in, a pack out: recognised by content, companions together, the rest named."""

import json

import numpy as np
import pytest
import scipy.io
from test_landmarks import tensors_of as fan
from test_regressor import tensors_of as resnet
from test_rignet import linear_rig
from test_vgg import face_file, layers, torchvision
from torch_or_numpy import save

from converters.all import candidates, main, recognise
from pie_jax.pack import load_pack, read_manifest


@pytest.fixture
def downloads(tmp_path):
    """Files whose names say nothing, or the wrong thing."""
    folder = tmp_path / "downloads"
    (folder / "more").mkdir(parents=True)
    save(folder / "a.bin", torchvision(layers()))
    save(folder / "stylegan2-ffhq.pkl", fan())
    save(folder / "more" / "b", {"net_recon": resnet("resnet18")})
    face_file(folder / "more", "dag", layers(seed=1))
    save(folder / "rig_of_the_light.pt", linear_rig(257))
    (folder / "README.txt").write_text("vgg16 epoch_20 BFM")
    (folder / "index.pth").write_text("<!DOCTYPE html><html>quota exceeded</html>")
    (folder / ".hidden").write_bytes(b"x")
    return folder


def test_everything_known_is_converted(downloads, tmp_path, capsys):
    assert main([str(downloads), "--pack", str(tmp_path / "pack"), "--name", "mine"]) == 0
    out = capsys.readouterr().out
    for part in ("perceptual", "landmarks", "regressor", "recognition", "rignet_illumination"):
        assert f"-> {part} (" in out
    assert "5 of 7 files converted, 0 could not be, 2 not recognised" in out
    assert "index.pth: not recognised: a web page" in out and "README.txt: not recognised" in out
    assert "missing" in out and "without it: everything" in out and "NVlabs" in out  # packs status
    pack = load_pack(tmp_path / "pack")
    assert pack.name == "mine" and set(pack.weights) == {"perceptual", "landmarks", "regressor", "recognition",
                                                         "rignet_illumination"}


def test_two_of_a_kind_are_left_and_companions_go_together(downloads, tmp_path, capsys):
    heads = {f"lin{i}.model.1.weight": np.full((1, c, 1, 1), 0.1, np.float32)
             for i, c in enumerate((4, 8, 16, 32, 32))}
    save(downloads / "lin.pth", heads)
    save(downloads / "other_regressor.pth", resnet("resnet50"))
    save(downloads / "rig.pt", linear_rig(257))
    assert main([str(downloads), "--pack", str(tmp_path / "pack"), "--json"]) == 1
    rows = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["lin.pth"]["text"].startswith("left: used with")
    left = [row for row in rows.values() if row["part"] == "regressor"]
    assert [row["status"] for row in left] == ["left", "left"] and "python -m converters.regressor" in left[0]["text"]
    assert sum(row["status"] == "failed" and "--control" in row["text"] for row in rows.values()) == 1
    manifest = read_manifest(tmp_path / "pack")
    assert manifest["configs"]["perceptual"]["heads"] and "regressor" not in manifest["parts"]


def test_basel_model_finds_deep3ds_files(tmp_path, capsys):
    from test_morphable import basel_2009, deep3d

    folder = tmp_path / "downloads"
    (folder / "BFM").mkdir(parents=True)
    scipy.io.savemat(folder / "x.mat", basel_2009(np.random.default_rng(0), 90))
    scipy.io.savemat(folder / "BFM" / "1.mat", {"trimIndex": np.arange(1.0, 91).reshape(-1, 1)})
    scipy.io.savemat(folder / "BFM" / "2.mat", {"idx": np.arange(1.0, 91).reshape(-1, 1)})
    keep = ("tri", "point_buf", "tri_mask2", "keypoints", "frontmask2_idx", "skinmask")
    scipy.io.savemat(folder / "BFM" / "3.mat", {k: v for k, v in deep3d().items() if k in keep})
    assert main([str(folder), "--pack", str(tmp_path / "pack")]) == 0
    out = capsys.readouterr().out
    assert "cut to Deep3D's 90 vertices" in out and "-> morphable" in out
    scipy.io.savemat(folder / "front.mat", deep3d())
    assert main([str(folder), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "front.mat is taken as the part morphable" in out and "front.mat: Deep3D" in out


def test_nothing_known_and_no_folder(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing")
    assert main([str(tmp_path), "--dry-run"]) == 4
    assert main([str(tmp_path / "none"), "--dry-run"]) == 3
    assert main([str(tmp_path)]) == 2
    capsys.readouterr()


def test_packs_are_passed_over_and_meshes_are_one(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "manifest.json").write_text("{}")
    (tmp_path / "pack" / "weights.npz").write_bytes(b"")
    (tmp_path / "ict" / "FaceXModel").mkdir(parents=True)
    for name in ("a.obj", "b.obj", "vertex_indices.json"):
        (tmp_path / "ict" / "FaceXModel" / name).write_text("")
    assert list(candidates(tmp_path)) == [tmp_path / "ict" / "FaceXModel"]
    assert recognise(tmp_path / "ict" / "FaceXModel").module is None
