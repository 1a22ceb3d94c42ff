"""One way of timing: import, trace, compile, cached compile and run apart, beside what the machine could do.

    start()                                        # settings, and a compilation cache that is empty
    machine = describe_machine()                   # versions, commit, device, cores, load
    peak = ceilings()                              # matmul and copy rates, measured now
    program = compile_program(f, *arguments)       # trace, compile, compile again from the cache
    spreads = run_blocked({"ours": lambda: program.call(*arguments), "peer": ...}, runs=20)
    row = {"case": "x", **program.row(), **spreads["ours"].row(), **roofline(program, spreads["ours"], peak), **machine}
    append_rows("rows.jsonl", [row])

What is compared is timed alternately in one process (`run_blocked`), so that a busy machine slows both: trust ratios of
medians on one row, times only where `load` is below the number of cores.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

RUNS = 20  # the fewest blocked runs that a committed row may rest on
_SETTLED = 0.02  # seconds after which threads without work sleep
_MATMUL_SIDE, _COPY_MEGABYTES = 1536, 256


# ------------------------------------------------------------------------------------------- machine
def start(device: str | None = None, *, use_cores: int | None = None) -> None:
    """Set JAX up as the commands do, with a compilation cache of this process alone; before the first array.

    use_cores: keep this process to so many of its processors (Linux); all its thread pools follow.
    """
    from pie_jax import runtime

    if use_cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-use_cores:])

    folder = tempfile.TemporaryDirectory(prefix="pie_jax_bench_")
    start.folder = folder  # removed when the process ends
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
    runtime.configure(device=device)


def describe_machine() -> dict[str, Any]:
    """What a row must say of where it was taken. `load` is that of the last minute, other programs included."""
    import jax

    from pie_jax import runtime

    found = {"device": jax.devices()[0].device_kind, "cores": runtime.threads(), "python": platform.python_version(),
             "jax": jax.__version__, "commit": commit_of(),
             "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None}
    if os.environ.get("GLIBC_TUNABLES"):  # huge pages change large cases, see benchmarks/results/steps
        found["tunables"] = os.environ["GLIBC_TUNABLES"]
    if "torch" in sys.modules:
        found |= {"torch": sys.modules["torch"].__version__, "torch_threads": sys.modules["torch"].get_num_threads()}
    return found


def commit_of(checkout: pathlib.Path | None = None) -> str | None:
    """Short hash of a checkout (default: this one); None outside one. "+": package or benchmarks differ from it."""
    root = checkout or pathlib.Path(__file__).parents[1]
    try:
        def git(*words):
            return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

        changed = git("status", "--porcelain", "--untracked-files=no", "--", "pie_jax", "benchmarks")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def import_seconds(module: str, *, runs: int = 5) -> float:
    """Median seconds of `import module` in a fresh interpreter, less those of an empty one."""
    def once(statement):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True, cwd=pathlib.Path(__file__).parents[1])
        return time.perf_counter() - began

    return round(statistics.median(once(f"import {module}") - once("pass") for _ in range(runs)), 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What the machine reached on the two operations that bound a program, in this process."""

    matmul_gflops: float
    copy_gbytes: float  # read + written, a second

    def row(self) -> dict[str, float]:
        return {"matmul_gflops": round(self.matmul_gflops, 1), "copy_gbytes": round(self.copy_gbytes, 2)}


def ceilings(*, dtype: str = "float32", side: int = _MATMUL_SIDE, megabytes: int = _COPY_MEGABYTES,
             runs: int = 7) -> Ceilings:
    """The best of `runs` square matrix products of `dtype` and of `runs` passes over a large array."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((side, side), dtype)
    array = jnp.ones(megabytes * 2**18, jnp.float32)
    product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1.0)
    spreads = run_blocked({"product": lambda: product(matrix), "copy": lambda: copy(array)}, runs=runs)
    return Ceilings(matmul_gflops=2e-6 * side**3 / spreads["product"].low,
                    copy_gbytes=2e-6 * array.nbytes / spreads["copy"].low)


# ------------------------------------------------------------------------------------------ programs
@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled function and what it took to make it. `flops` and `bytes` are XLA's own count of one run.

    A loop with a dynamic trip count (the rasterizer has three) counts once.
    """

    call: Callable
    trace_s: float  # to jaxpr and StableHLO
    compile_s: float
    cached_s: float  # the same again with a full cache: reading and loading
    flops: float
    bytes: float
    memory_mb: float | None  # arguments, results and temporaries, as the compiler lays them out

    def row(self) -> dict[str, Any]:
        return {"trace_s": round(self.trace_s, 3), "compile_s": round(self.compile_s, 3),
                "cached_s": round(self.cached_s, 3), "gflop": round(1e-9 * self.flops, 4),
                "gbyte": round(1e-9 * self.bytes, 4), "memory_mb": self.memory_mb}


def compile_program(function: Callable, *arguments, **jit_settings) -> Program:
    """Trace and compile `function`, as a step is; the second compilation finds the first one in the cache."""
    import jax

    from pie_jax.runtime import compiled as compile_step

    began = time.perf_counter()
    lowered = jax.jit(function, **jit_settings).lower(*arguments)
    traced = time.perf_counter()
    compiled = compile_step(lowered, level=3)
    done = time.perf_counter()
    # another function of the same name: the first one's program would be found in memory
    again = jax.jit(functools.wraps(function)(lambda *a: function(*a)), **jit_settings).lower(*arguments)
    lowered_again = time.perf_counter()
    compile_step(again, level=3)
    cached = time.perf_counter() - lowered_again
    cost = compiled.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    return Program(call=compiled, trace_s=traced - began, compile_s=done - traced, cached_s=cached,
                   flops=float(cost.get("flops", 0.0)), bytes=float(cost.get("bytes accessed", 0.0)),
                   memory_mb=_memory_megabytes(compiled))


def _memory_megabytes(compiled) -> float | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    parts = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes,
             -memory.alias_size_in_bytes)
    return round(sum(parts) / 2**20, 1)


def peak_memory_mb() -> float | None:
    """The most memory so far: of the accelerator where it tells, else of this process."""
    import jax

    told = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if told is not None:
        return round(told / 2**20, 1)
    usage = _usage()
    return None if usage is None else round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _usage():
    """What the system counts of this process; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF)


# ---------------------------------------------------------------------------------------------- runs
@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """Milliseconds of blocked runs: median, the tenth lowest and highest percent, and processor time."""

    ms: float
    low: float
    high: float
    cpu: float  # processor milliseconds of this process, which other programs disturb less
    runs: int
    faults: int | None = None  # pages that the system had to give this process, where it tells

    def row(self) -> dict[str, float]:
        return {"ms": round(self.ms, 3), "ms_low": round(self.low, 3), "ms_high": round(self.high, 3),
                "cpu_ms": round(self.cpu, 3), "runs": self.runs, "faults": self.faults}


def run_blocked(calls: Mapping[str, Callable[[], Any]], *, runs: int = RUNS, warm: int = 2) -> dict[str, Spread]:
    """Time each of `calls` in turn, `runs` rounds after `warm` untimed ones; every run waits for its results.

    What counts is a run that begins when the one before is some time past, because threads, PyTorch's above all, wait
    actively for a while after their work and take a processor from whoever comes next. Until then a short one is
    repeated.
    """
    import jax

    wall = {name: [] for name in calls}
    processor = {name: [] for name in calls}
    faults = {name: [] for name in calls}
    for i in range(runs + warm):
        for name, call in calls.items():
            settled = time.perf_counter() + _SETTLED
            while True:
                before, began, began_cpu = _usage(), time.perf_counter(), time.process_time()
                jax.block_until_ready(call())
                took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
                if began >= settled or took > 10 * _SETTLED:
                    break
            if i >= warm:
                wall[name].append(1e3 * took)
                processor[name].append(1e3 * took_cpu)
                faults[name].append(None if before is None else _usage().ru_minflt - before.ru_minflt)

    def spread(name):
        ordered = sorted(wall[name])
        return Spread(ms=statistics.median(ordered), low=ordered[len(ordered) // 10], runs=runs,
                      high=ordered[-1 - len(ordered) // 10], cpu=statistics.median(processor[name]),
                      faults=None if None in faults[name] else round(statistics.median(faults[name])))

    return {name: spread(name) for name in calls}


def roofline(program: Program, spread: Spread, peak: Ceilings) -> dict[str, Any]:
    """The share of the roofline that a program reaches: its least possible time over its median time, and the bound.

    The least time is the longer of arithmetic at the matmul rate and traffic at the copy rate. XLA's count of bytes is
    of each operation's operands, caches ignored: a share above 1 means that they came from a cache.
    """
    arithmetic = 1e-6 * program.flops / peak.matmul_gflops
    traffic = 1e-6 * program.bytes / peak.copy_gbytes
    return {"roofline": round(max(arithmetic, traffic) / spread.ms, 3), "of_matmul": round(arithmetic / spread.ms, 3),
            "bound": "matmul" if arithmetic > traffic else "memory", **peak.row()}


# ---------------------------------------------------------------------------------------------- rows
def append_rows(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object a line at the end of `path`, whose folder is made."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of a file that `append_rows` wrote."""
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as a Markdown table; what a row lacks is left empty."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return plain(value) if isinstance(value, float) else str(value)


def plain(value: float) -> str:
    """A number with four figures, or all before the point; never with an exponent above 1."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
