"""README and docs: short, no dead link, tables of the committed rows, and commands that their parsers take."""

import argparse
import importlib
import pathlib
import re
import shlex

import pytest

from benchmarks import tables
from pie_jax.__main__ import main as pie
from pie_jax.cli.command import Parser
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


def module_and_arguments(command: str) -> tuple[str, list[str]]:
    words = shlex.split(command)
    if words[0] != "pie":
        return words[2], words[3:]
    count = 2 if words[1] in GROUPS else 1
    entry = next(entry for entry in COMMANDS if entry.words == tuple(words[1:1 + count]))
    return entry.module, words[1 + count:]


class Parsed(BaseException):
    """Ends a command where its arguments are parsed."""


@pytest.fixture()
def only_parse(monkeypatch):
    """Every command ends with `Parsed` as soon as a parser has accepted its arguments."""
    def stops(original):
        def parse_args(self, args=None, namespace=None):
            original(self, args, namespace)
            raise Parsed
        return parse_args

    for parser in (argparse.ArgumentParser, Parser):
        monkeypatch.setattr(parser, "parse_args", stops(parser.__dict__["parse_args"]))


def test_the_readme_is_short_and_says_what_it_is_not():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert any("What it is not" in line for line in lines[:12])


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_and_its_parser_takes_it(command, only_parse, capsys):
    name, arguments = module_and_arguments(command)
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        module = importlib.import_module(f"{name}.__main__")
    if not arguments:  # named in a text without what it needs
        arguments = ["--help"]
    try:
        code = module.main(arguments)
    except (Parsed, SystemExit) as ended:
        assert isinstance(ended, Parsed) or ended.code == 0, capsys.readouterr().err
        return
    pytest.fail(f"{command}: exit code {code}: {capsys.readouterr().err}")


def test_a_misspelt_option_is_found(only_parse, capsys):
    module = importlib.import_module("pie_jax.embed")
    assert module.main(["me.jpg", "--yaww", "3"]) == 2
    assert "--yaww" in capsys.readouterr().err


def test_tables_are_those_of_the_committed_rows(capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().out


def test_every_table_is_shown_on_a_page():
    shown = "".join(page.read_text() for page in PAGES)
    assert [name for name in tables.TABLES if f"<!-- table: {name} -->" not in shown] == []


def test_a_changed_number_makes_a_page_stale(tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    (tmp_path / "README.md").write_text("nothing\n")
    page.write_text("<!-- table: startup -->\n| 99 |\n<!-- end -->\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["--check"]) == 1 and "docs/page.md: stale" in capsys.readouterr().out
    assert "99" in page.read_text()
    assert tables.main([]) == 0 and tables.main(["--check"]) == 0
    assert "second edit" in page.read_text()
    page.write_text("<!-- table: no-such -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="unknown table 'no-such'"):
        tables.main(["--check"])
    page.write_text("<!-- table: startup -->\n")
    with pytest.raises(SystemExit, match="has no end"):
        tables.main(["--check"])


def test_cheap_commands_of_the_pages_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert pie(["packs", "status"]) == 0 and "demo  stylegan2, 128 px" in capsys.readouterr().out
    assert pie(["packs", "list", "--json"]) == 0
    assert pie(["--help"]) == 0 and pie(["completion", "bash"]) == 0
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
