"""Time and memory of training an encoder for a generator of public size.

    python -m benchmarks.encoder_training --random 1024 --batch 2 --cores 1 --out FILE

The pack has random weights (`benchmarks.random_pack`), encoder and losses are the defaults of `pie train encoder`: two
rounds, each judged by code, pixels and perceptual features. A row says

    temporary_mb, argument_mb   what a step works in, as XLA lays it out, and what it reads
    peak_mb                     what the process held at most, with what is measured of held-out codes at the end
    ms, cpu_ms, ms_portrait     a step, median; `ms` over the batch
    tflop_portrait              operations of a step as XLA counts them, over the batch, in 10^12
    resumed                     two steps, a checkpoint and two more give the bits of four
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

from pie_jax.cli import command

FEWEST = 3  # steps timed


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.encoder_training", description=__doc__)
    command.add_debug(options)
    options.add_argument("--random", type=int, choices=(256, 1024), default=256, help="px of the generator")
    options.add_argument("--batch", type=int, default=2, metavar="N")
    options.add_argument("--runs", type=int, default=FEWEST, help="steps timed (default: %(default)s)")
    options.add_argument("--cores", type=int, help="keep to so many processors")
    options.add_argument("--out", metavar="FILE", help="append the row")
    return options


def measure(pack, *, batch: int, runs: int, sizes: dict | None = None) -> dict:
    """The row of a pack without an encoder; `harness.start` has been called. sizes: of the encoder, where not usual."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks import harness
    from pie_jax.config import EncoderConfig
    from pie_jax.nn.encoder import Encoder
    from pie_jax.nn.layers import initialise
    from pie_jax.portrait.axes import random_codes
    from pie_jax.training import encoder
    from pie_jax.training.core import checkpoints, loop

    generator = pack.configs.generator
    axes = encoder.largest_axes(random_codes(pack))
    config = EncoderConfig(num_layers=generator.num_layers, w_dim=generator.w_dim, axes=len(axes), **sizes or {})
    configs, losses = pack.configs.with_part(encoder.PART, config), encoder.EncoderLossConfig()
    image = jnp.zeros((1, config.resolution, config.resolution, 3))
    weights = initialise(Encoder(config), jax.random.key(1), image, image,
                         jnp.zeros((1, config.num_layers, config.w_dim)))
    weights["axes"] = jnp.asarray(axes)
    frozen = {name: pack.weights[name] for name in ("generator", "perceptual")}
    state = loop.new_state(jax.random.key(0), weights, encoder.OPTIMISER)
    step = jax.jit(encoder.make_step(configs, losses, peak=1e-3, painted=batch))
    program = step.lower(state, {}, frozen).compile()
    wall, processor, halfway, resumed = [], [], state, False
    for i in range(1 + runs):
        began, began_cpu = time.perf_counter(), time.process_time()
        state, terms = jax.block_until_ready(program(state, {}, frozen))
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_cpu)
        if i == 1:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "state"
                checkpoints.save_checkpoint(path, state, seconds=0.0)
                halfway = checkpoints.load_checkpoint(path, state)[0]
        if i == 3:
            again = program(program(halfway, {}, frozen)[0], {}, frozen)[0]
            resumed = all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (again.weights, state.weights))))
    held_out = encoder.evaluation(configs, losses, frozen, None, None)(state)
    analysis, ms = program.memory_analysis(), 1e3 * statistics.median(wall[1:])
    return {"benchmark": "encoder_training", "pack": pack.name, "resolution": generator.resolution,
            "encoder_px": config.resolution, "rounds": config.rounds, "batch": batch,
            "temporary_mb": round(analysis.temp_size_in_bytes / 2**20, 1),
            "argument_mb": round(analysis.argument_size_in_bytes / 2**20, 1), "peak_mb": harness.peak_memory_mb(),
            "ms": round(ms, 1), "cpu_ms": round(1e3 * statistics.median(processor[1:]), 1),
            "ms_portrait": round(ms / batch, 1),
            "tflop_portrait": round(program.cost_analysis()["flops"] / batch / 1e12, 3), "resumed": resumed,
            "finite": bool(np.isfinite([*map(float, terms.values()), *held_out.values()]).all()), "runs": runs,
            **harness.describe_machine()}


@command.guarded_main
def main(argv: list[str]) -> int:
    """Measure; returns the exit code."""
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.batch < 1 or arguments.runs < FEWEST:
        options.error(f"--batch: expected at least 1; --runs: at least {FEWEST}")
    from benchmarks import harness
    from benchmarks.random_pack import configs_of_size, random_pack

    harness.start("cpu", use_cores=arguments.cores)
    row = measure(random_pack(configs_of_size(arguments.random)), batch=arguments.batch, runs=arguments.runs)
    print(harness.table([row], ("batch", "temporary_mb", "peak_mb", "ms", "cpu_ms", "tflop_portrait", "resumed",
                                "finite", "load")))
    if arguments.out:
        harness.append_rows(arguments.out, [row])
    return 0


if __name__ == "__main__":
    sys.exit(main())
