"""`pie edit` on an embedded photograph: its own pixels moved, in the portrait and in the whole photo."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from profiles import wide_profile

from pie_jax import Embedding
from pie_jax.config import EmbedConfig
from pie_jax.edit import main
from pie_jax.errors import InputError
from pie_jax.pack import find_pack, read_manifest
from pie_jax.pack.types import pack_hash


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo, fitted):
    """OUT/face as embed leaves it, with a code of zeros: the generator's part is not looked at here."""
    out = tmp_path_factory.mktemp("out") / "face"
    out.mkdir()
    demo = pathlib.Path(find_pack("demo"))
    manifest = read_manifest(demo)
    generator = manifest["configs"]["generator"]
    layers = 2 * int(np.log2(generator["resolution"])) - 2
    Embedding(w_plus=np.zeros((layers, generator["w_dim"]), np.float32), params=fitted.params, portrait_params=None,
              landmarks=None, portrait_landmarks=None, trace={}, config=EmbedConfig(), pack_name="demo",
              pack_hash=pack_hash(manifest), report={"metrics": {"psnr_db": 18.0}}, photo=fitted,
              ).save(out / "embedding.npz")
    photo.save(out / "photo.png")
    (out / "report.json").write_text(json.dumps({"photo": {"file": "photo.png"}, "pack": {"folder": str(demo)}}))
    return out


def test_a_photograph_is_edited_as_one(folder, photo, fitted, capsys):
    assert main([str(folder), "--yaw", "12", "-o", str(folder / "turned.png"), "--json", "--explain"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["full"].endswith("turned_full.png") and found["sources"]["photo"] > 0.7
    assert found["sources"]["photo"] + found["sources"]["fill"] == pytest.approx(1, abs=1e-3)
    with Image.open(folder / "turned_full.png") as full, Image.open(folder / "turned.png") as portrait:
        assert full.size == photo.size and portrait.size == (fitted.portrait.shape[0],) * 2
        difference = np.abs(np.asarray(full).astype(int) - np.asarray(photo)).max(axis=-1)
    assert difference.max() > 50 and (difference == 0).mean() > 0.2
    assert (folder / "turned_explained.png").is_file()


def test_the_whole_photo_keeps_its_colour_profile_and_its_pixels(folder, photo, tmp_path, capsys, monkeypatch):
    shutil.copytree(folder, tmp_path / "face")
    profile = wide_profile()
    photo.save(tmp_path / "face" / "photo.png", icc_profile=profile)  # the same values are other colours then
    assert main([str(tmp_path / "face"), "--yaw", "12", "-o", str(tmp_path / "a.png")]) == 0
    with Image.open(tmp_path / "a_full.png") as full:
        assert full.info["icc_profile"] == profile
        difference = np.abs(np.asarray(full).astype(int) - np.asarray(photo)).max(axis=-1)
    assert difference.max() > 50 and (difference == 0).mean() > 0.2
    capsys.readouterr()
    monkeypatch.setattr("pie_jax.edit.photo.to_profile", refuse)  # a profile that only says what is shown
    assert main([str(tmp_path / "face"), "--yaw", "12", "-o", str(tmp_path / "b.png")]) == 0
    assert "only one way: the whole photo is written in sRGB" in capsys.readouterr().err
    with Image.open(tmp_path / "b_full.png") as full:
        assert full.size == photo.size and "icc_profile" not in full.info


def refuse(image, profile):
    raise InputError("the profile goes only one way")


def test_jpeg_without_the_whole_photo(folder, capsys):
    assert main([str(folder), "--light", "60,20,1.2", "-o", str(folder / "lit.jpg"), "--no-full"]) == 0
    with Image.open(folder / "lit.jpg") as image:
        assert image.format == "JPEG" and b"pie_jax" in image.info["comment"]
    assert not (folder / "lit_full.jpg").exists()


def test_without_the_file_of_the_photo_the_portrait_is_left(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "face")
    (tmp_path / "face" / "photo.png").unlink()
    assert main([str(tmp_path / "face"), "--expression", "smile=1", "-o", str(tmp_path / "a.png")]) == 0
    assert "the photo is not beside" in capsys.readouterr().err
    assert (tmp_path / "a.png").is_file() and not (tmp_path / "a_full.png").exists()


def test_the_generator_alone_where_it_is_asked_for(folder, capsys):
    assert main([str(folder), "--yaw", "12", "--detail", "0", "-o", str(folder / "generated.png")]) == 0
    with Image.open(folder / "generated.png") as image:
        assert image.size == (128, 128)
    assert main([str(folder), "--yaw", "12", "--detail", "1.5"]) == 2
    assert "--detail: expected 0 to 1" in capsys.readouterr().err


def test_a_report_cannot_name_a_file_elsewhere(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "face")
    shutil.move(tmp_path / "face" / "photo.png", tmp_path / "photo.png")
    (tmp_path / "face" / "report.json").write_text(json.dumps({"photo": {"file": "../photo.png"}}))
    assert main([str(tmp_path / "face"), "--yaw", "5", "-o", str(tmp_path / "b.png")]) == 0
    assert not (tmp_path / "b_full.png").exists()


def test_the_pose_of_another_photo(folder, photo, fitted, tmp_path, capsys):
    photo.rotate(12, resample=Image.Resampling.BICUBIC, fillcolor=(120, 120, 120)).save(tmp_path / "other.png")
    assert main([str(folder), "--like", str(tmp_path / "other.png"), "--control", "pose", "-o", str(tmp_path / "c.png"),
                 "--no-full"]) == 0
    with Image.open(tmp_path / "c.png") as image:  # framed upright, so its pose is about the photo's own
        assert np.abs(np.asarray(image).astype(int) - fitted.portrait).mean() < 12


def test_a_turn_farther_than_the_photo_shows_is_told(folder, fitted, capsys):
    own = float(np.degrees(fitted.params.rotation[1]))
    assert main([str(folder), "--yaw", f"{own + 25:.2f}", "--no-full", "-o", str(folder / "far.png")]) == 0
    assert "warning: yaw: the photo's face turns by +25 degrees; beyond 20," in capsys.readouterr().err
    assert main([str(folder), "--yaw", f"{own + 15:.2f}", "--no-full", "-o", str(folder / "near.png")]) == 0
    assert "warning" not in capsys.readouterr().err
