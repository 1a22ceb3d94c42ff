"""`pie embed` on photographs: the face is found, framed and fitted, and what has none is refused."""

import json
import pathlib

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax import Embedding
from pie_jax.config import EnergyConfig
from pie_jax.embed import main
from pie_jax.pack import find_pack, load_pack, save_pack, update_part

QUICK = ("--steps", "2,1", "--batch", "1")


@pytest.fixture(scope="module")
def photo(photo):
    """The sample photo, so small that every portrait in this module has the least size: one program serves all."""
    return photo.resize((256, 256))


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory):
    """A toy generator with the shipped pack's face model and its networks that find faces."""
    folder = tmp_path_factory.mktemp("pack") / "toy"
    save_pack(folder, toy.toy_pack(jax.random.key(0), parts=("generator",), configs=toy.SMALLEST, energy=EnergyConfig(
        terms=("synthesis",), render_resolution=16)))
    demo = load_pack("demo", parts=("face_detector", "face_mesh", "person_matte", "morphable"))
    for part in ("face_detector", "face_mesh", "person_matte"):
        update_part(folder, part, demo.weights[part], config=demo.configs.of(part))
    update_part(folder, "morphable", demo.morphable)
    return folder


@pytest.fixture
def embed(pack_folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        code = main([str(a) for a in (*argv, *QUICK, "-o", "out", "--pack", pack_folder)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_a_photo_on_its_side_is_found_and_one_without_a_face_does_not_stop_it(embed, photo, monkeypatch):
    begun = []
    monkeypatch.setattr("pie_jax.embed.work.is_known", lambda what: False)  # whatever the user's cache holds
    monkeypatch.setattr("pie_jax.embed.work.make_photo_edits_early", lambda pack, size: begun.append(size))
    photo.transpose(Image.Transpose.ROTATE_90).save("side.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 240, 3)).astype(np.uint8)).save("noise.png")
    code, out, err = embed("noise.png", "side.png", "--devices", "1")
    assert code == 1 and "noise.png: no face found" in err and "out/side" in out
    embedding = Embedding.load("out/side")
    assert begun == [256]  # what its edits take, once
    assert embedding.photo is not None and abs(abs(np.degrees(embedding.photo.square.angle)) - 90) < 5
    assert abs(np.degrees(embedding.photo.params.rotation[2])) < 10  # upright in its portrait
    report = json.loads(pathlib.Path("out/side/report.json").read_text())
    assert report["photo"]["landmarks_by"] == "face_mesh"
    assert report["photo"]["fit_px224"] < 3 and pathlib.Path("out/side", report["photo"]["file"]).is_file()
    assert embed("side.png")[2].count("already done") == 1


def test_no_face_alone_is_exit_code_5(embed):
    Image.new("RGB", (200, 240), (200, 180, 160)).save("wall.png")
    code, out, err = embed("wall.png")
    assert code == 5 and out == "" and "wall.png: no face found" in err
    assert not pathlib.Path("out/wall").exists()  # another wall.png, with a face, can have that name


def test_the_middle_as_it_is(embed, photo):
    wide = Image.new("RGB", (photo.width + 200, photo.height), (120, 120, 120))
    wide.paste(photo, (100, 0))
    wide.save("wide.png")
    assert embed("wide.png", "--no-align")[0] == 0
    square = Embedding.load("out/wide").photo.square
    assert (square.x, square.y, square.side) == (wide.width / 2, wide.height / 2, wide.height)
    code, _, err = embed("wide.png", "--face", "2")
    assert code == 2 and "wide.png shows 1 face" in err


def test_the_sample_photo(embed, pack_folder, photo):
    photo.save(pack_folder / "photo.png")
    assert embed("--demo", "photo")[0] == 0 and Embedding.load("out/photo").photo is not None
    assert find_pack("demo").joinpath("photo.png").is_file()


def test_every_face_gets_a_folder_of_its_own(embed, photo):
    both = Image.new("RGB", (450, 256))
    both.paste(photo, (0, 0))
    both.paste(photo.resize((150, 150)), (280, 50))
    both.save("two.png")
    Image.new("RGB", (200, 240), (200, 180, 160)).save("wall.png")
    code, out, err = embed("two.png", "wall.png", "--face", "all")
    assert code == 1 and "wall.png: no face found" in err
    squares = [Embedding.load(f"out/{name}").photo.square for name in ("two", "two-2")]
    assert squares[0].x < 225 < 275 < squares[1].x
    assert embed("two.png", "--face", "all")[2].count("already done") == 2


def test_points_of_the_users_own(embed, photo):
    photo.save("me.png")
    photo.save("other.png")
    assert embed("me.png")[0] == 0
    before = Embedding.load("out/me").photo
    points = before.square.to_photo(before.landmarks) + [6.0, 0.0]
    pathlib.Path("points.json").write_text(json.dumps({"me.png": points.tolist()}))
    assert embed("me.png", "other.png", "--landmarks", "points.json")[0] == 0
    moved, other = (Embedding.load(f"out/{name}").photo for name in ("me", "other"))
    assert (moved.landmarks_by, other.landmarks_by) == ("user", "face_mesh")
    assert moved.square.x == pytest.approx(before.square.x + 6, abs=0.01) and other.square == before.square
    code, _, err = embed("me.png", "--landmarks", "gone.json")
    assert code == 3 and "gone.json: cannot be read" in err
