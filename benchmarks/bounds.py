"""Measured bounds between the forms of convolutions beside the committed ones.

    python -m benchmarks.bounds [--cores N] [--random 256] [--no-step] [--out benchmarks/results/bounds.jsonl]

Rows: `measurement` is what a first start pays where bounds are measured; `probe` is each timed layer in both forms, and
which form either bounds give it; `step` is a whole energy step by the committed bounds, by the measured ones and by the
two extremes, alternately in one process, and how far its energy and gradient are from those by the committed bounds.
Milliseconds are medians of wall clock; `cpu` are those of the processor, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from typing import Any

from pie_jax.bounds import ALL, Bounds, Range
from pie_jax.cli import command

EXTREMES = {"none": Bounds(winograd=(), fused_upsample=()),
            "all": Bounds(winograd=(Range(1, 0, ALL),), fused_upsample=(Range(512, 0, ALL),))}


def parser() -> command.Parser:
    """The flags of this benchmark."""
    options = command.Parser(module="benchmarks.bounds", description=__doc__)
    command.add_debug(options)
    options.add_argument("--pack", default="demo", help="whose step is timed (default: %(default)s)")
    options.add_argument("--random", type=int, choices=(256, 1024), help="px: random weights of public sizes instead")
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--cores", type=int, help="keep to so many processors")
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--no-step", action="store_true", help="only the measurement and its probes")
    options.add_argument("--out", metavar="FILE")
    return options


def measure() -> tuple[dict[str, Bounds], list[dict[str, Any]]]:
    """The committed and the measured bounds of this machine, and the rows of their measurement."""
    from pie_jax import runtime
    from pie_jax.nn import autotune, probes

    found = {}

    def timed(asked):
        found.update(probes.time_probes(asked))
        return found

    committed = runtime.backend().bounds
    began, began_cpu = time.perf_counter(), time.process_time()
    measured = autotune.machine_bounds("always", time=timed)
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    began = time.perf_counter()
    again = autotune.machine_bounds("always", time=timed)
    assert again == measured, "what was measured was not kept"
    rows: list[dict[str, Any]] = [{
        "kind": "measurement", "seconds": round(took, 2), "cpu_s": round(took_cpu, 2),
        "read_ms": round(1e3 * (time.perf_counter() - began), 2), "committed": dataclasses.asdict(committed),
        "measured": dataclasses.asdict(measured)}]
    for probe, times in found.items():
        rows.append({"kind": "probe", **dataclasses.asdict(probe), "direct_ms": round(1e3 * min(times.direct), 3),
                     "other_ms": round(1e3 * min(times.other), 3),
                     "committed": probe.range_in(committed).holds(probe.size),
                     "measured": probe.range_in(measured).holds(probe.size)})
    return {"committed": committed, "measured": measured, **EXTREMES}, rows


def time_step(pack: Any, variants: dict[str, Bounds], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for a whole step by each of the bounds; equal bounds share one program."""
    import jax
    import numpy as np

    from benchmarks import harness, steps
    from pie_jax import runtime

    options = steps.parser().parse_args(["--batch", str(arguments.batch), "--runs", str(arguments.runs)])
    kinds: dict[Bounds, steps.Kind] = {}
    for bounds in variants.values():
        if bounds not in kinds:
            with runtime.made_for(runtime.Backend(platform="cpu", bounds=bounds)):
                case = steps.Case(pack, options)
                kinds[bounds] = steps.Kind(case, case.described)
    names = {bounds: str(i) for i, bounds in enumerate(kinds)}
    spreads = harness.run_blocked({names[bounds]: kind.step for bounds, kind in kinds.items()}, runs=arguments.runs)
    rows, first = [], jax.device_get(kinds[variants["committed"]].first)
    resolution = pack.configs.generator.resolution
    for name, bounds in variants.items():
        energies, _, gradient = jax.device_get(kinds[bounds].first)
        rows.append({"kind": "step", "pack": pack.name, "resolution": resolution, "batch": arguments.batch,
                     "bounds": name, **spreads[names[bounds]].row(),
                     "energy_difference": float(np.max(np.abs(energies - first[0]) / np.abs(first[0]))),
                     "gradient_difference": float(np.linalg.norm(gradient - first[2]) / np.linalg.norm(first[2])),
                     "as_committed": bounds == variants["committed"]})
    return rows


@command.guarded_main
def main(argv: list[str]) -> int:
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.batch < 1 or arguments.runs < 1:
        options.error("--batch, --runs: expected at least 1")

    from benchmarks import harness

    harness.start("cpu", use_cores=arguments.cores)
    variants, rows = measure()
    if not arguments.no_step:
        if arguments.random:
            from benchmarks.random_pack import configs_of_size, random_pack

            pack = random_pack(configs_of_size(arguments.random))
        else:
            from pie_jax.pack import load_pack

            pack = load_pack(arguments.pack)
        rows += time_step(pack, variants, arguments)
    machine = {"run": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), **harness.describe_machine()}
    rows = [{"benchmark": "bounds", **row, **machine} for row in rows]
    for row in rows:
        print(json.dumps(row))
    if arguments.out:
        harness.append_rows(arguments.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
