"""The edit command on a toy pack and an embedding made by hand."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax import Embedding
from pie_jax.config import EmbedConfig, EnergyConfig
from pie_jax.edit import main
from pie_jax.edit.arguments import parse
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import load_pack, save_pack
from pie_jax.packs.__main__ import main as packs

PARTS = ("generator", "regressor", "morphable", "rignet_pose", "rignet_expression", "rignet_illumination")


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack") / "toy"
    pack = toy.toy_pack(jax.random.key(0), parts=PARTS, energy=EnergyConfig(terms=("synthesis",), render_resolution=16))
    save_pack(folder, pack)
    return folder


@pytest.fixture
def embedding(pack_folder, tmp_path):
    """OUT/face with an embedding.npz and a report.json that names the pack."""
    pack = load_pack(pack_folder)
    folder = tmp_path / "out" / "face"
    folder.mkdir(parents=True)
    params = jax.tree.map(np.asarray, FaceParams.from_vector(toy.params_vector(jax.random.key(3))))
    w_plus = np.asarray(jax.random.normal(jax.random.key(4), (toy.LAYERS, toy.W_DIM)), np.float32)
    Embedding(w_plus=w_plus, params=params, portrait_params=params, landmarks=None, portrait_landmarks=None, trace={},
              config=EmbedConfig(), pack_name=pack.name, pack_hash=pack.hash, report={}).save(folder / "embedding.npz")
    (folder / "report.json").write_text(json.dumps({"pack": {"folder": str(pack_folder)}}))
    return folder


@pytest.fixture
def edit(embedding, monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)
    monkeypatch.chdir(embedding.parent)

    def call(*argv):
        code = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.mark.parametrize("argv,words", [
    (["--yaw", "x"], "--yaw"), (["--light", "1,2"], "AZIMUTH"), (["--light", "200,0,1"], "azimuth in"),
    (["--light", "0,0,-1"], "intensity"), (["--expression", "smile"], "NAME=VALUE"), (["--like", "a.png"], "--control"),
    (["--control", "pose"], "--like"), (["--like", "a", "--control", "pso"], "pose"), (["--sweep", "yaw=1:2"], "FROM"),
    (["--sweep", "yaw=1:2:1"], "2 to 200"), (["-o", "x.bmp", "--yaw", "1"], ".png"),
    (["-o", "x.gif", "--yaw", "1"], ".png"), (["--yow", "3"], "--yaw"), (["--order", "pose,x"], "--order"),
])
def test_usage_errors_are_one_line(argv, words, capsys):
    assert main(["face", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err


def test_values_with_a_minus_are_values():
    arguments = parse(["face", "--yaw", "-15", "--light", "-30,20,1", "--sweep", "pitch=-5:5:3",
                       "--order", "expression"])
    assert arguments.yaw == -15.0 and arguments.light == (-30.0, 20.0, 1.0)
    assert arguments.sweep.values() == [-5.0, 0.0, 5.0]
    assert arguments.order == ("expression", "pose", "illumination")


def test_an_edit_is_written_with_what_was_asked(edit, embedding):
    code, out, err = edit(embedding, "--yaw", 20, "--expression", "jaw_open=2", "--light", "-30,20,1")
    assert code == 0 and err == "" and "asked +20.0" in out and "jaw_open" in out
    with Image.open(embedding / "edit.png") as image:
        assert image.size == (32, 32)
        facts = json.loads(image.info["pie_jax"])
    assert facts["request"] == {"yaw": 20.0, "light": [-30.0, 20.0, 1.0], "expression": {"jaw_open": 2.0}}
    code, out, _ = edit(embedding / "embedding.npz", "--roll", 5, "--grid", "-o", "grid.png", "--json")
    assert code == 0 and json.loads(out)["read"]["roll"]["asked"] == pytest.approx(5.0)
    with Image.open("grid.png") as image:
        assert image.width > 3 * 224


def test_sweeps_are_sheets_or_films(edit, embedding):
    assert edit(embedding, "--sweep", "yaw=-20:20:3", "-o", "turn.png")[0] == 0
    assert edit(embedding, "--sweep", "jaw_open=0:3:4", "-o", "jaw.gif")[0] == 0
    assert edit(embedding, "--sweep", "azimuth=-60:60:3", "-o", "light.webp")[0] == 0
    with Image.open("turn.png") as sheet, Image.open("jaw.gif") as film, Image.open("light.webp") as other:
        assert sheet.width > 3 * 224 and film.n_frames == 6 and film.size == (32, 32) and other.format == "WEBP"


def test_like_another_photo(edit, embedding):
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("other.png")
    code, out, _ = edit(embedding, "--like", "other.png", "--control", "pose", "-o", "liked.png")
    assert code == 0 and "yaw" in out and pathlib.Path("liked.png").exists()
    assert edit(embedding, "--like", "nobody.png", "--control", "pose")[0] == 3
    assert edit(embedding, "--like", embedding, "--control", "pose,illumination", "-o", "same.png")[0] == 0


def test_what_is_wrong_is_said_in_one_line(edit, embedding, pack_folder, tmp_path):
    def refused(code, words, *argv):
        got, out, err = edit(*argv)
        assert got == code and out == "" and err.count("\n") == 1 and words in err, err

    refused(3, "no embedding here", tmp_path / "nobody", "--yaw", 3)
    refused(2, "nothing to change", embedding)
    refused(2, "jaw_open", embedding, "--expression", "jawopen=1")
    refused(2, "degrees", embedding, "--yaw", 100)
    refused(2, "smile_left", embedding, "--sweep", "smile_lef=0:1:2")
    refused(4, "not a pack", embedding, "--yaw", 3, "--pack", tmp_path)
    refused(7, "cannot be written", embedding, "--yaw", 3, "-o", tmp_path / "no" / "x.png")
    (embedding / "embedding.npz").write_bytes(b"junk")
    refused(3, "damaged", embedding, "--yaw", 3)


def test_components_are_listed(edit, embedding):
    code, out, _ = edit(embedding, "--components")
    assert code == 0 and out.split()[:2] == ["jaw_open", "smile_left"] and len(out.split()) == 64


# python -m pie_jax.packs


def test_packs_status_verify_list(pack_folder, capsys, tmp_path):
    assert packs(["status", str(pack_folder)]) == 0
    out = capsys.readouterr().out
    assert "stylegan2, 32 px" in out and "rignet_pose" in out and "missing" in out
    assert packs(["status", str(pack_folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["parts"]) == set(PARTS) and "pool" in facts["missing"] and len(facts["hash"]) == 64
    assert packs(["verify", str(pack_folder)]) == 0
    assert capsys.readouterr().out.count(" ok\n") == len(PARTS)
    assert packs(["list"]) == 0
    assert packs(["status", str(tmp_path)]) == 4
    assert packs(["verfy"]) == 2
    capsys.readouterr()


def test_packs_verify_names_the_damaged_part(pack_folder, capsys, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(pack_folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    damaged = manifest["parts"]["regressor"]
    (copy / damaged["folder"]).rename(copy / "regressor-000000000000")
    damaged |= {"sha256": "0" * 64, "folder": "regressor-000000000000"}
    del manifest["sha256"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert packs(["verify", str(copy)]) == 4
    out, err = capsys.readouterr()
    assert "1 of 6 parts" in err and "regressor" in err and err.count("\n") == 1
    assert out.count(" ok\n") == len(PARTS) - 1


def test_what_lies_beyond_the_reach_is_one_line(edit, embedding, pack_folder, tmp_path):
    from pie_jax.pack import update_configs
    from pie_jax.portrait.calibration import part_hashes

    folder = tmp_path / "calibrated"
    shutil.copytree(pack_folder, folder)
    update_configs(folder, calibration={"parts": part_hashes(load_pack(folder)), "reach": {"yaw": [-20.0, 20.0]}})
    code, out, err = edit(embedding, "--pack", folder, "--yaw", "10")
    assert code == 0 and err == ""
    code, out, err = edit(embedding, "--pack", folder, "--yaw", "30", "--sweep", "pitch=-5:5:3")
    assert code == 0 and err == "warning: yaw 30: edits of this pack were measured to arrive from -20 to 20\n"
    code, out, err = edit(embedding, "--pack", folder, "--sweep", "yaw=-40:0:5")
    assert code == 0 and err.count("\n") == 1 and "yaw -40" in err
