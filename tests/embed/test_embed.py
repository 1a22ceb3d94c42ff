"""The embed command on a toy pack: arguments, folders, bad photos, resuming, interruption, exit codes."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from pie_jax import Embedding, runtime
from pie_jax.bounds import bounds_from
from pie_jax.config import ENCODED, PRESETS, EnergyConfig
from pie_jax.embed import main
from pie_jax.embed.arguments import embed_config, parse
from pie_jax.errors import UsageError
from pie_jax.io import save_png
from pie_jax.pack import save_pack

PARTS = ("generator", "regressor", "morphable", "rignet_pose", "rignet_expression", "rignet_illumination")
FILES = {"embedding.npz", "synthesis.png", "grid.png", "energy.png", "report.json"}


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack") / "toy"
    pack = toy.toy_pack(jax.random.key(0), parts=PARTS, energy=EnergyConfig(terms=("synthesis",), render_resolution=16))
    save_pack(folder, pack)
    for name, image in zip("abc", np.asarray(toy.portraits(jax.random.key(1), 3, pack=pack))):
        picture = Image.fromarray(np.round(image * 255).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(folder / f"{name}.png")
    picture.save(folder / "sample.png")
    return folder


@pytest.fixture
def embed(pack_folder, monkeypatch, capsys, tmp_path):
    """Run the command in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)  # the settings of the tests stay
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        code = main([str(a) for a in (*argv, "--pack", pack_folder)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


QUICK = ("--steps", "6,4")


# Arguments


def test_help_and_misspelt_options_answer_at_once():
    for argv, code, words in ((["--help"], 0, "--steps"), (["--version"], 0, "pie_jax"),
                              (["x.png", "--stpes", "1,2"], 2, "did you mean --steps")):
        began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run([sys.executable, "-X", "importtime", "-m", "pie_jax.embed", *argv], text=True,
                              capture_output=True, cwd=pathlib.Path(__file__).parents[2])
        assert done.returncode == code and words in done.stdout + done.stderr
        assert " jax\n" not in done.stderr and "numpy\n" not in done.stderr  # what makes an import slow
        # processor time, because the machine may be busy; 0.1 s on a quiet one
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began < 0.3


@pytest.mark.parametrize("argv,words", [
    ([], "no photo"), (["x", "--control", "poze"], "pose"), (["x", "--terms", "edit,synthetic"], "synthesis"),
    (["x", "--weight", "l3=1"], "l2"), (["x", "--weight", "synthesis=1"], "perceptual"),
    (["x", "--weight", "l2"], "NAME"), (["x", "--weight", "l2=-1"], "0 or more"),
    (["x", "--weight", "l2=nan"], "finite"), (["x", "--steps", "5,5,5"], "W,WPLUS"),
    (["x", "--steps=-1,2"], "0 or more"), (["x", "--batch", "0"], "--batch"),
    (["x", "--micro-batch", "0"], "--micro-batch"), (["x", "--samples", "0"], "--samples"),
    (["x", "--seed=-1"], "--seed"), (["x", "--preset", "papre"], "paper"), (["x", "--precision", "half"], "float32"),
    (["x", "--device", "gqu"], "gpu"), (["x", "--bogus"], "--bogus"), (["x", "--control", ","], "--control"),
])
def test_usage_errors_are_one_line(argv, words, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and words in err


def test_the_config_follows_the_arguments():
    defaults = EnergyConfig(weight_l2=3.0, render_resolution=16)
    config = embed_config(parse(["x"]), defaults)
    assert config.energy == defaults and config.stages == PRESETS["fast"]
    stages = embed_config(parse(["x", "--preset", "paper"]), defaults).stages
    assert [(s.space, s.steps, s.optimiser) for s in stages] == [("w", 2000, "adadelta"), ("w_plus", 1000, "adadelta")]
    argv = ["x", "--control", "pose,illumination", "--terms", "synthesis", "--terms", "edit", "--weight", "edit=0.5",
            "--steps", "7,0", "--samples", "4", "--seed", "5", "--precision", "bfloat16"]
    config = embed_config(parse(argv), defaults)
    assert config.energy.controls == ("pose", "illumination") and config.energy.terms == ("synthesis", "edit")
    assert config.energy.weight_edit == 0.5 and config.energy.weight_l2 == 3.0 and config.energy.samples == 4
    assert [s.steps for s in config.stages] == [7, 0] and (config.seed, config.precision) == (5, "bfloat16")
    with pytest.raises(UsageError):
        parse(["x", "--weight", "edit=x"])


def test_a_pack_with_an_encoder_has_a_shorter_search_and_steps_tell_which_one_is_meant():
    def stages_of(*argv, encoder):
        return embed_config(parse(["x", *argv]), EnergyConfig(), encoder=encoder).stages

    assert stages_of(encoder=True) == ENCODED["fast"]
    assert stages_of("--preset", "search", encoder=True) == stages_of(encoder=False) == PRESETS["fast"]
    for encoder in (False, True):
        (one,), two = stages_of("--steps", "9", encoder=encoder), stages_of("--steps", "7,5", encoder=encoder)
        assert one.encoded and one.steps == 9 and [stage.steps for stage in two] == [7, 5]
    assert stages_of("--preset", "paper", encoder=True) == PRESETS["paper"]
    with pytest.raises(UsageError, match="2 whole numbers W,WPLUS or a whole number WPLUS, got '1,2,3'"):
        parse(["x", "--steps", "1,2,3"])


# Runs


def test_demo_writes_all_files_and_a_rerun_skips(embed, pack_folder):
    code, out, err = embed("--demo", "-o", "out", *QUICK)
    assert code == 0 and "sample" in out and "dB" in out
    assert "compiling" in err and "step 10/10" in err and "ETA" not in err.splitlines()[-1]
    folder = pathlib.Path("out/sample")
    assert {p.name for p in folder.iterdir()} == FILES
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "finished" and report["pack"]["name"] == "toy" and report["version"]
    assert set(report["seconds"]) == {"load", "compile", "optimise", "edit"} and report["steps_per_second"] > 0
    threads, bounds = report["bounds"].pop("threads"), bounds_from(report["bounds"])
    assert threads == runtime.threads() and bounds == runtime.backend().bounds
    assert report["config"]["energy"]["terms"] == ["synthesis"] and set(report["terms"]) == {"energy", "synthesis"}
    assert Embedding.load(folder).trace["energy"].shape == (10,)
    with Image.open(folder / "grid.png") as grid:
        assert grid.width > 5 * 224 and "pie_jax" in grid.info
    times = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    code, out, err = embed("--demo", "-o", "out", *QUICK)
    assert code == 0 and "already done" in err and {p: p.stat().st_mtime_ns for p in folder.iterdir()} == times
    code, out, err = embed("--demo", "-o", "out", "--steps", "6,6")
    assert code == 0 and "have changed" in err
    assert Embedding.load(folder).trace["energy"].shape == (12,)
    code, out, err = embed("--demo", "-o", "out", "--steps", "6,6", "--restart", "--json")
    result = json.loads(out)
    assert code == 0 and "compiling" in err and result["results"][0]["psnr_db"] > 0 and result["failed"] == []


@pytest.mark.parametrize("psnr, verdict", [(31.0, "good"), (26.0, "fair"), (19.2, "poor")])
def test_the_report_says_how_well_the_pack_fits_the_photo(psnr, verdict):
    from pie_jax.embed.results import match

    manifest = {"training": {"generator": {"held_out": {"psnr_db": 32.4}}}}
    assert match(manifest, {"psnr_db": psnr}) == {"psnr_db": psnr, "own_psnr_db": 32.4, "verdict": verdict}
    assert match({}, {"psnr_db": psnr}) is None and match(manifest, {"psnr_db": None}) is None


def test_bad_photos_never_stop_the_others(embed, pack_folder, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    good = (pack_folder / "a.png").read_bytes()
    (folder / "good one.png").write_bytes(good)
    (folder / "cut.png").write_bytes(good[:300])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>")
    (folder / "notes.txt").write_text("not looked at")
    (tmp_path / "bare").mkdir()
    code, out, err = embed(folder, "nobody.png", "bare", "none*.png", pack_folder / "b.png", "-o", "out", "--batch", 2,
                           *QUICK)
    assert code == 1
    assert "2 of 8 photos embedded, 6 failed" in err and "notes.txt" not in err
    for name, cause in (("cut.png", "ends early"), ("empty.jpg", "0 bytes"), ("page.jpg", "web page"),
                        ("nobody.png", "no such file"), ("bare", "no JPEG"), ("none*.png", "no file matches")):
        line = next(text for text in err.splitlines() if text.startswith("error:") and name in text)
        assert cause in line
    assert {p.name for p in pathlib.Path("out").iterdir()} == {".lock", "good one", "b", "index.html", "summary.csv"}
    assert embed("nobody.png", "bare", "-o", "out2")[0] == 3
    assert not pathlib.Path("out2").exists()


def test_equal_names_get_folders_of_their_own(embed, pack_folder, tmp_path):
    for i, name in enumerate("abc"):
        place = tmp_path / str(i)
        place.mkdir()
        (place / "face.png").write_bytes((pack_folder / f"{name}.png").read_bytes())
    assert embed("0/face.png", "1/face.png", "0/../0/face.png", "-o", "out", *QUICK)[0] == 0
    assert sorted(p.name for p in pathlib.Path("out").glob("f*")) == ["face", "face-2"]
    first = (tmp_path / "out/face/embedding.npz").read_bytes()
    assert embed("2/face.png", "-o", "out", *QUICK)[0] == 0  # another photo of that name, another day
    assert sorted(p.name for p in pathlib.Path("out").glob("f*")) == ["face", "face-2", "face-3"]
    assert (tmp_path / "out/face/embedding.npz").read_bytes() == first
    code, _, err = embed("1/face.png", "-o", "out", *QUICK)
    assert code == 0 and "face-2" in err and "already done" in err
    (tmp_path / "out" / "mine").mkdir()
    (tmp_path / "out" / "mine" / "diary.txt").write_text("x")
    (tmp_path / "mine.png").write_bytes((pack_folder / "a.png").read_bytes())
    assert embed("mine.png", "-o", "out", *QUICK)[0] == 0
    assert {p.name for p in pathlib.Path("out/mine").iterdir()} == {"diary.txt"}
    assert pathlib.Path("out/mine-2/report.json").exists()


def test_dry_run_writes_nothing(embed):
    code, out, err = embed("--demo", "nobody.png", "-o", "out", "--dry-run")
    assert code == 1 and "sample" in out and "100 in W" in out and "no such file" in out
    assert not pathlib.Path("out").exists()
    plan = json.loads(embed("--demo", "-o", "out", "--dry-run", "--json")[1])
    assert plan["photos"][0]["plan"] == "new"


def test_places_that_cannot_be_written(embed, pack_folder, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = embed("--demo", "-o", "file/out", *QUICK)
    assert code == 7 and err.count("\n") == 1 and "-o" in err
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert embed("--demo", "-o", "locked", *QUICK)[0] == 7
    from pie_jax.embed.photos import output_folder

    with output_folder(tmp_path / "out"):
        code, _, err = embed("--demo", "-o", "out", *QUICK)
        assert code == 2 and "another run" in err


def test_wrong_packs(embed, pack_folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("pie_jax.cli.command.configure", lambda device, **knobs: None)
    for name, words in (("nowhere", "not a pack"), ("hollow", "no generator"), ("torn", "manifest.json")):
        (tmp_path / name).mkdir()
        if name == "hollow":
            (tmp_path / name / "manifest.json").write_text('{"format": 1, "parts": {}}')
        if name == "torn":
            (tmp_path / name / "manifest.json").write_text("{")
        assert main([str(pack_folder / "a.png"), "--pack", str(tmp_path / name), "-o", str(tmp_path / "o")]) == 4
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and words in err
    assert not (tmp_path / "o").exists()


def test_a_bug_is_one_line_unless_debug(embed, monkeypatch, pack_folder, capsys):
    def broken(*_, **__):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("pie_jax.embed.work.load_pack", broken)
    code, _, err = embed("--demo", "-o", "out", *QUICK)
    assert code == 1 and err.splitlines()[-1].startswith("error: unexpected RuntimeError: two lines")
    assert main(["--demo", "-o", "out", "--debug", "--pack", str(pack_folder)]) == 1
    assert "Traceback" in capsys.readouterr().err


# Interruption


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory):
    """A pack of a generator alone, as small as they are: how a run ends does not depend on what it minimises."""
    folder = tmp_path_factory.mktemp("pack") / "small"
    pack = toy.toy_pack(jax.random.key(0), parts=("generator",), configs=toy.SMALLEST, energy=EnergyConfig(
        terms=("synthesis",)))
    save_pack(folder, pack)
    portrait = np.asarray(toy.portraits(jax.random.key(1), 1, pack=pack)[0])
    save_png(folder / "a.png", np.kron(portrait, np.ones((8, 8, 1))))  # a smaller picture is refused
    return folder


def command_line(pack_folder, out):
    return [sys.executable, "-m", "pie_jax.embed", str(pack_folder / "a.png"), "--pack", str(pack_folder),
            "-o", str(out), "--steps", "2000,50"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla")),
            "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}


def test_a_signal_saves_and_a_rerun_ends_the_same(generator_folder, tmp_path, environment):
    command = partial(command_line, generator_folder)
    call = partial(subprocess.run, env=environment, capture_output=True, text=True)
    whole = call(command(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(command(tmp_path / "cut"), env=environment, text=True,
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            for line in process.stderr:
                if ": step " in line:
                    break
            process.send_signal(number)
            rest = process.stderr.read()
            assert process.wait() == 130, rest
        # answered at once: the search did not go on to its next report, and nothing but the checkpoint was written
        assert ": step " not in rest
        assert "interrupted, saved; to go on: python -m pie_jax.embed" in rest and str(tmp_path / "cut") in rest
        assert {p.name for p in (tmp_path / "cut" / "a").iterdir()} == {"checkpoint.npz"}
    again = call(command(tmp_path / "cut"))
    assert again.returncode == 0 and "going on from the checkpoint" in again.stderr
    a, b = (Embedding.load(tmp_path / name / "a") for name in ("whole", "cut"))
    np.testing.assert_array_equal(a.w_plus, b.w_plus)
    np.testing.assert_array_equal(a.trace["energy"], b.trace["energy"])
    assert {p.name for p in (tmp_path / "cut" / "a").iterdir()} == FILES
