"""How cost grows, on a CPU: with batch, samples, controls, resolution, vertices, steps, photos and devices.

    python -m benchmarks.scaling --out benchmarks/results/scaling --cores 1
    python -m benchmarks.scaling --only batch vertices

| quantity | what is timed at each of its sizes |
|---|---|
| batch, samples, controls | one energy step (`benchmarks.steps`); controls with all of them in each step |
| resolution | the same step of a random generator of the pack's channel law; its work is the number of pixels |
| vertices | a face of so many vertices rendered at 224 px, with the gradient to its parameters |
| steps | one photo embedded, compiling apart; the last size is the default preset of a pack with an encoder |
| photos | so many photos, one after the other as the command takes them, a tenth of the steps |
| devices | weak scaling: a photo for each virtual CPU device of a process of its own, a tenth of the steps |

Slopes are of processor time, which other programs disturb less than wall time, over the work of a size, both as
logarithms: 1 is proportional. `slope` is fitted to all sizes, `slope_last` joins the two largest, where constant costs
weigh least; a quantity is superlinear where either exceeds 1.1.

Virtual devices share the machine's cores, so their wall time cannot stay flat as that of real devices would: what
sharding costs is the rise of the processor seconds a photo. `peak_mb` is the most memory that the process held while
the size ran (Linux: counted anew for each). The last line is one JSON object:

    slopes, superlinear                              by quantity; the quantities that are
    memory_growth_mb_steps, memory_growth_mb_photos  rise of peak_mb from the smallest size to the largest
    sharding_overhead                                processor seconds a photo, most devices over one, less 1
    cpu_s_photo, hours_70000_photos_one_core         a photo with the default preset, and 70 000 of them on one core

Rows go to DIR/rows.jsonl; tables, charts and the last line are of all that is there, the latest row of each size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence

from benchmarks.growth import growth, verdict
from pie_jax.cli import command
from pie_jax.config import DEFAULT_PRESET, preset_stages

PHOTOS = 70_000  # of FFHQ
_PRESET_STEPS = sum(stage.steps for stage in preset_stages(DEFAULT_PRESET, encoder=True))
_VERTEX_PX = 224
_WEAK_RUNS = 2
COLUMNS = ("quantity", "size", "ms", "ms_low", "ms_high", "cpu_ms", "runs", "s_photo", "cpu_s_photo", "memory_mb",
           "peak_mb", "load")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """What is varied: its sizes, what they count, and the work that a size means."""

    sizes: tuple[int, ...]
    label: str
    work: Callable[[int], int] = int


QUANTITIES = {
    "batch": Quantity(sizes=(1, 2, 4, 8), label="portraits in a step"),
    "samples": Quantity(sizes=(1, 2, 4), label="samples of v in a step"),
    "controls": Quantity(sizes=(1, 2, 3), label="controls in a step"),
    "resolution": Quantity(sizes=(64, 128, 256), label="pixels of the portrait", work=lambda side: side * side),
    "vertices": Quantity(sizes=(1024, 4096, 16384, 36864), label="vertices of the face"),
    "steps": Quantity(sizes=(_PRESET_STEPS // 10, _PRESET_STEPS // 3, _PRESET_STEPS), label="steps of one photo"),
    "photos": Quantity(sizes=(1, 2, 4, 8), label="photos"),
    "devices": Quantity(sizes=(1, 2, 4, 8), label="virtual devices, a photo for each"),
}
EMBEDDED = ("steps", "photos", "devices")


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.scaling", description=__doc__)
    command.add_debug(options)
    options.add_argument("--pack", default="demo", help="name or folder of a pack (default: %(default)s)")
    options.add_argument("--only", nargs="+", choices=tuple(QUANTITIES), metavar="QUANTITY",
                         help=f"some of {', '.join(QUANTITIES)}")
    options.add_argument("--runs", type=int, default=20, help="blocked runs of a step (default: %(default)s)")
    options.add_argument("--cores", type=int, help="keep to so many processors")
    options.add_argument("--out", metavar="DIR")
    return options


# --------------------------------------------------------------------------------------------- steps
def pack_of_side(pack, side: int):
    """The pack with random networks around a generator of `side` pixels, its face model and pool; or itself."""
    from benchmarks.random_pack import random_pack

    configs = pack.configs
    if side == configs.generator.resolution:
        return pack
    generator = dataclasses.replace(configs.generator, resolution=side)
    layers = generator.num_layers
    configs = dataclasses.replace(
        configs, generator=generator, dfr=dataclasses.replace(configs.dfr, num_layers=layers),
        rignets=tuple(dataclasses.replace(rig, num_layers=layers) for rig in configs.rignets))
    return dataclasses.replace(random_pack(configs, pool=1), morphable=pack.morphable, pool=pack.pool)


def step_options(pack, quantity: str, size: int) -> list[str]:
    """The arguments of `benchmarks.steps` that make a step of this size."""
    return {"batch": ["--batch", str(size)], "samples": ["--samples", str(size)],
            "controls": ["--sampling", "all", "--controls", *pack.configs.energy.controls[:size]]}.get(quantity, [])


def time_steps(pack, quantity: str, *, runs: int) -> dict[int, dict]:
    """size -> figures of the energy step, all sizes timed alternately."""
    from benchmarks import harness, steps

    kinds = {}
    for size in QUANTITIES[quantity].sizes:
        options = steps.parser().parse_args(step_options(pack, quantity, size))
        case = steps.Case(pack_of_side(pack, size) if quantity == "resolution" else pack, options)
        kinds[size] = steps.Kind(case, case.described)
    spreads = harness.run_blocked({size: kind.step for size, kind in kinds.items()}, runs=runs)
    return {size: {**kind.program.row(), **spreads[size].row()} for size, kind in kinds.items()}


def time_vertices(*, runs: int) -> dict[int, dict]:
    """size -> figures of rendering a closed grid of size vertices, with the gradient to its FaceParams."""
    import jax
    import jax.numpy as jnp

    from benchmarks import harness
    from benchmarks.raster import grid_head
    from pie_jax.config import CameraConfig
    from pie_jax.face3d import render
    from pie_jax.face3d.morphable import FaceParams

    def error(params, model):
        rendering = render.render(model, params, CameraConfig(), resolution=_VERTEX_PX)
        return jnp.mean(jnp.square(rendering.image)) + 1e-4 * jnp.mean(jnp.square(rendering.landmarks))

    params = FaceParams.from_vector(0.1 * jax.random.normal(jax.random.key(0), (257,)))
    programs, calls = {}, {}
    for size in QUANTITIES["vertices"].sizes:
        model = grid_head(math.isqrt(size), math.isqrt(size))
        programs[size] = harness.compile_program(jax.value_and_grad(error), params, model)
        calls[size] = lambda size=size, model=model: programs[size].call(params, model)
    spreads = harness.run_blocked(calls, runs=runs)
    return {size: {**program.row(), **spreads[size].row()} for size, program in programs.items()}


def time_embeddings(pack: str, quantity: str, *, cache: str) -> dict[int, dict]:
    """size -> figures of whole embeddings: one process for all sizes, of devices one each."""
    from benchmarks.embedding_cost import in_a_process

    sizes, few = QUANTITIES[quantity].sizes, QUANTITIES["steps"].sizes[0]
    if quantity == "devices":
        return {size: in_a_process(cache, pack=pack, devices=size, cases=[{"photos": size, "steps": few}],
                                   runs=_WEAK_RUNS)[0] for size in sizes}
    cases = [{"photos": 1, "steps": few} | {quantity: size} for size in sizes]
    return dict(zip(sizes, in_a_process(cache, pack=pack, devices=1, cases=cases), strict=True))


# ------------------------------------------------------------------------------------------- results
def summary(rows: Sequence[dict]) -> dict:
    """The last line: what the docstring says."""
    series = {name: [row for row in rows if row["quantity"] == name] for name in QUANTITIES}
    verdicts = {name: verdict(some) for name, some in series.items() if some}
    whole = series["steps"][-1]["cpu_s_photo"] if series["steps"] else None
    rise, weak = growth(series["devices"], "cpu_s_photo"), series["devices"]
    return {"slopes": {name: found["slope"] for name, found in verdicts.items()},
            "superlinear": [name for name, found in verdicts.items() if found["verdict"] == "SUPERLINEAR"],
            "memory_growth_mb_steps": growth(series["steps"], "peak_mb"),
            "memory_growth_mb_photos": growth(series["photos"], "peak_mb"),
            "sharding_overhead": None if rise is None else round(rise / weak[0]["cpu_s_photo"], 3),
            "cpu_s_photo": whole,
            f"hours_{PHOTOS}_photos_one_core": None if whole is None else round(whole * PHOTOS / 3600, 1)}


def latest(rows: Sequence[dict]) -> list[dict]:
    """Of each size the last row, in the order of the quantities and their sizes."""
    last = {(row["quantity"], row["size"]): row for row in rows}
    order = list(QUANTITIES)
    return [last[key] for key in sorted(last, key=lambda key: (order.index(key[0]), key[1]))]


def tables(rows: Sequence[dict]) -> str:
    """The slopes and the rows, as Markdown."""
    from benchmarks import harness

    series = [[row for row in rows if row["quantity"] == name] for name in QUANTITIES]
    slopes = harness.table([verdict(some) for some in series if some], ("quantity", "slope", "slope_last", "verdict"))
    return f"{slopes}\n\n{harness.table(rows, COLUMNS)}"


def draw(folder: pathlib.Path, rows: list[dict]) -> None:
    """The tables, and a chart for each quantity."""
    from benchmarks import chart

    (folder / "table.md").write_text(tables(rows) + "\n")
    for name, quantity in QUANTITIES.items():
        some = [row for row in rows if row["quantity"] == name]
        if some:
            picture = chart.log_log(
                [row["work"] for row in some], [row["cpu_ms"] for row in some], slope=verdict(some)["slope"],
                title=f"Cost over {name}", x_label=quantity.label, y_label="processor milliseconds")
            chart.save(picture, folder / f"{name}.png")


@command.guarded_main
def main(argv: list[str]) -> int:
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.runs < 1 or (arguments.cores is not None and arguments.cores < 1):
        options.error("--runs, --cores: expected at least 1")

    from benchmarks import harness

    if arguments.out:
        from benchmarks import chart  # noqa: F401  what it lacks is said now, not after an hour of measuring

    harness.start("cpu", use_cores=arguments.cores)
    from pie_jax.pack import load_pack

    pack, rows = load_pack(arguments.pack), []
    folder = pathlib.Path(arguments.out) if arguments.out else None
    with tempfile.TemporaryDirectory(prefix="pie_jax_scaling_") as cache:
        for name in arguments.only or QUANTITIES:
            if name in EMBEDDED:
                found = time_embeddings(arguments.pack, name, cache=cache)
            else:
                found = time_vertices(runs=arguments.runs) if name == "vertices" else time_steps(
                    pack, name, runs=arguments.runs)
            new = [{"benchmark": "scaling", "pack": pack.name, "quantity": name, "size": size,
                    "work": QUANTITIES[name].work(size), **figures, **harness.describe_machine()}
                   for size, figures in found.items()]
            print(f"{name}: {verdict(new)}", file=sys.stderr)
            rows += new
            if folder:
                harness.append_rows(folder / "rows.jsonl", new)
    if folder:
        rows = [row for row in harness.read_rows(folder / "rows.jsonl") if row["pack"] == pack.name]
    rows = latest(rows)
    print(tables(rows))
    if folder:
        draw(folder, rows)
    print(json.dumps(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
