"""The tables of README and docs, made from the committed rows.

    python -m benchmarks.tables            # writes every table anew
    python -m benchmarks.tables --check    # exit code 1 where a page is stale; writes nothing

A page holds a table between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a key of `TABLES`; what stands between
the two lines is replaced.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable

from benchmarks.tables import performance, photographs, quality, reliability
from pie_jax.cli import command

ROOT = pathlib.Path(__file__).parents[2]
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", flags=re.S)

TABLES: dict[str, Callable[[], str]] = {
    "photo-edits": photographs.photo_edits,
    "mouth-sources": photographs.mouth_sources,
    "view": photographs.view,
    "drive": photographs.drive,
    "judged": photographs.judged,
    "presets": functools.partial(quality.presets, "search", "paper"),
    "presets-encoder": functools.partial(quality.presets, "fast", "search"),
    "presets-paper": functools.partial(quality.presets, "fast", "paper"),
    "presets-instant": functools.partial(quality.presets, "instant", "fast"),
    "presets-quick": functools.partial(quality.presets, "quick-search", "search"),
    "presets-axes": functools.partial(quality.presets, "fast", "fast-code-axes"),
    "presets-before": functools.partial(quality.presets, "fast", "search-code-axes"),
    "fidelity": quality.fidelity,
    "edits": quality.edits,
    "mouth": quality.mouth,
    "response": quality.response,
    "ablation": quality.ablation,
    "joint": quality.joint,
    "precision": quality.precision,
    "steps-torch": performance.steps_torch,
    "parity": performance.parity,
    "steps-times": performance.steps_times,
    "step-memory": performance.step_memory,
    "encoder-training": performance.encoder_training,
    "raster": performance.raster,
    "startup": performance.startup,
    "bounds-cost": performance.bounds_cost,
    "bounds-probes": performance.bounds_probes,
    "bounds-steps": performance.bounds_steps,
    "scaling": performance.scaling,
    "cluster": performance.cluster,
    "commands": performance.commands,
    "photos": photographs.photos,
    "reliability": reliability.tried,
    "mutations": reliability.mutations,
    "memory": reliability.memory,
    "batches": reliability.batches,
    "versions": reliability.versions,
}


def renewed(text: str, *, page: str) -> str:
    """The page with every table made anew. SystemExit: an unknown name, or a table without its end."""
    names = re.findall(r"<!-- table: (.*?) -->", text)
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise SystemExit(f"{page}: unknown table {unknown[0]!r}; expected one of {', '.join(TABLES)}")
    if len(_BLOCK.findall(text)) != len(names) or text.count("<!-- end -->") != len(names):
        raise SystemExit(f"{page}: a table has no end; close it by a line <!-- end -->")
    return _BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


@command.guarded_main
def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    options = command.Parser(module="benchmarks.tables", description=__doc__)
    command.add_debug(options)
    options.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is stale")
    arguments = options.parse_args(argv)
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        if (new := renewed(text, page=name)) != text:
            stale.append(name)
            if not arguments.check:
                path.write_text(new, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: " + ("stale; run: python -m benchmarks.tables" if arguments.check else "written"))
    return 1 if stale and arguments.check else 0
