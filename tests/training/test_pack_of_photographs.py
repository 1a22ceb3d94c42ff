"""A pack of a folder of photographs: its stages are commands with their flags, run once, and what is known is taken."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pie_jax.cli.command import Parser
from pie_jax.errors import UsageError
from pie_jax.io import read_json
from pie_jax.pack import load_pack, read_manifest, update_part
from pie_jax.training import pack as command
from pie_jax.training import photograph_page
from pie_jax.training.core import stages as core

ARGUMENTS = {"photos": ["a", "b"], "resolution": 64, "out": "p", "runs": "r", "start": "demo", "scale": 1.0, "seed": 0,
             "held_out": 40, "hours": None}


class Parsed(BaseException):
    pass


@pytest.mark.parametrize("number", range(12))
def test_every_stage_is_a_command_that_takes_its_flags(number, monkeypatch):
    todo = command.stages(SimpleNamespace(**ARGUMENTS), ["--stage-sizes", "2,2,2,2", "--width", "24"])
    assert len(todo) == 12
    original = Parser.parse_args

    def parse(self, args=None, namespace=None):
        raise Parsed(original(self, args, namespace))

    monkeypatch.setattr(Parser, "parse_args", parse)
    name, module, flags = todo[number]
    with pytest.raises(Parsed):
        importlib.import_module(f"pie_jax.{module}").main([*flags, "--debug"])


def test_hours_and_scale_set_the_budgets():
    def minutes(**changes):
        todo = command.stages(SimpleNamespace(**(ARGUMENTS | changes)), [])
        flags = next(flags for name, _, flags in todo if name == "adversarial")
        return float(flags[flags.index("--minutes") + 1])

    assert minutes() == 480 and minutes(resolution=128) == 1440
    assert minutes(hours=2.0) == 120 and minutes(hours=2.0, scale=0.5) == 60


def test_known_parts_are_taken_once(tmp_path):
    command.begin(str(tmp_path / "pack"), "demo")
    manifest = read_manifest(tmp_path / "pack")
    assert set(manifest["parts"]) == set(command.TAKEN)
    demo, made = load_pack("demo", parts=("perceptual",)), load_pack(tmp_path / "pack")
    np.testing.assert_array_equal(made.weights["perceptual"]["conv1_1"]["kernel"],
                                  demo.weights["perceptual"]["conv1_1"]["kernel"])
    assert made.configs.camera == demo.configs.camera and made.morphable is not None
    changed = {**made.weights["mouth"]}
    name = next(iter(changed))
    changed[name] = {key: value + 1.0 for key, value in changed[name].items()}
    update_part(tmp_path / "pack", "mouth", changed, config=made.configs.of("mouth"))
    sha = read_manifest(tmp_path / "pack")["parts"]["mouth"]["sha256"]
    command.begin(str(tmp_path / "pack"), "demo")
    assert read_manifest(tmp_path / "pack")["parts"]["mouth"]["sha256"] == sha


def test_finished_stages_are_skipped_and_a_failed_one_is_tried_again(tmp_path, monkeypatch, capsys):
    ran, codes = [], {"two": 7}
    fake = SimpleNamespace(main=lambda flags: ran.append(flags[0]) or codes.get(flags[0], 0))
    monkeypatch.setattr(core.importlib, "import_module", lambda name: fake)
    todo = [(name, "training.x", [name]) for name in ("one", "two", "three")]
    assert core.run_stages("pack", tmp_path, todo) == 7 and ran == ["one", "two"]
    assert "pack: two (2 of 3)" in capsys.readouterr().err
    codes.clear()
    assert core.run_stages("pack", tmp_path, todo) == 0 and ran == ["one", "two", "two", "three"]
    assert core.run_stages("pack", tmp_path, todo, only=["one"]) == 0 and ran[-1] == "one"
    with pytest.raises(UsageError, match="did you mean three"):
        core.check_only(["thre"], todo)


def test_the_page_shows_samples_and_figures(tmp_path):
    photos, rng = tmp_path / "framed", np.random.default_rng(0)
    (photos / "pictures").mkdir(parents=True)
    kept = [{"name": f"{i}.jpg", "folder": "f", "hash": f"h{i}", "held_out": i < 3} for i in range(9)]
    for each in kept:
        Image.fromarray(rng.integers(0, 255, (128, 128, 3)).astype(np.uint8)).save(
            photos / "pictures" / f"{each['hash']}.png")
    from pie_jax.io import write_json

    write_json(photos / "photographs.json", {"resolution": 128, "format": "png", "kept": kept})
    figures = photograph_page.write_page(tmp_path / "page", "demo", photos, judges="demo", count=16)
    assert figures["training_pictures"] == 6 and figures["held_out_pictures"] == 3 and figures["samples"] == 16
    assert figures["distance_perceptual"] > figures["held_out_distance_perceptual"] > 0
    assert read_json(tmp_path / "page" / "figures.json") == figures
    page = (tmp_path / "page" / "page.html").read_text()
    assert "not Inception" in page and all(name in page for name in ("samples.png", "nearest.png", "heldout.png"))
    with Image.open(tmp_path / "page" / "samples.png") as sheet:
        assert sheet.size == (8 * 128, 2 * 128)
