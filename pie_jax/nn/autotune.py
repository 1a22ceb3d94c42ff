"""Bounds between the forms of a convolution, measured on this machine once and kept for its later starts.

`command.configure` calls `choose_bounds`, so every command works by what was measured. What is measured is kept in a
file of the cache folder for each processor, number of threads, version of JAX and of the kernels; a choice that cannot
be kept is not made, so that a run and its resumption are made by the same bounds.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax

from pie_jax import runtime
from pie_jax.bounds import ALL, AUTOTUNE, Bounds, Range, bounds_from
from pie_jax.errors import PieError
from pie_jax.io import locked_folder, read_json, write_json
from pie_jax.nn.probes import FORMS, Probe, Times, time_probes

COMMITTED_THREADS = 2  # up to so many the committed bounds were measured
MARGIN = 1.2  # how many times as fast a form must be to take the place of the committed one

TimeProbes = Callable[[Sequence[Probe]], Mapping[Probe, Times]]


class Question(NamedTuple):
    """Which form a class of channels takes for arrays of up to `split` elements, and which for larger ones."""

    channels: int  # of a `Range` in Bounds
    split: int
    small: Probe
    large: Probe


def _question(form: str, channels: int, split: int, small: tuple, large: tuple) -> Question:
    """small, large: (side, I, O) of the two probes."""
    probes = (Probe(form=form, shape=(1, side, side, inputs), features=features)
              for side, inputs, features in (small, large))
    return Question(channels, split, *probes)


# Layers of published generators and of VGG-16. Larger arrays are more strips of the same kind.
QUESTIONS = (
    _question("winograd", 32, 2**20, (64, 32, 32), (192, 32, 32)),
    _question("winograd", 64, 2**20, (64, 64, 64), (144, 64, 64)),
    _question("winograd", 128, 2**19, (32, 128, 128), (96, 128, 128)),
    _question("winograd", 256, 2**18, (16, 512, 512), (48, 256, 256)),
    _question("fused_upsample", 16, 2**19, (64, 32, 16), (192, 32, 16)),
)
PROBES = tuple(probe for question in QUESTIONS for probe in (question.small, question.large))


def choose_bounds(how: str) -> None:
    """Have this process work by the bounds of this machine; call it after `runtime.configure`, before any program.

    how: "auto", measured where there are more threads than the committed bounds were measured with; "always"; "never".
    The first call in a process holds. An accelerator has no bounds.
    Errors: ValueError (another word).
    """
    if how not in AUTOTUNE:
        raise ValueError(f"how: expected one of {AUTOTUNE}, got {how!r}")
    if runtime.backend().is_cpu and not runtime.has_chosen_bounds():
        runtime.choose_bounds(machine_bounds(how))


def machine_bounds(how: str, *, time: TimeProbes = time_probes) -> Bounds:
    """The bounds of this machine: read, or measured by `time` and kept; the committed ones where neither can be."""
    committed = runtime.backend().bounds
    cache = runtime.cache_folder()
    wanted = how == "always" or how == "auto" and runtime.threads() > COMMITTED_THREADS
    if not wanted or cache is None or not runtime.keeps_programs():
        return committed
    facts = machine_facts()
    path = cache / "bounds" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        with locked_folder(path.parent):  # processes that start together measure once
            found = _read(path, facts)
            if found is None:
                times = time(PROBES)
                found = _read(path, facts)  # where there are no locks another process may have been sooner
                if found is None:
                    found = decide(committed, times)
                    write_json(path, {"machine": facts, "bounds": dataclasses.asdict(found), "probes": [
                        {**dataclasses.asdict(probe), **times[probe]._asdict()} for probe in PROBES]})
            return found
    except (PieError, OSError, jax.errors.JaxRuntimeError):
        return committed  # a choice that is not kept might be another when the run is resumed


def decide(committed: Bounds, times: Mapping[Probe, Times]) -> Bounds:
    """The bounds that the times of PROBES speak for.

    A form must be `MARGIN` times as fast as the committed one to take its place. A class of channels whose two answers
    are those of the committed bounds keeps its range.
    """
    found: dict[str, list[Range]] = {form: [] for form in FORMS}
    for channels, split, small, large in QUESTIONS:
        known = small.range_in(committed)
        before = tuple(known.holds(probe.size) for probe in (small, large))
        now = tuple(_other_is_faster(used, times[probe])
                    for used, probe in zip(before, (small, large), strict=True))
        span = known[1:] if now == before else (0 if now[0] else split, ALL if now[1] else split)
        found[small.form].append(Range(channels, *(span if any(now) else (0, 0))))
    return Bounds(**{form: tuple(ranges) for form, ranges in found.items()})


def _other_is_faster(committed: bool, times: Times) -> bool:
    """Whether a probe takes its other form; committed: whether it does by the committed bounds.

    A form that is to take the committed one's place is judged by its worst pass, the committed one by its best.
    """
    if committed:
        return min(times.other) <= MARGIN * max(times.direct)
    return MARGIN * max(times.other) < min(times.direct)


def machine_facts() -> dict[str, str | int]:
    """What bounds are measured for: the processor, the threads, the versions of JAX and of the kernels."""
    return {"processor": _processor(), "threads": runtime.threads(), "jax": jax.__version__,
            "jaxlib": importlib.metadata.version("jaxlib"), "kernels": _kernels()}


def _read(path: pathlib.Path, facts: Mapping) -> Bounds | None:
    data = read_json(path)
    return bounds_from(data.get("bounds")) if data.get("machine") == facts else None


@functools.cache
def _kernels() -> str:
    """A hash of the code that is timed, and of what is asked."""
    here = pathlib.Path(__file__).parent
    code = hashlib.sha256()
    for path in sorted([*(here / "layers").glob("*.py"), here / "probes.py", here / "autotune.py"]):
        code.update(path.read_bytes())
    return code.hexdigest()[:32]


_CPUINFO = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "CPU implementer", "CPU part",
            "CPU variant")


def _processor() -> str:
    """The model of the first processor, as Linux tells it; elsewhere what Python knows."""
    try:
        first = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    return " ".join([platform.machine(), *(told[name] for name in _CPUINFO if name in told)])
