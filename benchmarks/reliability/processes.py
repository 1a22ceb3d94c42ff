"""Several processes on one folder of results, and on one pack: no photo done twice, none lost, no part lost.

    python -m benchmarks.reliability.processes --rounds 10 --out benchmarks/results/reliability/processes.jsonl
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from benchmarks.reliability.children import Child
from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import CONVERT, EMBED, Command, World, contents, leftovers, make_world
from pie_jax.cli import command as cli
from pie_jax.config import CONTROLS
from pie_jax.pack import load_pack, read_manifest

FOUR = dataclasses.replace(EMBED, argv=("a.png", "b.png", "c.png", "d.png", *EMBED.argv[2:]))


def quick(command: Command, *, steps: str = "2,1") -> Command:
    """The same command with fewer steps."""
    at = command.argv.index("--steps") + 1
    return dataclasses.replace(command, argv=(*command.argv[:at], steps, *command.argv[at + 1:]))


def alone(command: Command, world: World, folder: pathlib.Path) -> dict[str, str]:
    """What one process makes. AssertionError where it fails."""
    child = Child(command, world.copy(folder))
    code = child.wait()
    assert code == 0, child.err[-500:]
    return contents(folder, command.made)


def shares(command: Command, world: World, folder: pathlib.Path, count: int, due: dict[str, str]) -> str:
    """`count` processes at once, each with its own share of the photos; "" or what is not as it should be."""
    world.copy(folder)
    children = [Child(command, folder, more=("--share", f"{i}/{count}"), name=f"-{i}") for i in range(count)]
    codes = [child.wait() for child in children]
    if any(codes):
        return f"exit codes {codes}: {[child.err[-200:] for child in children]}"
    done = sorted(line.split()[0] for child in children for line in child.out.splitlines() if line)
    if done != sorted({name.rsplit("/", 1)[0] for name in due if "/" in name and not name.endswith((".csv", ".html"))}):
        return f"done: {done}"
    return _compared(command, folder, due)


def same(command: Command, world: World, folder: pathlib.Path, count: int, due: dict[str, str]) -> str:
    """`count` processes at once with the same photos: who finds another at work says so, exit code 2."""
    world.copy(folder)
    children = [Child(command, folder, name=f"-{i}") for i in range(count)]
    codes = [child.wait() for child in children]
    if not set(codes) <= {0, 2} or 0 not in codes:
        return f"exit codes {codes}: {[child.err[-200:] for child in children]}"
    if any(code == 2 and "another run" not in child.err for code, child in zip(codes, children)):
        return "exit code 2 without a word of the other run"
    return _compared(command, folder, due)


def one_pack(world: World, folder: pathlib.Path, count: int) -> str:
    """`count` conversions at once into one pack, two of them of the same part where there are more than controls."""
    world.copy(folder)
    controls = [sorted(CONTROLS)[i % len(CONTROLS)] for i in range(count)]
    commands = [dataclasses.replace(CONVERT, argv=("rig.npz", "--control", control, "--pack", "pack"))
                for control in controls]
    children = [Child(command, folder, name=f"-{i}") for i, command in enumerate(commands)]
    codes = [child.wait() for child in children]
    if any(codes):
        return f"exit codes {codes}: {[child.err[-200:] for child in children]}"
    manifest = read_manifest(folder / "pack")
    lost = [name for name in (f"rignet_{control}" for control in controls)
            if "converted_from" not in manifest["training"].get(name, {})]
    lost += [part for part in read_manifest(world.folder / "pack")["parts"] if part not in manifest["parts"]]
    if lost:
        return f"lost {', '.join(lost)}"
    load_pack(folder / "pack")
    left = leftovers(folder)
    return f"left behind: {', '.join(left)}" if left else ""


def _compared(command: Command, folder: pathlib.Path, due: dict[str, str]) -> str:
    found = contents(folder, command.made)
    wrong = sorted(name for name in {*found, *due} if found.get(name) != due.get(name))
    left = leftovers(folder)
    return f"differs: {', '.join(wrong)}" if wrong else f"left behind: {', '.join(left)}" if left else ""


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """All kinds, with two and four processes; exit code 1 where one is not as it should be."""
    parser = parser_of("processes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each kind (default: %(default)s)")
    arguments = parser.parse_args(argv)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="pie_jax_processes_") as place:
        base = pathlib.Path(place)
        world, command = make_world(base / "world"), quick(FOUR)
        due = alone(command, world, base / "due")
        kinds: dict[str, Callable[[pathlib.Path, int], str]] = {
            "one folder, shares": lambda folder, count: shares(command, world, folder, count, due),
            "one folder, the same photos": lambda folder, count: same(command, world, folder, count, due),
            "one pack": lambda folder, count: one_pack(world, folder, count)}
        for name, kind in kinds.items():
            for count in (2, 4):
                began, found = time.monotonic(), {}
                for _ in range(arguments.rounds):
                    problem = kind(base / "work", count)
                    if problem:
                        print(f"{name}, {count} processes: {problem}", file=sys.stderr)
                        found[problem] = found.get(problem, 0) + 1
                    shutil.rmtree(base / "work")
                bad += sum(found.values())
                row = {"kind": name, "processes": count, "rounds": arguments.rounds,
                       "well": arguments.rounds - sum(found.values()), "problems": found,
                       **circumstances(began)}
                say(row, arguments.out)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
