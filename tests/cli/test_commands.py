"""`pie`: every command of the table can be reached, and what it cannot do is one line."""

import importlib
import subprocess
import sys

import pytest

from pie_jax.__main__ import completion, main, usage
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
    (["embd"], 2, "did you mean embed"), (["train", "rigent"], 2, "train rignet"), ([], 2, None),
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


def test_modules_of_the_table_have_a_main():
    for entry in COMMANDS:
        assert callable(importlib.import_module(entry.module).main)
