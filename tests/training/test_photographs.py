"""Photographs become framed portraits: unfit ones are left with their reason, and a stopped call goes on."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from pie_jax.errors import InputError, PieError
from pie_jax.photo.align import framing
from pie_jax.photo.detect import find_faces
from pie_jax.photo.squares import SquareReader
from pie_jax.training import photographs as command
from pie_jax.training.data import photographs
from pie_jax.training.data.fitness import WORKING, Limits, measure, reason
from pie_jax.training.data.photographs import Photographs, prepare, training_paths

SIDE = 32


def measured(pack, photo):
    face = find_faces(pack, photo)[0]
    square = framing(face.landmarks)
    return measure(face, square, photo.size, SquareReader(photo).read(square, WORKING, mirror=True))


def why(pack, photo, resolution=64):
    return reason(measured(pack, photo), resolution=resolution, limits=Limits())


def sunglasses(pack, photo):
    """The photo with a dark lens over each eye."""
    made, points = photo.copy(), find_faces(pack, photo)[0].points[:, :2]
    wide = np.hypot(*(points[473] - points[468]))
    for x, y in points[[468, 473]]:
        ImageDraw.Draw(made).ellipse([x - 0.42 * wide, y - 0.3 * wide, x + 0.42 * wide, y + 0.42 * wide], (15, 15, 20))
    return made


def masked(pack, photo):
    """The photo with a blue polygon from the nose to the chin."""
    made, points = photo.copy(), find_faces(pack, photo)[0].points[:, :2]
    outline = [tuple(points[i]) for i in (123, 5, 352, 367, 377, 152, 148, 138)]
    ImageDraw.Draw(made).polygon(outline, fill=(90, 160, 220))
    return made


def test_each_measure_catches_what_it_is_there_for(photo_pack, photo):
    assert why(photo_pack, photo) == ""
    found = measured(photo_pack, photo)
    assert abs(found["yaw"]) < 15 and abs(found["pitch"]) < 15 and found["outside"] < 0.1
    assert why(photo_pack, sunglasses(photo_pack, photo)).startswith("eyes covered")
    assert why(photo_pack, masked(photo_pack, photo)).startswith("mouth covered")
    assert why(photo_pack, photo.filter(ImageFilter.GaussianBlur(photo.width / 40))).startswith("blurred")
    assert why(photo_pack, photo.point(lambda value: value // 6)).startswith("dark")
    assert why(photo_pack, photo, resolution=2048).startswith("too small")
    face = find_faces(photo_pack, photo)[0].box
    assert why(photo_pack, photo.crop(tuple(round(v) for v in face))).startswith("cut off")
    mirrored = measured(photo_pack, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert mirrored["yaw"] == pytest.approx(-found["yaw"], abs=3.0)
    turned = reason(found | {"yaw": -50.0}, resolution=64, limits=Limits())
    assert turned == "turned: yaw -50"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(photographs, "FEWEST", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    """Six people as far as their pixels tell, a twin, and what cannot be used."""
    made, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    small = photo.resize((256, 256))
    for i in range(6):
        noise = np.kron(rng.uniform(-160, 160, (8, 8, 3)), np.ones((32, 32, 1)))
        noise[64:224, 72:184] = 0  # the face
        Image.fromarray(np.clip(np.asarray(small) + noise, 0, 255).astype(np.uint8)).save(made / f"{i:02d}.png")
    twin = Image.open(made / "00.png")
    twin.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(made / "90.jpg", quality=95)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(made / "91.png")
    (made / "92.jpg").write_bytes(b"no picture")
    return made


def test_a_folder_is_framed_sorted_and_split(photo_pack, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)
    flags = ["--photos", str(folder), "-o", str(out), "--resolution", str(SIDE), "--held-out", "2", "--debug"]
    assert command.main(flags) == 0
    rows = {row["name"]: row for row in map(json.loads, (out / "table.jsonl").read_text().splitlines())}
    assert len(rows) == 9 and "6 of 9 kept, 2 held out" in capsys.readouterr().err
    assert rows["90.jpg"]["reason"] == "like 00.png" and rows["91.png"]["reason"] == "no face"
    assert rows["92.jpg"]["reason"].startswith("unreadable")
    data = Photographs.open(out, resolution=SIDE)
    assert data.images.shape == (6, SIDE, SIDE, 3) and data.held_out.sum() == 2 and len(data.training) == 4
    assert len(training_paths(out)) == 4 and all(path.is_file() for path in training_paths(out))
    first = sorted((row["hash"], row["name"]) for row in rows.values() if not row["reason"])[:2]
    assert {name for name, held in zip(data.names, data.held_out) if held} == {name for _, name in first}
    for sheet in ("kept.png", "left.png"):
        with Image.open(out / sheet) as image:
            assert image.width > 64

    monkeypatch.setattr(photographs, "find_faces", lambda *a: pytest.fail("a picture that is known was read again"))
    assert command.main(flags) == 0
    assert Photographs.open(out, resolution=SIDE // 2).images.shape[1] == SIDE // 2
    assert Photographs.open(out, resolution=SIDE).sha256 == data.sha256
    with pytest.raises(InputError, match="portraits have 32 px, 64 are needed"):
        Photographs.open(out, resolution=64)
    assert command.main([*flags[:5], "64"]) == PieError.exit_code  # another resolution in the same folder
    assert command.main([*flags[:4], "--resolution", "8"]) == 2


def test_a_stopped_call_goes_on(photo_pack, folder, tmp_path, monkeypatch):
    calls, original = [], photographs.find_faces

    def find(pack, photo):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(photo)
        return original(pack, photo)

    monkeypatch.setattr(photographs, "find_faces", find)
    with pytest.raises(KeyboardInterrupt):
        prepare(photo_pack, [folder], tmp_path, resolution=SIDE, held_out=2)
    assert len(list((tmp_path / "pictures").glob("*.json"))) == 5 and not list(tmp_path.rglob("*.part"))
    calls.clear()
    monkeypatch.setattr(photographs, "find_faces", lambda pack, photo: calls.append(photo) or original(pack, photo))
    prepare(photo_pack, [folder], tmp_path, resolution=SIDE, held_out=2)
    assert len(calls) == 8 - 5
    with pytest.raises(PieError, match="only 6 of 9 pictures are fit, 33 are the least"):
        prepare(photo_pack, [folder], tmp_path, resolution=SIDE, held_out=30)


def test_folders_that_hold_too_little_are_named(photo_pack, folder, tmp_path):
    with pytest.raises(InputError, match="holds no JPEG"):
        prepare(photo_pack, [tmp_path], tmp_path / "out", resolution=SIDE, held_out=2)
    with pytest.raises(InputError, match="holds no framed photographs"):
        Photographs.open(tmp_path, resolution=SIDE)
