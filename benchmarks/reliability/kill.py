"""Commands killed at random moments and run again: nothing may be lost or damaged, and the results must be the same.

    python -m benchmarks.reliability.kill --moments 200 --out benchmarks/results/reliability/kill.jsonl

Half of the moments are random times, half are just before a random one of the file operations that the command makes.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.reliability.children import Child
from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import COMMANDS, EDIT, EMBED_ONE, Command, World, contents, leftovers, make_world
from pie_jax.cli import command as cli

_BEFORE = 0.35  # share of a run that passes before anything is written, which is killed more seldom


@dataclasses.dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a command makes that nobody disturbs."""

    results: dict[str, str]
    operations: int
    seconds: float


def undisturbed(command: Command, world: World, folder: pathlib.Path) -> Undisturbed:
    """Run it in a new `folder`, twice: the first time compiles. AssertionError where it fails by itself."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        child = Child(command, world.copy(folder))
        code = child.wait()
        assert code == 0, f"{command.module}: exit code {code}: {child.err[-500:]}"
    return Undisturbed(results=contents(folder, command.made), operations=child.operations,
                       seconds=time.monotonic() - child.began)


def add_embedding(world: World) -> None:
    """Give the world its `done/a`, which edits need."""
    child = Child(EMBED_ONE, world.folder)
    code = child.wait()
    assert code == 0, child.err[-500:]


def killed(command: Command, world: World, folder: pathlib.Path, due: Undisturbed, *, at: int | float,
           number: int = signal.SIGKILL) -> str:
    """Kill the command in a new `folder` and run it again: "" where all is as it should be, else what is not.

    at: a number of file operations, or seconds. number: the signal.
    """
    world.copy(folder)
    child = Child(command, folder, kill_at=at if isinstance(at, int) else None)
    if isinstance(at, float):
        time.sleep(max(at - (time.monotonic() - child.began), 0.0))
        child.signal(number)
    code = child.wait()
    if number == signal.SIGKILL and code not in (0, -signal.SIGKILL):
        return f"the first run ended with {code}: {child.err[-200:]}"
    again = Child(command, folder)
    code = again.wait()
    if code != 0:
        return f"the rerun ended with {code}: {again.err[-200:]}"
    found = contents(folder, command.made)
    wrong = sorted(name for name in {*found, *due.results} if found.get(name) != due.results.get(name))
    if wrong:
        return f"differs: {', '.join(wrong)}"
    left = leftovers(folder)
    return f"left behind: {', '.join(left)}" if left else ""


def moments(due: Undisturbed, count: int, *, seed: int) -> list[int | float]:
    """Random numbers of file operations and random seconds, in turn."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(due.operations)) if i % 2 == 0 else float(rng.uniform(_BEFORE, 1.0) * due.seconds)
            for i in range(count)]


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """Kill every command at its share of the moments; exit code 1 where a rerun is not the same."""
    parser = parser_of("kill", description=__doc__)
    parser.add_argument("--moments", type=int, default=200, help="in all (default: %(default)s)")
    parser.add_argument("--command", choices=COMMANDS, action="append", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    names = arguments.command or list(COMMANDS)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="pie_jax_kill_") as place:
        base = pathlib.Path(place)
        world = make_world(base / "world")
        if EDIT in (COMMANDS[name] for name in names):
            add_embedding(world)
        for name in names:
            command, began = COMMANDS[name], time.monotonic()
            due = undisturbed(command, world, base / f"{name}-due")
            found: dict[str, int] = {}
            times = moments(due, arguments.moments // len(names), seed=arguments.seed)
            for at in times:
                problem = killed(command, world, base / "killed", due, at=at)
                if problem:
                    found[problem] = found.get(problem, 0) + 1
                    print(f"{name} at {at}: {problem}", file=sys.stderr)
                shutil.rmtree(base / "killed")
            bad += sum(found.values())
            row = {"command": name, "moments": len(times), "same": len(times) - sum(found.values()), "problems": found,
                   "operations": due.operations, "run_s": round(due.seconds, 1),
                   **circumstances(began)}
            say(row, arguments.out)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
