"""What every command shares: parsing with one-line errors, suggestions, exit codes. Imports no JAX.

A command is `main(argv) -> int`. Arguments are parsed before JAX is imported, so that `--help` and a misspelt option
answer at once.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import gc
import importlib
import io
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from pie_jax import __version__
from pie_jax.bounds import AUTOTUNE
from pie_jax.cli.commands import COMMANDS
from pie_jax.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    PieError,
    ResourceError,
    UsageError,
    choose,
    nearest,
    of_the_whole_run,
    printable,
)

DEVICES = ("auto", "cpu", "gpu", "tpu")
_COLLECT_AFTER = 10_000  # more objects than went; Python's own 700 is too often while programs are traced
_SMALLER = "--batch"


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, name the nearest option, and end with exit code 2."""

    def __init__(self, *, module: str, description: str | None = None, **knobs):
        """module: the command is `python -m MODULE`, or `pie WORDS` where it was called so; knobs: as argparse's.

        description: its first line is shown, so a module can give its own docstring.
        """
        super().__init__(prog=called_as(module), description=(description or "").split("\n")[0], allow_abbrev=False,
                         formatter_class=_Help, **knobs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_args(self, args: Sequence[str] | None=None, namespace: argparse.Namespace | None=None) -> Any:
        arguments, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options = [text for action in self._actions for text in action.option_strings]
            self.error(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0].split('=')[0], options)}")
        for name, value in vars(arguments).items():  # --pack=~/p: the shell leaves it as it is
            if isinstance(value, str):
                setattr(arguments, name, os.path.expanduser(value))
            elif isinstance(value, list) and all(isinstance(each, str) for each in value):
                setattr(arguments, name, [os.path.expanduser(each) for each in value])
        return arguments


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults are shown where they say something, and an epilog is kept as it is."""

    def _get_help_string(self, action):
        if action.default in (None, False, []) or action.default is argparse.SUPPRESS:
            return action.help
        return action.help if "default" in (action.help or "") else super()._get_help_string(action)


def called_as(module: str) -> str:
    """How a user calls the command of a module: as `pie WORDS` where this process is `pie`, else `python -m MODULE`."""
    script = pathlib.PurePath(sys.argv[0])
    if script.name in ("pie", "pie.exe") or script.parts[-2:] == ("pie_jax", "__main__.py"):
        for entry in COMMANDS:
            if entry.module.removesuffix(".__main__") == module:
                return " ".join(["pie", *entry.words])
    return f"python -m {module}"


def add_common(parser: argparse.ArgumentParser) -> None:
    """--pack --device --autotune --json --debug --version."""
    parser.add_argument("--pack", default="demo", metavar="DIR", help="folder of a pack, or the name of one that ships")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute")
    add_autotune(parser)
    parser.add_argument("--json", action="store_true", help="write the results to stdout as JSON")
    add_debug(parser)


def add_autotune(parser: argparse.ArgumentParser) -> None:
    """--autotune, for what runs networks."""
    parser.add_argument("--autotune", choices=AUTOTUNE, default="auto",
                        help="measure once which forms of convolutions are fastest on this processor; auto: with more "
                        "than two threads, for with fewer it is known")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """--debug --version."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"pie_jax {__version__}")


def did_you_mean(name: str, names: Iterable[str], *, count: int = 4) -> str:
    """'; did you mean a, b?' of the nearest of `names`, or '' where none is near."""
    near = nearest(name, names, count=count)
    return f"; did you mean {', '.join(near)}?" if near else ""


def list_of(what: str, values: list[str] | None, names: Iterable[str]) -> tuple[str, ...] | None:
    """Repeated or comma-separated values, each one of `names`, without doubles; None stays None."""
    if values is None:
        return None
    names = list(names)
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"{what}: expected one or more of {', '.join(names)}")
    return tuple(dict.fromkeys(choose(what, part, names) for part in parts))


def number(what: str, text: str) -> float:
    """A finite number; UsageError."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{what}: expected a number, got {text!r}") from None
    if not abs(value) < 1e9:
        raise UsageError(f"{what}: expected a finite number, got {text!r}")
    return value


def assignment(what: str, text: str) -> tuple[str, float]:
    """'NAME=VALUE' as a pair; UsageError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{what}: expected NAME=VALUE, got {text!r}")
    return name.strip(), number(f"{what} {name.strip()}", value)


def configure(device: str, *, autotune: str | None = None, ahead: str | None = None) -> None:
    """Set JAX up for a command: compilation cache and device. Raises ResourceError where there is no such device.

    autotune: what `nn.autotune.choose_bounds` is told; None for a command that runs no networks.
    ahead: whose programs are read in threads from now on (see `programs.read_ahead`).
    """
    from pie_jax import runtime

    runtime.configure(device=None if device == "auto" else device)
    if not runtime.keeps_programs():
        print("note: compiled programs are not kept, so every command compiles anew: "
              f"{runtime.cache_folder() or 'there is no home folder'} cannot be written; set "
              "JAX_COMPILATION_CACHE_DIR to a folder that can", file=sys.stderr)
    if ahead is not None:
        from pie_jax.programs import read_ahead

        read_ahead(ahead)
    if autotune is not None:
        from pie_jax.nn.autotune import choose_bounds

        choose_bounds(autotune)


def guarded_main(main: Callable[[list[str]], int | None]) -> Callable[..., int]:
    """A command's `main(argv)`, in which an error is one line on stderr and an exit code (see `guarded`); None is 0."""
    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        return guarded(lambda: main(words) or EXIT_OK, debug="--debug" in words)

    return wrapped


def staged_main(package: str, *, smaller: str = _SMALLER, ahead: bool = False) -> Callable[..., int]:
    """The `main(argv)` of a command whose package has `arguments.parse` and `run.run`; it returns the exit code.

    smaller: what to set where memory is too little.
    ahead: JAX is set up before `run` is imported, and programs are read in threads beside that.
    `run`, and JAX with it, is imported only after the arguments are found good.
    """
    def main(argv: Sequence[str] | None = None) -> int:
        """Run the command; returns its exit code."""
        words = list(sys.argv[1:] if argv is None else argv)

        def work() -> int:
            arguments = importlib.import_module(f"{package}.arguments").parse(words)
            if not ahead:
                return importlib.import_module(f"{package}.run").run(arguments)
            configure(arguments.device, autotune=arguments.autotune, ahead=package.removeprefix("pie_jax."))
            try:
                return importlib.import_module(f"{package}.run").run(arguments)
            finally:  # an error does not wait for what is being read
                importlib.import_module("pie_jax.programs").stop_making()

        return guarded(work, debug="--debug" in words, smaller=smaller)

    return main


@functools.cache
def _collect_seldom() -> None:
    """Look for garbage less often, and not at the end: most of what imports and tracing make lives until then."""
    often, *later = gc.get_threshold()
    if 0 < often < _COLLECT_AFTER:
        gc.set_threshold(_COLLECT_AFTER, *later)
    atexit.register(gc.freeze)


def guarded(work: Callable[[], int], *, debug: bool, smaller: str = _SMALLER) -> int:
    """`work()`'s exit code; errors become one line on stderr and their own exit code, without a traceback.

    Call it before JAX is imported: XLA's own log lines are then kept off stderr too, unless `debug`.
    """
    _collect_seldom()
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for stream in (sys.stdout, sys.stderr):  # no name of a file may stop work, whatever the terminal can show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return work()
    except PieError as error:
        return _report(error, str(error), error.exit_code, debug)
    except KeyboardInterrupt as error:
        return _report(error, "interrupted", EXIT_INTERRUPTED, debug)
    except MemoryError as error:
        return _report(error, f"not enough memory; use a smaller {smaller}", ResourceError.exit_code, debug)
    except BrokenPipeError as error:
        sys.stdout = open(os.devnull, "w")  # the reader of stdout has gone; do not fail again at exit
        return _report(error, "the reader of the output closed it", 1, debug)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
            return _report(error, f"not enough device memory; use a smaller {smaller} ({text})",
                           ResourceError.exit_code, debug)
        if isinstance(error, OSError) and error.errno is not None:
            step = "free space" if of_the_whole_run(error) else "check that it is there and may be used"
            return _report(error, f"{error.filename or 'disk'}: {error.strerror}; {step}, and run again",
                           ResourceError.exit_code, debug)
        return _report(error, f"unexpected {type(error).__name__}: {text}; run again with --debug and report it", 1,
                       debug)


def _report(error: BaseException, text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    try:
        print(f"error: {printable(text)}", file=sys.stderr, flush=True)
    except OSError:
        pass
    return code
