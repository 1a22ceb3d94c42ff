"""The generator's two stages at toy sizes, on pairs and photos of noise: each runs and writes its part."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from pie_jax.errors import UsageError
from pie_jax.io import write_npz
from pie_jax.pack import load_pack, read_manifest
from pie_jax.training import adversarial, generator, supervised
from pie_jax.training.data.family_data import RESPONSE_FACTORS, RESPONSE_SCENES
from pie_jax.training.losses.response import response

SIDE = 8
SIZES = ["--resolution", str(SIDE), "--channel-base", "64", "--channel-max", "8", "--channel-min", "4"]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A folder of eight pairs with the right files."""
    folder, rng = tmp_path_factory.mktemp("family"), np.random.default_rng(0)

    def images(*leading):
        return rng.integers(0, 256, (*leading, SIDE, SIDE, 3)).astype(np.uint8)

    np.save(folder / "z.npy", rng.standard_normal((16, 512)).astype(np.float32))
    np.save(folder / "images.npy", images(16))
    np.save(folder / "landmarks.npy", rng.uniform(0.3, 0.7, (16, 66, 2)).astype(np.float32))
    (folder / "count.json").write_text(json.dumps({"pairs": 8}))
    ends = len(RESPONSE_FACTORS), 2, RESPONSE_SCENES
    write_npz(folder / "response.npz", {
        "z": rng.standard_normal((RESPONSE_SCENES, 512)).astype(np.float32), "images": images(RESPONSE_SCENES),
        "landmarks": rng.uniform(0.3, 0.7, (RESPONSE_SCENES, 66, 2)).astype(np.float32),
        "moved_z": rng.standard_normal((*ends, 512)).astype(np.float32), "moved_images": images(*ends)})
    return folder


def flags(folder, *more):
    return ["--pack", str(folder / "pack"), "--run", str(folder / "run"), "--steps", "2", "--batch", "4", "--debug",
            *SIZES, *more]


def test_supervised_then_adversarial(family, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised, "fit_mapping", functools.partial(supervised.fit_mapping, count=1000))
    assert generator.main(flags(tmp_path, "--data", str(family))) == 0
    first = load_pack(tmp_path / "pack").weights["generator"]
    record = read_manifest(tmp_path / "pack")["training"]["generator"]
    assert record["steps"] == 2 and record["pairs"] == 8 and record["images_seen"] == 8
    assert {f"{name}_gain" for name in RESPONSE_FACTORS} <= set(record["held_out"])
    with Image.open(tmp_path / "run" / "held_out.png") as sheet:
        assert sheet.size == (8 * SIDE, 2 * RESPONSE_SCENES // 8 * SIDE)

    more = ["--stage", "adversarial", "--data", str(family), "--run", str(tmp_path / "second")]
    assert generator.main(flags(tmp_path, *more)) == 0
    record = read_manifest(tmp_path / "pack")["training"]["generator"]
    assert record["start"].startswith("from the pack's generator") and {"critic", "r1"} <= set(record["terms"])
    second = load_pack(tmp_path / "pack").weights["generator"]
    before, after = (each["synthesis"]["b8"]["conv1"]["weight"] for each in (first, second))
    assert not np.array_equal(before, after)


def test_adversarial_from_photos_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("pie_jax.training.photograph_report.COUNTED", 16)
    photos, rng = tmp_path / "photos", np.random.default_rng(1)
    photos.mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(photos / f"{i}.png")
    more = ["--stage", "adversarial", "--photos", str(photos), "--warm-up", "2", "--steps", "1"]
    assert generator.main(flags(tmp_path, *more)) == 0
    assert load_pack(tmp_path / "pack").configs.generator.mapping_layers == 8  # an ordinary mapping network
    images, held_out, _ = adversarial.open_photos(photos, resolution=SIDE)
    assert images.shape == (3, SIDE, SIDE, 3) and len(held_out) == 0
    batch = adversarial.photo_source(images, batch=5, seed=0)(3)
    assert batch["image"].shape == (5, SIDE, SIDE, 3) and adversarial.mirror_real(batch)


def test_folders_without_data_are_named(tmp_path):
    for more in ([], ["--stage", "adversarial"]):
        assert generator.main([f for f in flags(tmp_path, "--data", str(tmp_path / "none"), *more)
                               if f != "--debug"]) == UsageError.exit_code


def test_response_of_the_truth_itself_is_perfect():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    moved = rng.integers(0, 256, (1, 2, 4, 8, 8, 3)).astype(np.uint8)
    z, moved_z = rng.standard_normal((4, 2)), rng.standard_normal((1, 2, 4, 2))
    pictures = [(z, images), *((moved_z[0, end], moved[0, end]) for end in (0, 1))]

    def synthesise(asked):
        return next(image for code, image in pictures if np.array_equal(code, asked)).astype(np.float32) / 255

    data = {"z": z, "images": images, "moved_z": moved_z, "moved_images": moved,
            "landmarks": np.full((4, 66, 2), 0.5, np.float32)}
    found = response(synthesise, data, ("yaw",))
    assert found["psnr_db"] > 90 and found["yaw_gain"] == pytest.approx(1) and found["yaw_cosine"] == pytest.approx(1)
