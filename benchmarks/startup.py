"""How long a command takes to begin: `--help`, and `embed` to its first step, with an empty and with a full cache.

    python -m benchmarks.startup [--pack demo] [--out benchmarks/results/startup.jsonl]

Every start is a process of its own: the first with an empty compilation cache, the second on another photo with what
the first one left there. Rows: wall and processor seconds (which other programs disturb less) from the start of the
process to the end of the first step, and where they went:

    import_s     the interpreter and all modules         pack_s      reading and checking the pack
    trace_s      to jaxpr and StableHLO                  compile_s   XLA, or reading its results from the cache
    programs     compiled or read                        rest_s      photos, arrays, the step itself

`next_photo` rows say what a second photo in the same process traced and compiled again: nothing. The last line of
stdout is one JSON object of the figures beside their bars.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections import Counter

from pie_jax.cli import command

HELP_SECONDS, SECOND_START_SECONDS = 0.3, 10.0  # the bars
_HELP_RUNS = 5
_EVENTS = {"/jax/core/compile/jaxpr_trace_duration": "trace_s",
           "/jax/core/compile/jaxpr_to_mlir_module_duration": "trace_s",
           "/jax/core/compile/backend_compile_duration": "compile_s"}


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.startup", description=__doc__)
    command.add_debug(options)
    options.add_argument("--pack", default="demo", help="name or folder of a pack (default: %(default)s)")
    options.add_argument("--out", metavar="FILE")
    options.add_argument("--begin", nargs=4, metavar=("EPOCH", "PACK", "OUT", "PHOTOS"), help=argparse.SUPPRESS)
    return options


# ------------------------------------------------------------------------------------ the measured process
class Events:
    """Seconds and number of JAX's own events of tracing and compiling."""

    def __init__(self):
        import jax

        self.seconds: Counter = Counter()
        self.programs = self.traces = 0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, name: str, seconds: float, **_) -> None:
        self.seconds[_EVENTS.get(name, "other")] += seconds
        self.programs += name.endswith("backend_compile_duration")
        self.traces += name.endswith("jaxpr_trace_duration")


def begin(began: float, pack: str, out: str, photos: list[str]) -> dict:
    """Run `embed` for one step a photo; seconds since the epoch time `began` to the end of the first one."""
    from pie_jax.embed import main, run

    events, marks = Events(), {"import_s": time.time() - began}
    load, embed = run.load_pack, run.embed_portraits
    counts = []

    def load_pack(folder):
        at = time.time()
        loaded = load(folder)
        marks["pack_s"] = time.time() - at
        return loaded

    def embed_portraits(*arguments, progress, **knobs):
        def first(event):
            if event.phase == "optimise":
                marks.setdefault("wall_s", time.time() - began)
                marks.setdefault("cpu_s", time.process_time())
                marks.setdefault("programs", events.programs)
                for name in ("trace_s", "compile_s"):
                    marks.setdefault(name, events.seconds[name])
            progress(event)

        before = (events.traces, events.programs)
        found = embed(*arguments, progress=first, **knobs)
        counts.append((events.traces - before[0], events.programs - before[1]))
        return found

    run.load_pack, run.embed_portraits = load_pack, embed_portraits
    code = main([*photos, "--pack", pack, "-o", out, "--steps", "1,0", "--quiet"])
    if code:
        raise SystemExit(code)
    marks["rest_s"] = marks["wall_s"] - sum(marks[name] for name in ("import_s", "pack_s", "trace_s", "compile_s"))
    return {**marks, "next_traces": counts[-1][0] if counts[1:] else None,
            "next_programs": counts[-1][1] if counts[1:] else None}


# ---------------------------------------------------------------------------------------------- the command
def help_row() -> dict:
    """Median wall and processor seconds of `embed --help`."""
    def once():
        before, began = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "pie_jax.embed", "--help"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        return time.perf_counter() - began, used

    runs = [once() for _ in range(_HELP_RUNS)]
    wall, used = (sorted(column)[_HELP_RUNS // 2] for column in zip(*runs, strict=True))
    return {"what": "help", "wall_s": wall, "cpu_s": used}


def start_rows(pack: str) -> list[dict]:
    """The first start, and the second one on other photos."""
    import numpy as np

    from pie_jax.io import save_png

    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory(prefix="pie_jax_startup_") as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/xla"}
        for i, what in enumerate(("first start", "second start")):
            photos = [f"{folder}/{what[:5]}{j}.png" for j in range(2)]
            for photo in photos:
                save_png(photo, rng.uniform(size=(96 + 16 * i, 96 + 16 * i, 3)))
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.startup", "--begin", str(time.time()), pack, f"{folder}/{i}",
                 json.dumps(photos)], env=environment, check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"what": what, **json.loads(done.stdout.splitlines()[-1])})
    return rows


@command.guarded_main
def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    if arguments.begin:
        began, pack, out, photos = arguments.begin
        print(json.dumps(begin(float(began), pack, out, json.loads(photos))))
        return 0
    from benchmarks import harness

    rows = [help_row(), *start_rows(arguments.pack)]
    rows = [{"benchmark": "startup", "pack": arguments.pack,
             **{name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()},
             **harness.describe_machine()} for row in rows]
    columns = ("what", "wall_s", "cpu_s", "import_s", "pack_s", "trace_s", "compile_s", "rest_s", "programs",
               "next_traces", "next_programs", "load")
    print(harness.table(rows, columns))
    if arguments.out:
        harness.append_rows(pathlib.Path(arguments.out), rows)
    by_name = {row["what"]: row for row in rows}
    print(json.dumps({
        "help_s": by_name["help"]["wall_s"], "help_cpu_s": by_name["help"]["cpu_s"], "help_bar_s": HELP_SECONDS,
        "second_start_s": by_name["second start"]["wall_s"], "second_start_cpu_s": by_name["second start"]["cpu_s"],
        "second_start_bar_s": SECOND_START_SECONDS, "next_photo_traces": by_name["second start"]["next_traces"],
        "next_photo_programs": by_name["second start"]["next_programs"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
