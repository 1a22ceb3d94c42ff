"""A table of texts, and the committed rows that tables are made of."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

RESULTS = pathlib.Path(__file__).parents[1] / "results"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def rows_of(name: str) -> list[dict]:
    """The rows of one JSONL file under benchmarks/results."""
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]
