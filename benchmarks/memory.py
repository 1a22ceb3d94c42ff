"""Memory and time of a step of a batch: one program of the whole batch, or micro-batches.

    python -m benchmarks.memory --random 1024 --batch 1 2 4 --cores 1 --out benchmarks/results/memory.jsonl
    python -m benchmarks.memory --random 1024 --batch 1 --beside CHECKOUT        # before and after, in turns

A step is that of `benchmarks.steps`: energy with every term, gradient, optimiser, on a pack of random weights of public
sizes. Every case is measured in a process of its own, which makes targets and program and then steps. A row says

    micro_batch          portraits in one program; of a checkout that has no micro-batches the batch
    temporary_mb         what a call of the program works in, as XLA lays it out
    argument_mb          weights and targets that it reads
    held_mb, peak_mb     what the process held before the program was made, and at most
    ms, cpu_ms           a step of the whole batch, median
    ms_portrait          `ms` over the batch

Times of one row are of one process: where the machine was busy (`load`), trust processor time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from pie_jax.cli import command


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.memory", description=__doc__)
    command.add_debug(options)
    options.add_argument("--random", type=int, choices=(256, 1024), default=256, help="px of the generator")
    options.add_argument("--batch", type=int, nargs="+", default=[1], metavar="N")
    options.add_argument("--micro-batch", type=int, nargs="+", metavar="N",
                         help="portraits in one program; default: what embed chooses; 0: the whole batch")
    options.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options.add_argument("--runs", type=int, default=3, help="steps timed (default: %(default)s)")
    options.add_argument("--cores", type=int, help="keep to so many processors")
    options.add_argument("--beside", metavar="CHECKOUT", help="measure this checkout's package, too, before each case")
    options.add_argument("--out", metavar="FILE", help="append rows")
    options.add_argument("--case", help=argparse.SUPPRESS)  # this process measures it
    return options


def measure(case: dict) -> dict:
    """The row of one case, measured in this process. Imports only what an older checkout has as well."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks import components, harness
    from benchmarks.random_pack import configs_of_size, random_pack
    from pie_jax import energy, optimise
    from pie_jax.config import PRECISIONS

    harness.start("cpu", use_cores=case["cores"])
    batch, each = case["batch"], case["micro_batch"] or case["batch"]
    pack, precision = random_pack(configs_of_size(case["random"])), PRECISIONS[case["precision"]]
    generator, described = pack.configs.generator, energy.portrait_energy(pack, precision=precision)
    step, start = components.adadelta_step(described)
    rng, inputs, parts = np.random.default_rng(0), None, []
    for first in range(0, batch, each):
        portraits = rng.uniform(size=(each, generator.resolution, generator.resolution, 3)).astype(np.float32)
        target = energy.prepare_target(pack, jnp.asarray(portraits), precision=precision)
        inputs = inputs or energy.energy_inputs(pack, target)
        spread = 0.2 * rng.normal(size=(each, generator.num_layers, generator.w_dim)).astype(np.float32)
        latent = jnp.asarray(pack.weights["generator"]["w_mean"]).reshape(1, 1, -1) + spread
        parts.append((target, latent, jax.vmap(start)(latent), optimise.portrait_keys(first + np.arange(each))))
    held = harness.peak_memory_mb()
    program = jax.jit(step).lower(inputs, *parts[0][1:]).compile()
    wall, processor = [], []
    for _ in range(1 + case["runs"]):
        began, began_cpu = time.perf_counter(), time.process_time()
        for i, (target, latent, state, keys) in enumerate(parts):
            _, latent, state = jax.block_until_ready(
                program(dataclasses.replace(inputs, target=target), latent, state, keys))
            parts[i] = target, latent, state, keys
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_cpu)
    analysis, ms = program.memory_analysis(), 1e3 * statistics.median(wall[1:])
    return {"benchmark": "memory", "pack": pack.name, "resolution": generator.resolution, "batch": batch,
            "micro_batch": each, "precision": case["precision"],
            "temporary_mb": round(analysis.temp_size_in_bytes / 2**20, 1),
            "argument_mb": round(analysis.argument_size_in_bytes / 2**20, 1), "held_mb": held,
            "peak_mb": harness.peak_memory_mb(), "ms": round(ms, 1),
            "cpu_ms": round(1e3 * statistics.median(processor[1:]), 1), "ms_portrait": round(ms / batch, 1),
            "runs": case["runs"], **harness.describe_machine()}


def measure_apart(case: dict, *, checkout: pathlib.Path) -> dict:
    """`measure` in a process of its own, of the package in `checkout`."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], cwd=checkout, env=environment,
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def cases(arguments: argparse.Namespace) -> list[dict]:
    """Every batch with every micro-batch that it can be cut into."""
    from pie_jax.config import GeneratorConfig
    from pie_jax.portrait.micro_batch import micro_batch_of

    generator, found = GeneratorConfig(resolution=arguments.random), []
    for batch in arguments.batch:
        chosen = arguments.micro_batch or [micro_batch_of(batch, generator=generator, platform="cpu")]
        for each in dict.fromkeys(batch if asked == 0 else asked for asked in chosen):
            if batch % each == 0:
                found.append({"random": arguments.random, "batch": batch, "micro_batch": each, "runs": arguments.runs,
                              "precision": arguments.precision, "cores": arguments.cores})
    return found


@command.guarded_main
def main(argv: list[str]) -> int:
    """Measure; returns the exit code."""
    options = parser()
    arguments = options.parse_args(argv)
    if min([*arguments.batch, arguments.runs]) < 1 or min(arguments.micro_batch or [0]) < 0:
        options.error("--batch, --runs: expected at least 1; --micro-batch: at least 0")
    if arguments.case:
        print(json.dumps(measure(json.loads(arguments.case))))
        return 0
    from benchmarks import harness

    own = pathlib.Path(__file__).resolve().parents[1]
    for case in cases(arguments):
        rows = []
        if arguments.beside:
            rows.append(measure_apart({**case, "micro_batch": None}, checkout=pathlib.Path(arguments.beside).resolve()))
        rows.append(measure_apart(case, checkout=own))
        print(harness.table(rows, ("commit", "batch", "micro_batch", "temporary_mb", "held_mb", "peak_mb", "ms",
                                   "cpu_ms", "ms_portrait", "load")), flush=True)
        if arguments.out:
            harness.append_rows(arguments.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
