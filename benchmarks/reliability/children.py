"""Commands in processes of their own that have everything imported already, and can be killed at any moment.

The processes come from a server that has imported the package but not started JAX, so that each costs a second. What
is killed is a whole process, as by the system.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.reliability.world import Command

_PRELOADED = ("pie_jax.embed.run", "pie_jax.edit.run", "pie_jax.training.dfr", "converters.rignet",
              "benchmarks.reliability.children", "orbax.checkpoint")
_WRITES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkstemp")
LONGEST = 300.0  # seconds; more is a hang


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


class Child:
    """A command at work in `folder`; what it prints is in `folder`.out and `folder`.err.

    kill_at: the number of the file operation in its folder before which it kills itself by SIGKILL; None: none.
    """

    def __init__(self, command: Command, folder: pathlib.Path, *, more: Sequence[str] = (), kill_at: int | None = None,
                 name: str = ""):
        self.folder, self.began = folder, time.monotonic()
        self.files = [folder.with_name(f"{folder.name}{name}.{kind}") for kind in ("out", "err", "count")]
        self.process = _context().Process(target=_work, args=(
            command.module, [*command.argv, *more], str(folder), [str(file) for file in self.files], kill_at))
        self.process.start()

    def signal(self, number: int) -> None:
        """Send it a signal if it still runs."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it; TimeoutError, and the end of it, where it hangs."""
        self.process.join(LONGEST)
        if self.process.exitcode is None:
            self.signal(signal.SIGKILL)
            raise TimeoutError(f"{self.folder}: has not ended in {LONGEST:.0f} s")
        return self.process.exitcode

    @property
    def out(self) -> str:
        return self.files[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.files[1].read_text(errors="replace")

    @property
    def operations(self) -> int:
        """How many file operations it made in its folder, once it has ended by itself."""
        return int(self.files[2].read_text())


def _work(module: str, argv: list[str], folder: str, files: list[str], kill_at: int | None) -> None:
    os.chdir(folder)
    for file, stream in zip(files, (1, 2)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    _save_at_every_chance()
    count = _count_writes(os.path.abspath(folder), kill_at)
    code = importlib.import_module(module).main(argv)
    pathlib.Path(files[2]).write_text(str(count[0]))
    sys.stdout.flush()
    sys.exit(code)


def _save_at_every_chance() -> None:
    from pie_jax.embed import work
    from pie_jax.training.core import loop

    work._SAVE_SECONDS = 0.0
    loop.run.__kwdefaults__["checkpoint_seconds"] = 0.0


def _count_writes(folder: str, kill_at: int | None) -> list[int]:
    """Count what changes a file or folder below `folder` from now on, and die before number `kill_at`.

    Who connects to another machine is refused.
    """
    count = [0]

    def hook(event: str, args: tuple) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):  # nothing needs the network
            raise ConnectionRefusedError(f"connects to {args[1]}")
        if event not in _WRITES or not isinstance(args[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        if not os.path.join(folder, os.fsdecode(args[0])).startswith(folder + os.sep):
            return
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    sys.addaudithook(hook)
    return count
