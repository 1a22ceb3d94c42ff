"""Many embeddings and edits in one process: memory that does not grow, and nothing compiled after the first.

    python -m benchmarks.reliability.leaks --edits 500 --embeds 100 --out benchmarks/results/reliability/leaks.jsonl
    python -m benchmarks.reliability.leaks --portraits 1000 --out benchmarks/results/reliability/leaks.jsonl

The second watches one `pie embed` of so many small photos from outside.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from benchmarks.reliability.children import Child
from benchmarks.reliability.processes import quick
from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import EMBED, World, make_world, small_pack
from pie_jax.cli import command as cli
from pie_jax.config import EmbedConfig, StageConfig
from pie_jax.io import save_png
from pie_jax.portrait import edit_portrait, embed_portraits

STAGES = (StageConfig(space="w", steps=2, chunk=2), StageConfig(space="w_plus", steps=1, chunk=2))
_SETTLING = 0.2  # share of the calls after which the memory is watched


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """What a number of equal calls did to their process."""

    kb_a_call: float  # slope of the resident memory
    compiled: int  # programs, after the first call
    peak_mb: float

    def row(self) -> dict:
        return {"kb_a_call": round(self.kb_a_call, 2), "compiled": self.compiled, "peak_mb": round(self.peak_mb)}


def resident(process: int | None = None) -> int:
    """Bytes of memory that a process holds (Linux)."""
    pages = pathlib.Path(f"/proc/{process or os.getpid()}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def slope(values: Sequence[float]) -> float:
    """The median rise from one value to the next, over all pairs (Theil and Sen), once they have settled."""
    from scipy.stats import theilslopes

    settled = np.asarray(values[int(_SETTLING * len(values)):])
    return float(theilslopes(settled)[0])


def watched(call: Callable[[int], object], count: int) -> Growth:
    """Call it `count` times with its number; the first is not watched."""
    compiled: list[str] = []

    def note(event: str, _: float, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    call(0)
    jax.monitoring.register_event_duration_secs_listener(note)
    memory = []
    for number in range(1, count):
        call(number)
        memory.append(resident())
    jax.monitoring.unregister_event_duration_listener(note)
    return Growth(kb_a_call=slope(memory) / 1024, compiled=len(compiled), peak_mb=max(memory) / 2**20)


def edits_and_embeds(edits: int, embeds: int) -> tuple[Growth, Growth]:
    """As many edits of one portrait, each another, and as many embeddings, each of another portrait."""
    pack = small_pack()
    config = EmbedConfig(energy=pack.configs.energy, stages=STAGES)
    rng = np.random.default_rng(0)
    portraits = rng.uniform(size=(max(embeds, 1), 32, 32, 3)).astype(np.float32)
    embedding = embed_portraits(pack, portraits[:1], config=config)[0]
    name = (pack.morphable.expression_names or ("expression_0",))[0] if pack.morphable else ""

    def edit(number: int) -> None:
        edit_portrait(pack, embedding, yaw=float(number % 20 - 10), expression={name: 0.1 * (number % 7)},
                      light=(float(number % 90), 20.0, 0.7), detail=0.0)

    return watched(edit, edits), watched(
        lambda number: embed_portraits(pack, portraits[number:number + 1], config=config), embeds)


def one_run(world: World, folder: pathlib.Path, count: int) -> dict:
    """The memory of one embed command over `count` photos, by how many are done."""
    world.copy(folder)
    rng, photos = np.random.default_rng(0), folder / "photos"
    photos.mkdir()
    for number in range(count):
        save_png(photos / f"{number:05d}.png", rng.uniform(size=(40, 40, 3)))
    command = dataclasses.replace(quick(EMBED), argv=("photos", *quick(EMBED).argv[2:-1], "4", "--quiet"))
    child = Child(command, folder)
    memory: dict[int, int] = {}
    while child.process.is_alive():
        done = child.files[0].read_bytes().count(b"\n") if child.files[0].exists() else 0
        try:
            memory[done] = resident(child.process.pid)
        except (FileNotFoundError, IndexError, ProcessLookupError):
            break
        time.sleep(0.5)
    code = child.wait()
    assert code == 0, child.err[-500:]
    numbers = sorted(memory)
    settled = [n for n in numbers if n >= _SETTLING * count]
    rise = np.polyfit(settled, [memory[n] for n in settled], 1)[0] if len(settled) > 1 else float("nan")
    return {"photos": count, "kb_a_call": round(float(rise) / 1024, 2), "peak_mb": round(max(memory.values()) / 2**20),
            "at_mb": {str(n): round(memory[n] / 2**20) for n in numbers[::max(1, len(numbers) // 10)]}}


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """Measure; the rows say how it was."""
    parser = parser_of("leaks", description=__doc__)
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--embeds", type=int, default=100)
    parser.add_argument("--portraits", type=int, help="one embed command over so many photos instead")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    if arguments.portraits:
        with tempfile.TemporaryDirectory(prefix="pie_jax_leaks_") as place:
            world = make_world(pathlib.Path(place) / "world")
            rows = [{"what": "portraits in one embed command", **one_run(world, pathlib.Path(place) / "work",
                                                                         arguments.portraits)}]
    else:
        edits, embeds = edits_and_embeds(arguments.edits, arguments.embeds)
        rows = [{"what": "edits in one process", "calls": arguments.edits, **edits.row()},
                {"what": "embeddings in one process", "calls": arguments.embeds, **embeds.row()}]
    for row in rows:
        say(row | circumstances(began), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
