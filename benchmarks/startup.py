"""How long a command takes as a user starts it: `--help`, `embed --demo` and `edit`, the first time and again.

    python -m benchmarks.startup [--runs 3] [--beside OTHER_CHECKOUT] [--out benchmarks/results/startup.jsonl]

Every start is a process of its own: the first embed with an empty cache of programs, the others with what those before
them left there. Rows: wall and processor seconds (which other programs disturb less) of the whole
process, medians over the runs, and where they went, summed over the process's threads, which work beside each other:

    import_s     the interpreter, JAX and the command's modules
    trace_s      to jaxpr and StableHLO
    compile_s    XLA, or reading its results from JAX's cache
    programs     compiled or read there; those that `pie_jax.programs` keeps and finds by name are in none of these

`--beside` measures another checkout in turns with this one.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from pie_jax.cli import command

HELP_SECONDS = 0.3  # the bar
_HELP_RUNS = 5
_EVENTS = {"/jax/core/compile/jaxpr_trace_duration": "trace_s",
           "/jax/core/compile/jaxpr_to_mlir_module_duration": "trace_s",
           "/jax/core/compile/backend_compile_duration": "compile_s"}
_CHILD = "--child"


def child(began: float, argv: list[str]) -> int:
    """Run `pie ARGV` here; the last line of stdout is what it took since the epoch time `began`."""
    import jax

    from pie_jax.__main__ import main

    seconds: Counter = Counter()
    programs: list[str] = []

    def add(name: str, duration: float, **_: object) -> None:
        seconds[_EVENTS.get(name, "other")] += duration
        if name.endswith("backend_compile_duration"):
            programs.append(name)

    jax.monitoring.register_event_duration_secs_listener(add)
    imported = time.time() - began
    code = main(argv)
    print(json.dumps({"import_s": imported, "trace_s": seconds["trace_s"], "compile_s": seconds["compile_s"],
                      "programs": len(programs)}))
    return code


def start(checkout: pathlib.Path, cache: pathlib.Path, *argv: str) -> dict[str, float]:
    """Seconds of one `pie ARGV` with the code of `checkout` and the programs kept in `cache`."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(checkout)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run([sys.executable, "-P", __file__, _CHILD, str(began), *argv], env=environment, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    wall, after = time.time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "cpu_s": used, **json.loads(done.stdout.splitlines()[-1])}


def help_seconds(checkout: pathlib.Path) -> dict[str, float]:
    """Of `pie embed --help`, which imports no JAX: the median of a few."""
    def once() -> tuple[float, float]:
        before, began = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "pie_jax.embed", "--help"], check=True, stdout=subprocess.DEVNULL,
                       cwd=checkout)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return time.perf_counter() - began, used

    wall, used = (statistics.median(column) for column in zip(*(once() for _ in range(_HELP_RUNS)), strict=True))
    return {"wall_s": wall, "cpu_s": used}


def starts(checkout: pathlib.Path) -> dict[str, dict[str, float]]:
    """One round: every command the first time and again."""
    with tempfile.TemporaryDirectory(prefix="pie_jax_startup_") as name:
        folder = pathlib.Path(name)
        cache, out = folder / "cache", folder / "out"
        found = {"help": help_seconds(checkout),
                 "first embed": start(checkout, cache, "embed", "--demo", "-o", str(out)),
                 "second embed": start(checkout, cache, "embed", "--demo", "-o", str(folder / "again"))}
        portrait = str(next(path.parent for path in sorted(out.rglob("embedding.npz"))))
        return found | {
            "first edit": start(checkout, cache, "edit", portrait, "--yaw", "10"),
            "second edit": start(checkout, cache, "edit", portrait, "--yaw", "12")}


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    return child(float(argv[1]), argv[2:]) if argv[:1] == [_CHILD] else _measure(argv)


@command.guarded_main
def _measure(argv: list[str]) -> int:
    from benchmarks import harness  # the measured processes do without

    options = command.Parser(module="benchmarks.startup", description=__doc__)
    command.add_debug(options)
    options.add_argument("--runs", type=int, default=1, help="rounds (default: %(default)s)")
    options.add_argument("--beside", type=pathlib.Path, metavar="CHECKOUT", help="another version of the code")
    options.add_argument("--out", metavar="FILE", help="JSONL file to append the rows to")
    arguments = options.parse_args(argv)
    here = pathlib.Path(__file__).parents[1]
    checkouts = [here] if arguments.beside is None else [arguments.beside.resolve(), here]
    rounds = [[starts(checkout) for checkout in checkouts] for _ in range(max(arguments.runs, 1))]
    rows = [row for found, checkout in zip(zip(*rounds, strict=True), checkouts, strict=True)
            for row in _rows(found, checkout)]
    print(harness.table(rows, ("what", "commit", "wall_s", "cpu_s", "import_s", "trace_s", "compile_s", "programs",
                               "load")))
    if arguments.out:
        harness.append_rows(arguments.out, rows)
    slow = any(row["what"] == "help" and row["wall_s"] > HELP_SECONDS for row in rows)
    return int(slow)


def _rows(rounds: Any, checkout: pathlib.Path) -> list[dict]:
    """The medians of one checkout's rounds."""
    from benchmarks import harness

    machine = harness.describe_machine() | {"commit": harness.commit_of(checkout)}
    return [{"benchmark": "startup", "pack": "demo", "what": what,
             **{name: round(statistics.median(one[what][name] for one in rounds), 3) for name in rounds[0][what]},
             "runs": len(rounds), **machine} for what in rounds[0]]


if __name__ == "__main__":
    sys.exit(main())
