"""Tables of times and memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from benchmarks.tables.markdown import markdown, rows_of

_STEP_KEY = ("pack", "batch", "samples", "controls", "precision", "cores", "jax")


def _step_runs() -> dict[tuple, dict[tuple[str, str], dict]]:
    """Key of a case -> (case, implementation) -> its row, of the last run that has a whole step."""
    runs: dict[tuple, dict[tuple[str, str], dict]] = {}
    for key, group in itertools.groupby(rows_of("steps/rows.jsonl"),
                                        key=lambda row: (*(row[name] for name in _STEP_KEY), row["commit"])):
        run: dict[tuple[str, str], dict] = {}
        for row in group:
            if row["case"] == "step" and row["implementation"] == "pie_jax":
                run = {}  # the same case was timed once more
            run[row["case"], row["implementation"]] = row
        if ("step", "pie_jax") in run:
            runs[key[:-1]] = run
    return dict(sorted(runs.items()))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _machine(row: Mapping) -> str:
    return f"{row['cores']} core{'s' if row['cores'] > 1 else ''}, JAX {_minor(row['jax'])}"


def _place(row: Mapping) -> str:
    pack = "demo pack" if row["pack"] == "demo" else "random weights"
    return f"{pack}, {row['resolution']} px, {_machine(row)}"


def steps_torch() -> str:
    """How many times as fast as PyTorch, from the milliseconds of one run each."""
    rows = []
    for run in _step_runs().values():
        if ("step", "eager_fused") not in run:
            continue
        jax_ms = [run.get((case, "pie_jax"), {}).get("ms") for case in ("step", "mean step", "synthesis")]
        cells = []
        for peer in ("eager_fused", "eager_best", "compile"):
            torch_ms = [run.get((case, peer), {}).get("ms") for case in ("step", "step", "synthesis")]
            cells.append("; ".join(f"{b / a:.1f}" if a and b else "-" for a, b in zip(jax_ms, torch_ms, strict=True)))
        row = run["step", "pie_jax"]
        portraits = f"{row['batch']} portrait{'s' if row['batch'] > 1 else ''}"
        rows.append((f"{_place(row)}, PyTorch {_minor(row['torch'])}, {portraits}", *cells))
    return markdown(("step; mean step of `quick`; synthesis", "eager, fused weights", "eager, best form",
                     "`torch.compile`"), rows)


def parity() -> str:
    """How far a step is from PyTorch's, and painting edits to 512 px from painting them whole; worst of the runs."""
    found = [row for run in _step_runs().values() for row in run.values() if row.get("parity_energy") is not None]
    shown = {"parity_energy": "energy, beside PyTorch", "parity_gradient": "gradient, beside PyTorch",
             "parity_kink": "gradient where a code lies on a kink of a ReLU, beside PyTorch",
             "edit_energy": "energy, edited portraits painted only as far as they are read, beside whole"}
    return markdown(("what", "relative difference, worst"), [
        (text, f"{max(row[name] for row in found if row.get(name) is not None):.0e}") for name, text in shown.items()])


def steps_times() -> str:
    """Milliseconds of a whole step and of the mean step of `quick`, and the seconds to make its program."""
    rows = []
    for run in _step_runs().values():
        row, mean = run["step", "pie_jax"], run.get(("mean step", "pie_jax"))
        rows.append((_place(row), f"{row['batch']}", f"{row['samples']}", f"{row['controls']}", row["precision"],
                     f"{row['ms']:.0f}", f"{mean['ms']:.0f}" if mean else "",
                     f"{row['trace_s']:.1f}" if row.get("trace_s") is not None else "",
                     f"{row['compile_s']:.1f}" if row.get("compile_s") is not None else ""))
    return markdown(("case", "portraits", "samples of v", "controls", "precision", "step, ms",
                     "mean step of `quick`, ms", "trace, s", "compile, s"), rows)


def step_memory() -> str:
    """Memory of a step by batch; of one case and commit the last row."""
    key = "resolution", "batch", "micro_batch", "commit"
    last = {tuple(row[name] for name in key): row for row in rows_of("memory.jsonl")}
    return markdown(("case", "commit", "portraits", "in one program", "working memory, MB", "peak of the process, MB",
                     "processor ms a portrait", "load"), [
        (_place(row), row["commit"], f"{row['batch']}", f"{row['micro_batch']}", f"{row['temporary_mb']:.0f}",
         f"{row['peak_mb']:.0f}", f"{row['cpu_ms'] / row['batch']:.0f}", f"{row['load']}") for row in last.values()])


def encoder_training() -> str:
    """Time and memory of training an encoder; what its default steps take where 10^14 operations are done a second."""
    from pie_jax.training import encoder

    defaults = encoder.parser()
    portraits = defaults.get_default("default_steps") * defaults.get_default("batch")
    return markdown(("case", "commit", "portraits a step", "working memory, MB", "peak of the process, MB",
                     "processor s a portrait", "10^12 operations a portrait", "resumed bit for bit",
                     f"hours for {portraits} portraits at 10^14 operations a second", "load"), [
        (_place(row), row["commit"], f"{row['batch']}", f"{row['temporary_mb']:.0f}", f"{row['peak_mb']:.0f}",
         f"{row['cpu_ms'] / row['batch'] / 1e3:.1f}", f"{row['tflop_portrait']:.2f}", "yes" if row["resumed"] else "no",
         f"{row['tflop_portrait'] * portraits / 100 / 3600:.1f}", f"{row['load']}")
        for row in rows_of("encoder_training.jsonl")])


def raster() -> str:
    """Rasterizing alone and rendering with shading, forward and with the gradient; rasterizing beside PyTorch."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows_of("raster.jsonl"):
        key = (row["mesh"], row["resolution"], row["cores"], row["jax"])
        found.setdefault(key, {})[row["case"]] = row
    cases = ("raster_forward", "raster_gradient", "render_forward", "render_gradient")
    rows = []
    for one in found.values():
        row, ratio = one[cases[0]], one["raster_gradient"].get("ratio")
        rows.append((f"{row['vertices']} vertices, {row['resolution']} px, {_machine(row)}",
                     *(f"{one[case]['ms']:.1f}" for case in cases), f"{ratio:.1f}" if ratio else ""))
    return markdown(("mesh", *(f"{case.replace('_', ', ')}, ms" for case in cases), "times as fast as PyTorch"), rows)


STARTS = ("help", "first embed", "second embed", "first edit", "second edit")


def startup() -> str:
    """Seconds of whole commands: the first start compiles, the second finds what was compiled.

    Of the two commits that were measured last, in turns.
    """
    rows = rows_of("startup.jsonl")
    commits = list(dict.fromkeys(row["commit"] for row in rows[::-1]))[:2]
    last = {(row["what"], row["commit"]): row for row in rows if row["commit"] in commits}
    parts = ("wall_s", "cpu_s", "import_s", "trace_s", "compile_s")
    lines = [(row["what"], row["commit"], *(f"{row[key]:.1f}" if key in row else "" for key in parts),
              f"{row['programs']:.0f}" if "programs" in row else "") for row in last.values()]
    return markdown(("command", "commit", "seconds", "processor seconds", "import", "trace", "compile", "programs"),
                    sorted(lines, key=lambda line: STARTS.index(line[0])))


def _bounds_runs(kind: str) -> dict[tuple, list[dict]]:
    """The machine of a run -> the rows of its last measurement."""
    found: dict[tuple, list[dict]] = {}
    for _, group in itertools.groupby(rows_of("bounds.jsonl"), key=lambda row: row["run"]):
        for row in group:
            if row["kind"] == kind:
                key = (row["cores"], row["jax"], row.get("pack"), row.get("resolution"), row["run"])
                found.setdefault(key, []).append(row)
    return {key[:-1]: rows for key, rows in sorted(found.items(), key=lambda item: item[0][-1])}


def bounds_cost() -> str:
    """What a first start pays where it measures, and a later one."""
    rows = [row for row in rows_of("bounds.jsonl") if row["kind"] == "measurement"]
    return markdown(("machine", "first start, s", "processor seconds", "later starts, ms", "load of the machine"), [
        (_machine(row), f"{row['seconds']:.1f}", f"{row['cpu_s']:.1f}", f"{row['read_ms']:.1f}", f"{row['load']}")
        for row in sorted(rows, key=lambda row: row["cores"])])


def bounds_probes() -> str:
    """How many times as fast the other form of each timed layer is, and where the bounds put it."""
    runs = _bounds_runs("probe")
    lines: dict[tuple, dict[tuple, str]] = {}
    for machine, rows in runs.items():
        for row in rows:
            _, height, width, inputs = row["shape"]
            form = row["form"].replace("_", " ")
            chosen = [form if row[name] else "direct" for name in ("committed", "measured")]
            what = chosen[0] if chosen[0] == chosen[1] else f"{chosen[0]}, measured {chosen[1]}"
            layer = f"{height}x{width}, {inputs} to {row['features']} channels"
            lines.setdefault((form, layer), {})[machine] = f"{row['direct_ms'] / row['other_ms']:.2f}; {what}"
    return markdown(("form", "layer", *(_machine(rows[0]) for rows in runs.values())), [
        (*key, *(cells.get(machine, "") for machine in runs)) for key, cells in lines.items()])


def bounds_steps() -> str:
    """A whole step by the committed bounds, by the measured ones and by the extremes, alternately in one process."""
    rows = []
    for run in (*_bounds_runs("step").values(), *_bounds_runs("synthesis").values()):
        first = next(row for row in run if row["bounds"] == "committed")
        for row in run:
            name = row["bounds"] + (", the same" if row["bounds"] == "measured" and row["as_committed"] else "")
            rows.append((f"{row['kind']}, {_place(row)}", name, f"{row['ms']:.0f}", f"{row['cpu_ms']:.0f}",
                         f"{first['cpu_ms'] / row['cpu_ms']:.2f}", f"{row['energy_difference']:.0e}",
                         f"{row['gradient_difference']:.0e}", f"{row['load']}"))
    return markdown(("case", "bounds", "ms", "processor ms", "times as fast, processor", "energy differs by",
                     "gradient differs by", "load of the machine"), rows)


def scaling() -> str:
    """How processor time grows with each quantity; a slope of 1 is proportional."""
    from benchmarks.growth import verdict
    from benchmarks.scaling import latest

    groups = itertools.groupby(latest(rows_of("scaling/rows.jsonl")), key=lambda row: row["quantity"])
    rows = []
    for name, group in groups:
        found = list(group)
        grown = verdict(found)
        rows.append((name, f"{found[0]['size']} to {found[-1]['size']}", f"{grown['slope']:.2f}", grown["verdict"],
                     f"{found[0]['cpu_ms'] / 1e3:.3g}", f"{found[-1]['cpu_ms'] / 1e3:.3g}"))
    return markdown(("quantity", "sizes", "slope", "verdict", "processor seconds, smallest", "largest"), rows)


def cluster() -> str:
    """What many photos cost, multiplied from one."""
    from benchmarks.scaling import PHOTOS, latest, summary

    measured = latest(rows_of("scaling/rows.jsonl"))
    found, steps = summary(measured), [row["size"] for row in measured if row["quantity"] == "steps"]
    hours = found[f"hours_{PHOTOS}_photos_one_core"]
    rows = (("processor seconds of a photo, preset `fast`, without compiling, reading and writing",
             f"{found['cpu_s_photo']:.1f}"),
            (f"hours of one core for {PHOTOS} photos (multiplied)", f"{hours:.0f}"),
            ("hours of 64 such cores (divided)", f"{hours / 64:.1f}"),
            ("more processor time of a photo on eight virtual devices of one core than on one",
             f"{found['sharding_overhead']:.0%}"),
            (f"more peak memory from {steps[0]} to {steps[-1]} steps, MB", f"{found['memory_growth_mb_steps']:.0f}"),
            ("more peak memory from 1 to 8 photos, MB", f"{found['memory_growth_mb_photos']:.0f}"))
    return markdown(("many photos", ""), rows)


def commands() -> str:
    """Seconds and gigabytes of whole commands; of one command and case the last row."""
    timed = (row for row in rows_of("commands.jsonl") if "wall_s" in row or "cpu_s" in row)
    last = {(row["command"], row["what"]): row for row in timed}

    def cell(row, key, *, scale=1.0):
        return f"{row[key] / scale:.3g}" if key in row else ""

    return markdown(("command", "case", "seconds", "processor seconds", "GB"), [
        (f"`{command.removeprefix('python -m ')}`", what, cell(row, "wall_s"), cell(row, "cpu_s"),
         cell(row, "memory_gb") or cell(row, "peak_mb", scale=1e3)) for (command, what), row in last.items()])
