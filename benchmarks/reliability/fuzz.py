"""Damaged files against every reader: each must be refused in one line, or read right, and nothing else may happen.

    python -m benchmarks.reliability.fuzz [--count 100000] [--seed 0] [--only CONTAINER ...] [--out ROWS.jsonl]

A small file of each container (`tests/support/small_checkpoints.py`) is mutated `--count` times and read by a process
of its own, which is watched: an audit hook reports whatever it opens for writing, imports, executes, starts or connects
to; 5 s of processor time and 1 GB of memory are the limits of one mutation. What is read must be made of plain values
and numeric arrays alone. A container with checksums must give the arrays of the file before it was damaged, an `.npy`
those of `numpy.load`. Mutation k of a seed is always the same. `tests/reliability/test_fuzz.py` is the short form.

HDF5 is read by h5py in a process with limits (`converters.readers.hdf5_file`); here that process is the one watched, so
a file that it stops at is refused, and counted as "stopped". An audit hook does not see what a C library does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from typing import Any

from benchmarks.reliability.mutations import mutate
from pie_jax.cli import command

ROOT = pathlib.Path(__file__).parents[2]
SECONDS, MEMORY = 5.0, 2**30  # of one mutation
_WORKER = "--worker"
PATIENCE = 60.0  # seconds of the clock without a word, after which the parent gives a process up
RENEWED = 10_000  # mutations of one process: the system's count of processor time drifts from the clock of Python
CHECKSUMS = ("torch-zip", "torchscript", "npz")
CONFINED = ("hdf5",)  # read in a process of its own, which its limits may stop
# what an honest reader never does; imports count only where a module is really loaded
_FORBIDDEN = re.compile(r"^(exec|compile|import|marshal\..*|pickle\..*|subprocess\..*|socket\..*|ctypes\..*|shutil\..*|"
                        r"os\.(?!listdir|scandir|stat).*|urllib\..*|http\..*|pty\..*|code\..*|tempfile\..*)$")


@dataclasses.dataclass
class Original:
    """One honest file or folder: the bytes of all its files, and what `read` made of them."""

    path: pathlib.Path
    files: dict[pathlib.Path, bytes]
    arrays: dict[str, Any]


def originals(container: str, folder: pathlib.Path) -> list[Original]:
    """The honest files of a container, written into `folder` and read."""
    found = []
    for path in containers()[container](folder):
        parts = [file for file in sorted(folder.iterdir()) if file.is_file()] if path.is_dir() or \
            container in ("tfjs", "safetensors-index") else [path]
        found.append(Original(path=path, files={part: part.read_bytes() for part in parts}, arrays={}))
    return found


def containers() -> dict[str, Callable[[pathlib.Path], list[pathlib.Path]]]:
    """What writes the honest files of each container."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from small_checkpoints import CONTAINERS

    return CONTAINERS


def _reader(container: str) -> Callable[[pathlib.Path], Any]:
    """Reads a file as the converters do; HDF5 without another process."""
    import converters.readers.open as opened
    from converters.readers import hdf5_file

    if container in CONFINED:
        hdf5_file.read_hdf5 = hdf5_file.walk
    return opened.read


def strange(checkpoint: Any) -> str:
    """What a tree holds that no reader may give; "" where there is nothing."""
    import numpy as np

    from converters.readers import Node

    stack, seen = [checkpoint.tree], 0
    while stack and (seen := seen + 1) < 3_000_000:
        value = stack.pop()
        if isinstance(value, np.ndarray | np.generic):
            if value.dtype.kind not in "biufU":
                return f"an array of {value.dtype}"
        elif isinstance(value, Node):
            stack.append(value.state)
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list | tuple | set):
            stack.extend(value)
        elif not (value is None or isinstance(value, str | int | float | bool | bytes)):
            return f"a {type(value).__name__}"
    return "a tree without end" if stack else ""


def wrong(arrays: dict[str, Any], container: str, original: Original, changed: bytes) -> str:
    """What is not right about the arrays of a damaged file; "" where nothing is, or where nothing can be known."""
    import numpy as np

    if container == "npy":
        due = {"": np.load(io.BytesIO(changed), allow_pickle=False)} if arrays else {}
    elif container in CHECKSUMS and not _repacked(changed):
        due = original.arrays
    else:
        return ""
    same = set(arrays) == set(due) and all(np.array_equal(arrays[name], due[name]) for name in due)
    return "" if same else f"other arrays than the file's: {sorted(arrays)[:5]}"


def work(container: str, first: int, count: int, seed: int, seconds: float) -> None:
    """Read mutations `first` to `first + count` of a container; a line for each to stdout, at the end what it took.

    seconds: of processor time that each may take.
    """
    import encodings
    import pkgutil
    import resource

    from converters import readers
    from converters.readers.hdf5_file import confine
    from converters.readers.limits import Limits
    from pie_jax.errors import PackError

    for package in (readers, encodings):  # what is loaded when it is first needed, such as for decoding text
        for module in pkgutil.iter_modules(package.__path__):
            if module.name not in ("mbcs", "oem", "cp65001"):
                __import__(f"{package.__name__}.{module.name}")
    home = pathlib.Path("/dev/shm") if pathlib.Path("/dev/shm").is_dir() else None
    events: list[str] = []
    armed = [False]

    def hook(event: str, arguments: tuple) -> None:
        if not armed[0]:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & 0o1103):
                events.append(f"open {arguments[0]!r:.80} for writing")
        elif _FORBIDDEN.match(event):
            events.append(f"{event} {arguments!r:.80}")

    with tempfile.TemporaryDirectory(dir=home, prefix="pie_jax_fuzz_") as name:
        read = _reader(container)
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        found = originals(container, pathlib.Path(name))
        for original in found:
            original.arrays = read(original.path).state_dict()
            with contextlib.suppress(PackError):  # what a refusal imports
                read(original.path / "none")
        sys.addaudithook(hook)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        slowest = 0.0
        for k in range(first, first + count):
            rng = random.Random(f"{container} {seed} {k}")
            original = rng.choice(found)
            part, data = rng.choice(list(original.files.items()))
            part.write_bytes(changed := mutate(rng, data))
            if container in CONFINED:
                confine(Limits(stored=len(changed)), memory=False)
            else:
                _, hard = resource.getrlimit(resource.RLIMIT_CPU)
                resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))
            start, said, arrays = time.process_time(), "", None
            armed[0] = True
            try:
                checkpoint = read(original.path)
                said, outcome, arrays = strange(checkpoint), "r", checkpoint.state_dict()
            except PackError as error:
                outcome = "x"
                if "\n" in str(error) or len(str(error)) > 1000 or "--batch" in str(error):
                    said = f"a refusal of more than a line: {error}"
            except BaseException as error:
                outcome, said = "w", f"{type(error).__name__}: {error}"
            armed[0] = False
            took = time.process_time() - start
            slowest = max(slowest, took)
            if arrays is not None and not said:
                try:
                    said = wrong(arrays, container, original, changed)
                except Exception as error:
                    said = f"read, but not by its own library: {error}"
            said = f"{took:.1f} s" if took > seconds else said
            if events:
                said = f"{events[0]} and {len(events) - 1} more"
                events.clear()
            sys.stdout.write((json.dumps({"k": k, "wrong": said[:300]}) if said else outcome) + "\n")
            sys.stdout.flush()
            part.write_bytes(data)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps({"slowest_s": round(slowest, 3), "peak_mb": round(peak / 1024, 1)}))


def _repacked(data: bytes) -> bool:
    """Whether a zip archive was packed anew: its checksums hold, so what was changed in it cannot be known."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.testzip() is None
    except Exception:
        return False


def fuzz(container: str, *, count: int, seed: int = 0, seconds: float = SECONDS) -> dict[str, Any]:
    """One row: how many of `count` mutations were refused, read right, stopped; and what went wrong, first of all.

    Where a process ends, its mutation is tried again alone: a busy machine ends processes for no fault of a file.
    """
    row: dict[str, Any] = {"benchmark": "fuzz", "container": container, "seed": seed} | dict.fromkeys(
        ("mutations", "refused", "read", "stopped", "tried_again", "wrong"), 0) | {
        "slowest_s": 0.0, "peak_mb": 0.0, "first_wrong": []}
    start, alone = time.monotonic(), False
    while row["mutations"] < count:
        first, many = row["mutations"], 1 if alone else min(count - row["mutations"], RENEWED)
        words = (_WORKER, container, str(first), str(many), str(seed), str(seconds))
        with subprocess.Popen([sys.executable, "-m", "benchmarks.reliability.fuzz", *words], stdout=subprocess.PIPE,
                              cwd=ROOT, text=True) as process:
            watch = ended_after(process)
            for line in process.stdout or ():
                watch(PATIENCE)
                _account(row, line.strip())
            watch(0)
            code = process.wait()
        stopped = container in CONFINED and code == -signal.SIGXCPU
        if stopped or (code and alone):
            row["stopped"] += stopped
            if not stopped:
                _wrong(row, row["mutations"], f"the process ended by {code}")
            row["mutations"] += 1
        row["tried_again"] += (again := bool(code) and not stopped and not alone)
        alone = again
    return row | {"seconds": round(time.monotonic() - start, 1)}


def ended_after(process: subprocess.Popen) -> Callable[[float], None]:
    """watch(seconds): end the process unless watch is called again before; 0 stops watching."""
    timers: list[threading.Timer] = []

    def watch(seconds: float) -> None:
        while timers:
            timers.pop().cancel()
        if seconds:
            timers.append(threading.Timer(seconds, process.kill))
            timers[-1].daemon = True
            timers[-1].start()

    watch(PATIENCE)
    return watch


def _account(row: dict[str, Any], line: str) -> None:
    if line in ("r", "x"):
        row["read" if line == "r" else "refused"] += 1
    else:
        told = json.loads(line)
        if "k" not in told:
            for name, value in told.items():
                row[name] = max(row[name], value)
            return
        _wrong(row, told["k"], told["wrong"])
    row["mutations"] += 1


def _wrong(row: dict[str, Any], k: int, what: str) -> None:
    row["wrong"] += 1
    row["first_wrong"] = [*row["first_wrong"], f"{k}: {what}"][:5]


def main(argv: list[str] | None = None) -> int:
    """The command; exit code 1 where anything went wrong."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == [_WORKER]:
        container, *numbers, seconds = argv[1:]
        work(container, *map(int, numbers), float(seconds))
        return 0
    return _every(argv)


@command.guarded_main
def _every(argv: list[str]) -> int:
    from benchmarks.harness import describe_machine  # a process that reads damaged files needs neither
    from benchmarks.reliability.report import parser_of, say

    p = parser_of("fuzz", description=__doc__)
    p.add_argument("--count", type=int, default=100_000, help="mutations a container (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", nargs="+", metavar="CONTAINER", help="some of the containers")
    arguments = p.parse_args(argv)
    failed = 0
    for container in arguments.only or containers():
        row = fuzz(container, count=arguments.count, seed=arguments.seed)
        failed += row["wrong"]
        say(row | describe_machine(), arguments.out)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
