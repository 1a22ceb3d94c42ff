"""The one room that writes files, made to fail at each of its operations: a full disk, a broken one, a read-only one.

    python -m benchmarks.reliability.faults --out benchmarks/results/reliability/faults.jsonl

Every command is run once for each operation and each error of the system. It must end with one line and exit code 7,
or 1 where another photo could be done; what was there before must still be there; and the next run must give the same
results as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import (
    COMMANDS,
    EMBED_ONE,
    Command,
    contents,
    leftovers,
    make_world,
)
from pie_jax.cli import command as cli
from pie_jax.io import atomic

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT)


class Disk:
    """What the io room sees of the system, of which operation `fail_at` fails with the error number `error`.

    An operation is a temporary file made, a block written, a sync, a change of mode, a file moved to its place.
    """

    def __init__(self, *, fail_at: int | None = None, error: int = errno.ENOSPC):
        self.fail_at, self.error, self.count = fail_at, error, 0

    def _may_fail(self) -> None:
        self.count += 1
        if self.count - 1 == self.fail_at:
            raise OSError(self.error, os.strerror(self.error))

    def _counted(self, function: Any) -> Any:
        def call(*args: Any, **knobs: Any) -> Any:
            self._may_fail()
            return function(*args, **knobs)

        return call

    def _open(self, descriptor: int, mode: str) -> io.BufferedWriter:
        disk = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                disk._may_fail()
                return super().write(data)

        return io.BufferedWriter(Raw(descriptor, mode))

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Disk]:
        """Everything that `pie_jax.io` writes goes to this disk inside the block."""
        system, temporary = mock.Mock(wraps=os), mock.Mock(wraps=tempfile)
        system.fdopen, system.path = self._open, os.path
        for name in ("fsync", "chmod", "replace", "posix_fallocate"):
            if hasattr(os, name):
                setattr(system, name, self._counted(getattr(os, name)))
        for name in ("mkstemp", "TemporaryFile"):
            setattr(temporary, name, self._counted(getattr(tempfile, name)))
        with mock.patch.object(atomic, "os", system), mock.patch.object(atomic, "tempfile", temporary):
            yield self


@contextlib.contextmanager
def without_locks(error: int | None = errno.ENOLCK) -> Iterator[None]:
    """No file locks inside the block: refused with this error, as by a network's file system, or (None) no module."""
    if error is None:
        with mock.patch.dict(sys.modules, fcntl=None):
            yield
        return
    with mock.patch("fcntl.flock", side_effect=OSError(error, os.strerror(error))):
        yield


def run(command: Command, folder: pathlib.Path, *, more: Sequence[str] = ()) -> tuple[int, list[str]]:
    """The command in this process, in `folder`: its exit code and what it wrote to stderr, by lines."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = command.main()([*command.argv, *more])
    return code, said.getvalue().splitlines()


def trial(command: Command, before: pathlib.Path, folder: pathlib.Path, due: dict[str, str], disk: Disk) -> str:
    """One run on a failing disk in a copy of the folder `before`, then one on a sound disk.

    "" where all is as it should be, else what is not.
    """
    shutil.copytree(before, folder)
    old = contents(folder, command.made)
    with disk.mounted():
        code, said = run(command, folder)
    errors = [line for line in said if line.startswith("error:")]
    kept = code == 0 and any("going on without" in line for line in said)  # a checkpoint is worth no run
    if code not in (1, 7) and not kept:
        return f"exit code {code}"
    if not kept and (not errors or any("unexpected" in line for line in errors) or len(set(errors)) > 1):
        return f"says {errors or said[-1:]}"
    if any("Traceback" in line for line in said):
        return "shows a traceback"
    now = contents(folder, command.made)
    lost = sorted(name for name in old if now.get(name) not in (old[name], due.get(name)))
    if lost:
        return f"lost {', '.join(lost)}"
    code, said = run(command, folder)
    if code != 0:
        return f"the next run: exit code {code}: {said[-1:]}"
    if contents(folder, command.made) != due:
        return "the next run gives other results"
    left = leftovers(folder)
    return f"left behind: {', '.join(left)}" if left else ""


def prepared(command: Command, before: pathlib.Path, folder: pathlib.Path) -> tuple[dict[str, str], int]:
    """What the command makes on a sound disk, and in how many operations. The first of two runs fills its caches."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        with Disk().mounted() as disk:
            code, said = run(command, folder)
        assert code == 0, said
    return contents(folder, command.made), disk.count


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """All operations of all commands and all errors; exit code 1 where one is not as it should be."""
    parser = parser_of("faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th fault")
    parser.add_argument("--command", choices=COMMANDS, action="append", help="only these")
    arguments = parser.parse_args(argv)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="pie_jax_faults_") as place:
        base = pathlib.Path(place)
        world = make_world(base / "world")
        code, said = run(EMBED_ONE, world.folder)
        assert code == 0, said
        for name in arguments.command or list(COMMANDS):
            command, began = COMMANDS[name], time.monotonic()
            due, operations = prepared(command, world.folder, base / f"{name}-due")
            cases = [(at, error) for at in range(operations) for error in ERRORS][::arguments.every]
            found: dict[str, int] = {}
            for at, error in cases:
                problem = trial(command, world.folder, base / "work", due, Disk(fail_at=at, error=error))
                if problem:
                    print(f"{name}, operation {at}, {os.strerror(error)}: {problem}", file=sys.stderr)
                    found[problem] = found.get(problem, 0) + 1
                shutil.rmtree(base / "work")
            bad += sum(found.values())
            row = {"command": name, "operations": operations, "errors": len(ERRORS), "faults": len(cases),
                   "well": len(cases) - sum(found.values()), "problems": found,
                   **circumstances(began)}
            say(row, arguments.out)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
