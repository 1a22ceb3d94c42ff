"""Values that are not finite, pictures of one colour, weights without bound: named and reported, or harmless."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from benchmarks.reliability import faults, numbers
from benchmarks.reliability.processes import quick
from benchmarks.reliability.world import EMBED, small_pack
from pie_jax.config import EmbedConfig
from pie_jax.errors import NoFaceError, NumericsError
from pie_jax.io import save_png
from pie_jax.pack import load_pack, update_part
from pie_jax.photo.fitted import frame_photo
from pie_jax.portrait import edit_portrait, embed_portraits

PHOTOS = {"black": np.zeros((64, 64, 3)), "white": np.ones((64, 64, 3)),
          "checkerboard": np.repeat(np.indices((64, 64)).sum(0)[..., None] % 2, 3, axis=2).astype(float),
          "grey": np.full((64, 64, 3), 0.5)}


@pytest.fixture(scope="module")
def pack():
    return small_pack()


@pytest.mark.parametrize("value", numbers.VALUES)
def test_a_bad_weight_is_named_and_the_start_is_kept(pack, value):
    config = EmbedConfig(energy=pack.configs.energy, stages=numbers.STAGES)
    portrait = np.full((1, 32, 32, 3), 0.5, np.float32)
    still = dataclasses.replace(config, stages=tuple(dataclasses.replace(s, steps=0) for s in numbers.STAGES))
    start = embed_portraits(pack, portrait, config=still)[0].w_plus
    found = {what: numbers.verdict(embed_portraits(changed, portrait, config=config)[0], start)
             for what, changed in numbers.poisoned(pack, value) if what in ("generator", "rignet_pose")}
    assert found == {"generator": "named", "rignet_pose": "no effect"}  # the one term reads no rig


def test_a_rig_that_is_not_finite_shows_no_picture(pack):
    config = EmbedConfig(energy=pack.configs.energy, stages=numbers.STAGES)
    embedding = embed_portraits(pack, np.full((1, 32, 32, 3), 0.5, np.float32), config=config)[0]
    changed = dict(numbers.poisoned(pack, float("nan")))["rignet_pose"]
    with pytest.raises(NumericsError, match="not finite"):
        edit_portrait(changed, embedding, yaw=5.0, detail=0.0)


def test_every_part_that_is_not_finite_is_named_when_it_is_read(pack, world, tmp_path):
    folder = world.copy(tmp_path / "work") / "pack"
    for name, weights in pack.weights.items():
        changed = dict(numbers.poisoned(pack, float("inf")))[name].weights[name]
        update_part(folder, name, changed, storage="float32")
        with pytest.raises(NumericsError, match=f"{name}/.* holds NaN or infinity"):
            load_pack(folder, parts=(name,))
        update_part(folder, name, weights)


def test_pictures_of_one_colour_and_weights_without_bound(world, tmp_path):
    folder = world.copy(tmp_path / "work")
    for name, picture in PHOTOS.items():
        save_png(folder / f"{name}.png", picture)
    command = dataclasses.replace(quick(EMBED), argv=(*(f"{name}.png" for name in PHOTOS), *quick(EMBED).argv[2:]))
    code, said = faults.run(command, folder)
    assert code == 0 and not [line for line in said if line.startswith(("error", "warning"))]
    for name in PHOTOS:
        report = json.loads((folder / "out" / name / "report.json").read_text())
        assert report["outcome"] == "finished" and report["match"] is None  # a toy has no people of its own
    one = dataclasses.replace(command, argv=("a.png", *quick(EMBED).argv[2:]))
    assert faults.run(one, folder, more=("--weight", "l2=0"))[0] == 0
    code, said = faults.run(one, folder, more=("--weight", "l2=1e38"))
    assert code == 2 and said == ["error: --weight l2: expected a finite number, got '1e38'"]


def test_a_generator_without_bound_is_exit_code_6(pack, world, tmp_path):
    folder = world.copy(tmp_path / "work")
    huge = jax.tree.map(lambda a: a * np.float32(1e25), pack.weights["generator"])
    update_part(folder / "pack", "generator", huge, storage="float32")
    code, said = faults.run(dataclasses.replace(quick(EMBED), argv=("a.png", *quick(EMBED).argv[2:])), folder)
    line = next(text for text in said if text.startswith("error"))
    report = json.loads((folder / "out/a/report.json").read_text())
    assert code == 6 and "synthesis was not finite" in line and "lower its --weight" in line
    assert report["outcome"] == "non-finite" and {i["term"] for i in report["incidents"]} == {"synthesis"}
    assert np.isfinite(np.load(folder / "out/a/embedding.npz")["w_plus"]).all()


@pytest.mark.parametrize("name", sorted(PHOTOS))
def test_a_picture_without_a_face_is_not_embedded(photo_pack, name):
    from pie_jax.cli.figures import to_pillow

    with pytest.raises(NoFaceError, match="no face found"):
        frame_photo(photo_pack, to_pillow(PHOTOS[name]).resize((512, 512), 0))


@pytest.mark.parametrize("place", [(0, 0), (416, 416)])
def test_a_small_face_in_a_corner_is_found_where_it_is_or_not_at_all(photo_pack, photo, place):
    from PIL import Image

    picture = Image.new("RGB", (512, 512), (128, 128, 128))
    picture.paste(photo.resize((96, 96), Image.Resampling.LANCZOS), place)
    try:
        square, _ = frame_photo(photo_pack, picture)
    except NoFaceError as error:
        assert error.exit_code == 5
        return
    assert place[0] <= square.x <= place[0] + 96 and place[1] <= square.y <= place[1] + 96 and square.side < 192
