"""The training of mouths: open ones are found in photos and kept, it learns, resumes, and writes its part."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from pie_jax.config import MouthConfig
from pie_jax.errors import InputError, PieError
from pie_jax.io import write_npz
from pie_jax.nn.mouth import MouthCritic
from pie_jax.pack import load_pack, read_manifest, save_pack
from pie_jax.portrait import edit_photo
from pie_jax.training import mouth
from pie_jax.training.data.mouth_data import VIEWS, open_mouths

CONFIG = MouthConfig(width=32, height=16, across=18, channels=(8, 8))


def mouths(path, count=12):
    """Mouths whose insides have the colour of their lips' upper edge: something to learn."""
    rng = np.random.default_rng(0)
    colour = rng.integers(40, 220, (count, VIEWS, 1, 1, 3))
    frames = np.broadcast_to(colour, (count, VIEWS, 16, 32, 3)).astype(np.uint8)
    masks = np.zeros((count, VIEWS, 16, 32), np.uint8)
    masks[:, :, 5:11, 8:24] = 255
    write_npz(path, {"frames": frames, "masks": masks, "held_out": np.arange(count) < 2})


@pytest.fixture
def train(tmp_path, photo_pack, monkeypatch):
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)
    monkeypatch.setattr(mouth, "DEFAULTS", CONFIG)
    monkeypatch.setattr(mouth, "MouthCritic", functools.partial(MouthCritic, channels=(4, 8, 8)))
    save_pack(tmp_path / "pack", photo_pack)
    (tmp_path / "run").mkdir()
    mouths(tmp_path / "run" / "mouths.npz")

    def call(*flags):
        return mouth.main(["--photos", str(tmp_path), "--pack", str(tmp_path / "pack"), "--run", str(tmp_path / "run"),
                           "--batch", "4", "--rate", "0.01", *flags])

    return call


def test_it_learns_resumes_and_writes_the_part(train, tmp_path):
    assert train("--steps", "8", "--critic-from", "0.5") == 0
    first = read_manifest(tmp_path / "pack")["training"]["mouth"]
    assert train("--steps", "240", "--critic-from", "0.5") == 0
    record = read_manifest(tmp_path / "pack")["training"]["mouth"]
    assert record["steps"] == 240 and record["mouths"] == 12 and f"--photos {tmp_path}" in record["command"]
    assert record["held_out"]["inside_psnr_db"] > first["held_out"]["inside_psnr_db"] + 2
    pack = load_pack(tmp_path / "pack", parts=("mouth",))
    assert pack.configs.of("mouth") == CONFIG and set(pack.weights) == {"mouth"}


def test_mouths_are_found_in_photos(photo_pack, fitted, tmp_path):
    opened = edit_photo(photo_pack, fitted, expression={"jaw_open": 1.2})
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        Image.fromarray(np.round(opened * 255).astype(np.uint8)).save(folder / f"{i}.jpg")
    Image.fromarray(fitted.portrait).save(folder / "closed.jpg")
    (folder / "broken.jpg").write_bytes(b"nothing")
    data = open_mouths(photo_pack, [folder], tmp_path / "m.npz", MouthConfig())
    assert data.frames.shape == (10, VIEWS, 64, 96, 3) and data.masks.shape == data.frames.shape[:-1]
    rows, columns = np.nonzero(data.masks[0, 0] > 127)
    assert abs(columns.mean() - 48) < 4 and 20 < rows.mean() < 44 and len(rows) > 100
    again = open_mouths(photo_pack, [pathlib.Path("gone")], tmp_path / "m.npz", MouthConfig())
    np.testing.assert_array_equal(again.frames, data.frames)
    batch = data.batch(0, 3, 4)
    assert batch["frames"].shape == (4, 64, 96, 3) and jnp.asarray(batch["masks"]).dtype == jnp.uint8
    with pytest.raises(InputError, match="holds no JPEG"):
        open_mouths(photo_pack, [tmp_path / "empty"], tmp_path / "other.npz", MouthConfig())
    (tmp_path / "few").mkdir()
    Image.fromarray(fitted.portrait).save(tmp_path / "few" / "closed.jpg")
    with pytest.raises(PieError, match="only 0 open mouths"):
        open_mouths(photo_pack, [tmp_path / "few"], tmp_path / "other.npz", MouthConfig())
