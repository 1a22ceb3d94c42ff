"""Milliseconds of a full energy step and of its parts, beside PyTorch.

    python -m benchmarks.steps --pack demo --torch --out benchmarks/results/steps
    python -m benchmarks.steps --random 1024 --batch 4 --precision bfloat16

A step is one AdaDelta update of a batch of portraits: energy, gradient, optimiser. `--torch` times the same step in
the reference (`benchmarks.torch_reference`: eager with NVIDIA-style fused weights, the best eager form, torch.compile)
in the same process, alternately. PyTorch has the method as it is written, every portrait painted in full; ours is timed
as the pack's config says, with `edit_detail`. Before any timing energy and gradient of both, edits in full on both
sides, are found equal to 1e-3, and what `edit_detail` changes is reported apart.

A preset may leave lazy terms out of most steps and paint its first stage coarsely (`StageConfig`): each kind of step is
a case of its own, "step" the one with every term at full size, and "mean step" is their mean as `--preset` mixes them.
The last line is one JSON object:

    ratio_eager_fused, ratio_eager_best, ratio_compile    their median over our mean step (null: not run, or not
                                                          possible here)
    whole_eager_fused, whole_eager_best, whole_compile    their median over our step with every term at full size
    ratio_compile_time, whole_compile_time                first step of torch.compile over the first of each kind of
                                                          ours, and over that with every term; caches empty
    parity_energy, parity_gradient                        relative differences, the larger of the two eager forms
    parity_kink                                           the gradients' difference at a code on a ReLU's kink, beside
                                                          which they were then compared (0: there was none)
    edit_px, edit_energy, edit_cosine                     edited portraits as timed: their side, the relative
                                                          difference in energy, the cosine between the gradients
    ms_step, ms_whole_step                                our mean step, and our step with every term at full size

Rows go to DIR/rows.jsonl, with a table and a chart beside; what the columns are is told in `benchmarks.harness`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import sys
import time

from pie_jax.cli import command
from pie_jax.config import PRECISIONS, PRESETS, StageConfig

COLUMNS = ("case", "implementation", "share", "ms", "ms_low", "ms_high", "cpu_ms", "portraits_per_s", "trace_s",
           "compile_s", "cached_s", "gflop", "roofline", "memory_mb", "faults", "load")
COMPARED = ("parity_energy", "parity_gradient", "parity_kink", "edit_px", "edit_energy", "edit_cosine")
WHOLE, MEAN = "step", "mean step"
PEERS = {"eager_fused": "fused", "eager_best": "scaled"}


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.steps", description=__doc__)
    command.add_debug(options)
    options.add_argument("--pack", default="demo", help="name or folder of a pack (default: %(default)s)")
    options.add_argument("--random", type=int, choices=(256, 1024), help="px: random weights of public sizes instead")
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--samples", type=int, help="of v a step (default: the pack's)")
    options.add_argument("--controls", nargs="+", help="the controls of the energy (default: the pack's)")
    options.add_argument("--sampling", choices=("all", "one"), help="all controls each step, or one a sample")
    options.add_argument("--preset", choices=tuple(PRESETS), default="quick",
                         help="whose kinds of step are timed (default: %(default)s, which pulls every lever)")
    options.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    options.add_argument("--torch", action="store_true", help="time PyTorch beside")
    options.add_argument("--no-compile", action="store_true", help="with --torch: without torch.compile")
    options.add_argument("--compile-minutes", type=float, default=20.0,
                         help="give torch.compile up after so long (default: %(default)s)")
    options.add_argument("--parts", nargs="*", metavar="NAME", help="time these parts beside the step (default: all)")
    options.add_argument("--runs", type=int, default=25)
    options.add_argument("--device", choices=("cpu", "gpu", "tpu"))
    options.add_argument("--cores", type=int, help="keep to so many processors: on a busy machine PyTorch's threads, "
                         "which wait for each other actively, lose far more than ours")
    options.add_argument("--out", metavar="DIR")
    return options


class Case:
    """A pack's energy with everything that a step needs, and the rows that were measured of it."""

    def __init__(self, pack, arguments):
        import jax.numpy as jnp
        import numpy as np

        from pie_jax import energy, optimise

        config = pack.configs.energy
        wanted = {"samples": arguments.samples, "control_sampling": arguments.sampling,
                  "controls": tuple(arguments.controls) if arguments.controls else None}
        config = dataclasses.replace(config, **{name: value for name, value in wanted.items() if value is not None})
        generator, self.batch, self.runs = pack.configs.generator, arguments.batch, arguments.runs
        rng = np.random.default_rng(0)
        precision = PRECISIONS[arguments.precision]
        self.described = energy.portrait_energy(pack, config=config, precision=precision)
        plain = energy.portrait_energy(pack, config=dataclasses.replace(config, edit_detail=None),
                                       precision=precision)
        same = plain.edit_resolution == self.described.edit_resolution
        self.plain = self.described if same else plain  # the energy as PyTorch has it
        portraits = rng.uniform(size=(self.batch, generator.resolution, generator.resolution, 3)).astype(np.float32)
        target = energy.prepare_target(pack, jnp.asarray(portraits), precision=precision)
        self.inputs = energy.energy_inputs(pack, target, config=config)
        spread = 0.2 * rng.normal(size=(self.batch, generator.num_layers, generator.w_dim)).astype(np.float32)
        self.latent = jnp.asarray(pack.weights["generator"]["w_mean"]).reshape(1, 1, -1) + spread
        self.keys = optimise.portrait_keys(np.arange(self.batch))
        self.facts = {"benchmark": "steps", "pack": pack.name, "resolution": generator.resolution,
                      "batch": self.batch, "samples": config.samples, "controls": len(self.described.controls),
                      "sampling": config.control_sampling, "precision": arguments.precision,
                      "preset": arguments.preset}
        self.rows: list[dict] = []

    def add(self, case: str, implementation: str, *figures: dict) -> None:
        from benchmarks import harness

        row = {**self.facts, "case": case, "implementation": implementation}
        for more in figures:
            row |= more
        if "step" in case:
            row["portraits_per_s"] = round(1e3 * self.batch / row["ms"], 2)
        self.rows.append({**row, "peak_mb": harness.peak_memory_mb(), **harness.describe_machine()})


class Kind:
    """One kind of step, compiled for a case: an energy, and the optimiser on it."""

    def __init__(self, case: Case, described):
        import jax

        from benchmarks import components, harness

        step, start = components.adadelta_step(described)
        self.inputs, self.keys = case.inputs, case.keys
        self.moved, self.state = case.latent, jax.vmap(start)(case.latent)
        self.program = harness.compile_program(step, self.inputs, self.moved, self.state, self.keys)
        began = time.perf_counter()
        self.first = jax.block_until_ready(self.step())  # energies, terms and gradient at the case's latent
        self.first_step_s = self.program.trace_s + self.program.compile_s + time.perf_counter() - began

    def step(self):
        """One update after the other; energies, terms and gradient before it."""
        found, self.moved, self.state = self.program.call(self.inputs, self.moved, self.state, self.keys)
        return found


def kinds_of_step(described, stages: tuple[StageConfig, ...]) -> dict[str, tuple]:
    """name -> (energy, its share of all steps of `stages`); the step with every term at full size is always there."""
    found, steps = {WHOLE: (described, 0.0)}, sum(stage.steps for stage in stages)
    for stage in stages:
        energy = described.in_stage(stage)
        interval = stage.lazy_interval if energy.lazy_terms else 1
        whole = -(-stage.steps // interval)
        for each, count in ((energy, whole), (energy.without_lazy_terms(), stage.steps - whole)):
            name = ("coarse " if each.coarse else "") + WHOLE + ("" if each == energy else ", E_synthesis alone")
            if count:
                found[name] = (each, found.get(name, (each, 0.0))[1] + count / steps)
    return found


def time_step(case: Case, peak, arguments) -> dict[str, float | None]:
    """Rows of the step in its kinds, ours and PyTorch's; what the last line of the output says of them."""
    from benchmarks import harness

    found = kinds_of_step(case.described, PRESETS[arguments.preset])
    kinds = {name: Kind(case, described) for name, (described, _) in found.items()}
    shares = {name: share for name, (_, share) in found.items()}
    calls, figures, compared = {name: kind.step for name, kind in kinds.items()}, {}, dict.fromkeys(COMPARED)
    if arguments.torch:
        peers, compared = torch_peers(case, kinds[WHOLE].first, arguments)
        calls |= {name: call for name, (call, _) in peers.items()}
        figures = {name: figures for name, (_, figures) in peers.items()}
    spreads = harness.run_blocked(calls, runs=case.runs)
    for name, kind in kinds.items():
        case.add(name, "pie_jax", {"share": round(shares[name], 4)}, kind.program.row(),
                 {"first_step_s": round(kind.first_step_s, 2)}, compared if name == WHOLE else {}, spreads[name].row(),
                 harness.roofline(kind.program, spreads[name], peak))
    mean = sum(shares[name] * spreads[name].ms for name in kinds)
    first = sum(kind.first_step_s for name, kind in kinds.items() if shares[name])
    case.add(MEAN, "pie_jax", {"share": 1.0, "ms": round(mean, 3), "first_step_s": round(first, 2)})
    for name in figures:
        case.add(WHOLE, name, figures[name], spreads[name].row())

    def ratio(name, jax_ms):
        return round(spreads[name].ms / jax_ms, 3) if name in spreads else None

    def compile_ratio(jax_seconds):
        return round(figures["compile"]["first_step_s"] / jax_seconds, 3) if "compile" in figures else None

    peers = ("eager_fused", "eager_best", "compile")
    return {**{f"ratio_{name}": ratio(name, mean) for name in peers},
            **{f"whole_{name}": ratio(name, spreads[WHOLE].ms) for name in peers},
            "ratio_compile_time": compile_ratio(first),
            "whole_compile_time": compile_ratio(kinds[WHOLE].first_step_s), **compared, "ms_step": round(mean, 3),
            "ms_whole_step": round(spreads[WHOLE].ms, 3)}


@contextlib.contextmanager
def at_most(minutes: float):
    """TimeoutError in what runs longer (where the system has an alarm)."""
    def stop(*_):
        raise TimeoutError(f"more than {minutes} minutes")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 60.0 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def torch_peers(case: Case, stepped, arguments) -> tuple[dict, dict[str, float]]:
    """name -> (one step, figures of the row) in PyTorch; how far it is from us, asserted before any timing.

    stepped: energies, terms and gradient of the step that is timed.
    """
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")  # our cache is empty too
    import jax
    import torch

    from benchmarks.torch_reference import Stepper, TorchEnergy, parity
    from benchmarks.torch_reference.tensors import tensor
    from pie_jax import runtime

    torch.set_num_threads(runtime.threads())
    rows, choice = parity.rows_of(case.plain, case.inputs, case.keys)
    plain = stepped
    if case.plain is not case.described:
        plain = parity.jax_gradient(case.plain, case.inputs, case.latent, jax.random.clone(case.keys))
    latent, peers, far = tensor(case.latent), {}, []
    for name, form in PEERS.items():
        energy = TorchEnergy(case.plain, case.inputs, form=form)
        far.append(parity.compare(case.plain, case.inputs, case.latent, case.keys, energy=energy, stepped=plain))
        stepper = Stepper(energy, latent)
        peers[name] = (lambda stepper=stepper: stepper.step(rows, choice), {})
        if name == "eager_best" and not arguments.no_compile:
            compiled = Stepper(energy, latent, compiled=True)
            began = time.perf_counter()
            try:
                with at_most(arguments.compile_minutes):
                    compiled.step(rows, choice)
                seconds = round(time.perf_counter() - began, 2)
                peers["compile"] = (lambda stepper=compiled: stepper.step(rows, choice), {"first_step_s": seconds})
            except Exception as error:  # a compiler that is not there, or a graph it cannot take, is no reason to stop
                print(f"torch.compile: not possible here ({type(error).__name__}: {str(error).splitlines()[0][:120]})",
                      file=sys.stderr)
    compared = {f"parity_{name}": max(one.get(name, 0.0) for one in far) for name in ("energy", "gradient", "kink")}
    compared |= {"edit_energy": parity.relative(stepped[0], plain[0]),
                 "edit_cosine": parity.cosine(stepped[2], plain[2])}
    return peers, {"edit_px": case.described.edit_resolution,
                   **{name: float(f"{value:.6g}") for name, value in compared.items()}}


def parts_of(case: Case, arguments) -> dict:
    """The parts that are asked for, each with its input. SystemExit: the energy has no such part."""
    from benchmarks import components

    there = components.example_inputs(case.described, case.inputs, case.latent)
    wanted = list(there) if arguments.parts is None else arguments.parts
    if unknown := sorted(set(wanted) - set(there)):
        raise SystemExit(f"--parts: this energy has no part {unknown[0]!r}; it has {', '.join(there)}")
    return {part: there[part] for part in wanted}


def time_parts(case: Case, parts: dict, peak, arguments) -> None:
    """Rows of each of `parts` with its gradient."""
    from benchmarks import components, harness

    energies = {}
    if arguments.torch:
        from benchmarks.torch_reference import TorchEnergy
        from benchmarks.torch_reference.tensors import tensor

        energies = {name: TorchEnergy(case.plain, case.inputs, form=form) for name, form in PEERS.items()}
    for part, x in parts.items():
        program = harness.compile_program(components.ours(case.described, part), case.inputs, x)
        calls = {"pie_jax": lambda program=program, x=x: program.call(case.inputs, x)}
        for name, energy in energies.items():
            x_torch = tensor(x).permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else tensor(x)
            calls[name] = components.theirs(energy, part, x_torch)
        for name, spread in harness.run_blocked(calls, runs=case.runs).items():
            timed = (program.row(), spread.row(), harness.roofline(program, spread, peak))
            case.add(part, name, *(timed if name == "pie_jax" else (spread.row(),)))


def write(folder: pathlib.Path, rows: list[dict]) -> None:
    """The rows, their table and their chart."""
    from benchmarks import chart, harness

    harness.append_rows(folder / "rows.jsonl", rows)
    first = rows[0]
    unusual = [f"{key}{first[key]}" for key, usual in (("samples", 1), ("controls", 3), ("cores", 1))
               if first[key] != usual]
    name = "-".join([*(str(first[key]) for key in ("pack", "resolution", "batch", "precision")), *unusual])
    (folder / f"{name}.md").write_text(harness.table(rows, COLUMNS) + "\n")
    entries = [(f"{row['case']}, {row['implementation']}", row["ms"], row.get("ms_low", row["ms"]),
                row.get("ms_high", row["ms"]),
                "pie_jax" if row["implementation"] == "pie_jax" else "peer") for row in rows]
    chart.save(chart.bars(entries, title=f"{name}: milliseconds, median and spread"), folder / f"{name}.png")


@command.guarded_main
def main(argv: list[str]) -> int:
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.torch and arguments.precision != "float32":
        options.error("--torch compares in float32")
    if arguments.batch < 1 or arguments.runs < 1:
        options.error("--batch, --runs: expected at least 1")

    from benchmarks import harness

    if arguments.out:
        from benchmarks import chart  # noqa: F401  what it lacks is said now, not after an hour of measuring

    harness.start(arguments.device, use_cores=arguments.cores)
    if arguments.random:
        from benchmarks.random_pack import configs_of_size, random_pack

        pack = random_pack(configs_of_size(arguments.random))
    else:
        from pie_jax.pack import load_pack

        pack = load_pack(arguments.pack)
    peak = harness.ceilings(dtype=arguments.precision)
    case = Case(pack, arguments)
    parts = parts_of(case, arguments)
    last = time_step(case, peak, arguments)
    if parts:
        time_parts(case, parts, peak, arguments)
    print(harness.table(case.rows, COLUMNS))
    if arguments.out:
        write(pathlib.Path(arguments.out), case.rows)
    print(json.dumps(last))
    return 0


if __name__ == "__main__":
    sys.exit(main())
