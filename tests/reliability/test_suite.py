"""The pages on reliability and security name a test for each line, and each of them exists."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(page):
    """The lines of the tables that name tests, without their heads."""
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("|") and line.rstrip("| ").endswith("| test")]
    for head in heads:
        for line in lines[head + 2:]:
            if not line.startswith("|"):
                break
            yield line


@pytest.mark.parametrize("page,least", [("reliability.md", 35), ("security.md", 20)])
def test_every_line_names_tests_that_exist(page, least):
    found = list(rows(page))
    assert len(found) >= least
    for line in found:
        named = NAMED.findall(line.split("|")[-2])
        assert named, f"{page}: names no test: {line[:80]}"
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text("utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"
