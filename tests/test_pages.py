"""README and docs: short, no dead link, and every command that they print is one that its parser takes."""

import importlib
import pathlib
import re
import shlex

import pytest

from pie_jax.__main__ import main as pie
from pie_jax.cli.commands import COMMANDS, GROUPS

ROOT = pathlib.Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def commands() -> list[str]:
    """Each command of a fenced block, without its comment, once."""
    found = {}
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.M | re.S):
            for line in block.splitlines():
                for part in line.split("#")[0].split("&&"):
                    words = part.strip()
                    words = words[words.index("python -m"):] if "python -m" in words else words
                    if re.match(r"(python -m (pie_jax|converters|benchmarks)|pie )", words):
                        found[words] = page.name
    return sorted(found)


def module_and_flags(command: str) -> tuple[str, list[str]]:
    words = shlex.split(command)
    if words[0] != "pie":
        return words[2], [word for word in words[3:] if word.startswith("-") and not re.match(r"-\d", word)]
    count = 2 if words[1] in GROUPS else 1
    entry = next(entry for entry in COMMANDS if entry.words == tuple(words[1:1 + count]))
    return entry.module, [word for word in words[1 + count:] if word.startswith("-") and not re.match(r"-\d", word)]


def test_the_readme_is_short_and_says_what_it_is_not():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert any("What it is not" in line for line in lines[:12])


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_and_has_its_options(command, capsys):
    name, flags = module_and_flags(command)
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        module = importlib.import_module(f"{name}.__main__")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(module.main(["--help"]))
    told = capsys.readouterr().out
    assert ended.value.code == 0
    for flag in flags:
        assert re.search(rf"(?<![\w-]){re.escape(flag.split('=')[0])}(?![\w-])", told), f"{command}: {flag}"


def test_cheap_commands_of_the_pages_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert pie(["packs", "status"]) == 0 and "demo  stylegan2, 128 px" in capsys.readouterr().out
    assert pie(["packs", "list", "--json"]) == 0
