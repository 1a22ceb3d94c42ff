"""Measured bounds between the forms of convolutions beside the committed ones.

    python -m benchmarks.bounds [--cores N] [--synthesis 256] [--out benchmarks/results/bounds.jsonl]

Rows: `measurement` is what a first start pays where bounds are measured; `probe` is each timed layer in both forms, and
which form either bounds give it; `step` is a whole energy step of the demo pack by committed bounds, by measured
ones and by the two extremes, alternately in one process, and how far its energy and gradient are from those by the
committed bounds. `--synthesis` takes a generator of random weights, and the mean square of its image, instead.
Milliseconds are medians of wall clock; `cpu` are those of the processor, which other programs disturb less.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from pie_jax.bounds import ALL, Bounds, Range
from pie_jax.cli import command

# What a row says of the case, and what makes its program: () -> a call, its energies and its gradient.
Timed = tuple[dict[str, Any], Callable[[], tuple[Callable[[], Any], Any, Any]]]
EXTREMES = {"none": Bounds(winograd=(), fused_upsample=()),
            "all": Bounds(winograd=(Range(1, 0, ALL),), fused_upsample=(Range(512, 0, ALL),))}


def parser() -> command.Parser:
    """The flags of this benchmark."""
    options = command.Parser(module="benchmarks.bounds", description=__doc__)
    command.add_debug(options)
    options.add_argument("--synthesis", type=int, choices=(256, 1024), help="px: a generator alone, random weights")
    options.add_argument("--cores", type=int, help="keep to so many processors")
    options.add_argument("--runs", type=int, default=20)
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


def demo_step() -> Timed:
    """A step of the demo pack: every term at full size, and the optimiser's update."""
    from benchmarks import steps
    from pie_jax.pack import load_pack

    pack = load_pack("demo")

    def make():
        case = steps.Case(pack, steps.parser().parse_args([]))
        kind = steps.Kind(case, case.described)
        return kind.step, kind.first[0], kind.first[2]

    return {"kind": "step", "pack": pack.name, "resolution": pack.configs.generator.resolution}, make


def random_synthesis(resolution: int) -> Timed:
    """A generator of random weights: the mean square of its image, and the gradient to w_plus."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks.random_pack import configs_of_size
    from pie_jax.nn.layers import apply, initialise, precompute
    from pie_jax.nn.stylegan2 import Synthesis

    config = configs_of_size(resolution).generator
    network = Synthesis(config)
    rng = np.random.default_rng(0)
    w_plus = jnp.asarray(rng.normal(size=(1, config.num_layers, config.w_dim)), jnp.float32)
    weights = jax.jit(lambda key, code: initialise(network, key, code))(jax.random.key(0), w_plus)

    def make():
        known = {**weights, "precomputed": jax.jit(lambda tree: precompute(network, tree, w_plus))(weights)}
        program = jax.jit(jax.value_and_grad(lambda code, tree: jnp.mean(jnp.square(apply(network, tree, code)))))
        program = program.lower(w_plus, known).compile()
        value, gradient = program(w_plus, known)
        return lambda: program(w_plus, known), value[None], gradient

    return {"kind": "synthesis", "pack": f"random-{resolution}", "resolution": resolution}, make


def time_variants(timed: Timed, variants: dict[str, Bounds], *, runs: int) -> list[dict[str, Any]]:
    """A row for each of the bounds; equal bounds share one program."""
    import jax
    import numpy as np

    from benchmarks import harness
    from pie_jax import runtime

    facts, make = timed
    calls, values, gradients = {}, {}, {}
    for bounds in variants.values():
        if bounds not in calls:
            with runtime.made_for(runtime.Backend(platform="cpu", bounds=bounds)):
                calls[bounds], *first = make()
            values[bounds], gradients[bounds] = jax.device_get(first)
    names = {bounds: str(i) for i, bounds in enumerate(calls)}
    spreads = harness.run_blocked({names[bounds]: call for bounds, call in calls.items()}, runs=runs)
    committed = variants["committed"]

    def far(found, bounds):
        return float(f"{np.linalg.norm(found[bounds] - found[committed]) / np.linalg.norm(found[committed]):.3g}")

    return [{**facts, "bounds": name, **spreads[names[bounds]].row(), "energy_difference": far(values, bounds),
             "gradient_difference": far(gradients, bounds), "as_committed": bounds == committed}
            for name, bounds in variants.items()]


@command.guarded_main
def main(argv: list[str]) -> int:
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.runs < 1:
        options.error("--runs: expected at least 1")

    from benchmarks import harness

    harness.start("cpu", use_cores=arguments.cores)
    variants, rows = measure()
    timed = random_synthesis(arguments.synthesis) if arguments.synthesis else demo_step()
    rows += time_variants(timed, variants, runs=arguments.runs)
    machine = {"run": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), **harness.describe_machine()}
    rows = [{"benchmark": "bounds", **row, **machine} for row in rows]
    for row in rows:
        print(json.dumps(row))
    if arguments.out:
        harness.append_rows(arguments.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
