"""`pie`: every command of the table can be reached, and what it cannot do is one line."""

import gc
import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pie_jax.__main__ import completion, main, usage
from pie_jax.cli import command
from pie_jax.cli.commands import COMMANDS, GROUPS


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: " ".join(entry.words))
def test_every_command_tells_its_options(entry, capsys):
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main([*entry.words, "--help"]))
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage:") and entry.module.removesuffix(".__main__") in out


def test_the_list_names_every_command_once(capsys):
    assert main(["--help"]) == 0
    lines = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == [" ".join(entry.words) for entry in COMMANDS] and len(set(lines)) == len(lines)
    assert all(entry.help in usage() for entry in COMMANDS)
    for group in GROUPS:
        assert main([group, "--help"]) == 0
        assert f"pie {group} COMMAND" in capsys.readouterr().out


def test_nothing_heavy_is_imported_for_help():
    code = ("import sys; from pie_jax.__main__ import main; assert main(['--help']) == 0; "
            "assert not {'jax', 'numpy', 'PIL', 'rich'} & set(sys.modules), sorted(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("argv", "code", "word"), [
    (["embd"], 2, "did you mean embed"), (["trian"], 2, "did you mean train"),
    (["train", "rigent"], 2, "train rignet"), ([], 2, None),
    (["convert"], 2, None), (["completion", "fish"], 2, "bash or zsh"), (["--version"], 0, None)])
def test_what_is_unknown_is_one_line_with_the_nearest(argv, code, word, capsys):
    assert main(argv) == code
    err = capsys.readouterr().err
    assert word is None or (word in err and err.count("\n") == 1)


def test_completion_knows_the_words(tmp_path):
    bash = subprocess.run(["bash", "-c", completion("bash") + "\nCOMP_WORDS=(pie train r); COMP_CWORD=2; _pie; "
                           "echo ${COMPREPLY[@]}"], capture_output=True, text=True, check=True)
    assert bash.stdout.split() == ["regressor", "recognition", "rignet"]
    assert "bashcompinit" in completion("zsh")


def test_every_benchmark_tells_its_options_and_mistakes_in_one_line(capsys):
    for name in ("ablation", "joint", "precision", "quality", "raster", "scaling", "startup", "steps", "tables"):
        module = importlib.import_module(f"benchmarks.{name}")
        module = module if hasattr(module, "main") else importlib.import_module(f"benchmarks.{name}.__main__")
        with pytest.raises(SystemExit) as ended:
            module.main(["--help"])
        assert ended.value.code == 0 and f"python -m benchmarks.{name}" in capsys.readouterr().out
        assert module.main(["--nonsense"]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: " ".join(entry.words))
def test_a_misspelt_flag_is_one_line_with_the_nearest(entry, capsys):
    flag = next(f for f in ("--pack", "--data", "--seed", "--json") if f in help_of(entry, capsys))
    assert main([*entry.words, f"{flag}z=1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ") and (flag in err or "required" in err)


def help_of(entry, capsys):
    with pytest.raises(SystemExit):
        main([*entry.words, "--help"])
    return capsys.readouterr().out


def test_usage_says_how_the_command_was_called(monkeypatch, capsys):
    for called, usage_of in (("/usr/bin/pie", "usage: pie train rignet"), ("x/pie_jax/__main__.py", "usage: pie train"),
                             ("/usr/bin/pytest", "usage: python -m pie_jax.training.rignet")):
        monkeypatch.setattr(sys, "argv", [called])
        assert help_of(COMMANDS[next(i for i, e in enumerate(COMMANDS) if e.words == ("train", "rignet"))],
                       capsys).startswith(usage_of)


def test_every_stage_of_the_demo_pack_is_a_command_with_its_flags(capsys):
    from pie_jax.training.demo_pack import stages

    arguments = SimpleNamespace(pack="p", runs="r", scale=1.0, seed=0, resolution=128)
    for name, module, flags in stages(arguments):
        with pytest.raises(SystemExit):
            importlib.import_module(f"pie_jax.{module}").main(["--help"])
        out = capsys.readouterr().out
        assert all(flag in out for flag in flags if flag.startswith("--")), name


def test_modules_of_the_table_have_a_main():
    for entry in COMMANDS:
        assert callable(importlib.import_module(entry.module).main)


@pytest.mark.parametrize("before, after", [(700, command._COLLECT_AFTER), (200_000, 200_000), (0, 0)])
def test_garbage_is_looked_for_seldom_and_not_at_the_end(before, after, monkeypatch):
    at_the_end, own = [], gc.get_threshold()
    monkeypatch.setattr(command.atexit, "register", at_the_end.append)
    try:
        gc.set_threshold(before, *own[1:])
        command._collect_seldom.__wrapped__()
        assert gc.get_threshold() == (after, *own[1:]) and at_the_end == [gc.freeze]
    finally:
        gc.set_threshold(*own)
