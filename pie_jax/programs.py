"""Compiled functions whose programs outlive the process: made once for each machine.

JAX's compilation cache finds a program by what tracing and lowering make of a function. Here that is done once for each
version of the code: later processes find the program by the function's name and the types of its arguments. A command
that knows what it will need has programs read or made in threads, beside what it does first.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import hashlib
import importlib.metadata
import json
import pathlib
import pickle
import secrets
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.experimental import serialize_executable

from pie_jax.errors import PieError
from pie_jax.io import read_json, replace_file, write_json
from pie_jax.runtime import (
    Backend,
    backend,
    cache_folder,
    compile_target,
    compiled,
    default_device,
    keeps_programs,
    made_for,
    threads,
)

_DIGEST = 32  # bytes of SHA-256 before the data in a file
_CODE = 64  # characters of the name of a program's file
_MOST = 64  # programs of one function


def kept(*, static_argnames: str | Sequence[str] = (), donate_argnames: str | Sequence[str] = (),
         level: int = 1) -> Callable[[Callable], Kept]:
    """`jax.jit` whose compiled programs are kept for later processes, where `runtime.configure` keeps programs at all.

    Arrays are given by position, static arguments by name: their `repr`, and that of the arrays' trees, tells all that
    the program depends on. What the function returns are arrays in trees of classes that a module defines. Arrays on
    several devices are left to `jax.jit`.

    donate_argnames: arrays that a caller does not use again; a kept program leaves them alone, `jax.jit` does not.
    level: of LLVM's optimisation where it is compiled for a CPU. 3: for what runs hundreds of times. 0: for what a
      command runs so seldom that making it quick takes longer than it saves; nothing that a search reads is made so.
      Results of another level differ by rounding, and so may those of `jax.jit`. A level that XLA_FLAGS names is for
      every program.
    """
    return lambda function: Kept(function, static_argnames=static_argnames, donate_argnames=donate_argnames,
                                 level=level)


class Kept:
    """A function made by `kept`."""

    def __init__(self, function: Callable, *, static_argnames: str | Sequence[str],
                 donate_argnames: str | Sequence[str], level: int):
        functools.update_wrapper(self, function)
        self._level = level
        self._function = function
        self._jitted = jax.jit(function, static_argnames=static_argnames, donate_argnames=donate_argnames)
        self._programs: dict[tuple, _Program] = {}
        _functions.add(self)

    def __call__(self, *args, **statics):
        leaves, tree = jax.tree.flatten(args)
        if not keeps_programs() or any(map(_is_elsewhere, leaves)):
            return self._jitted(*args, **statics)
        return self._program(leaves, tree, statics).ready()(*leaves)

    def ahead(self, *args, **statics) -> None:
        """Have the program for these arguments made in a thread. Arrays may be `jax.ShapeDtypeStruct`s.

        A call that needs it sooner waits for it, or makes it where no thread has begun to.
        """
        leaves, tree = jax.tree.flatten(args)
        if keeps_programs() and not any(map(_is_elsewhere, leaves)):
            _makers().submit(self._program(leaves, tree, statics).ready)

    def _cache_size(self) -> int:
        """How many programs there are in this process; named as that of `jax.jit`."""
        return self._jitted._cache_size() + len(self._programs)  # pyright: ignore

    def _program(self, leaves: list, tree: Any, statics: Mapping) -> _Program:
        types = tuple(map(_type_of, leaves))
        key = (tree, tuple(statics.items()), backend(), types)
        program = self._programs.get(key)
        if program is None:
            make = functools.partial(self._made, repr(key), tree, statics, types, backend())
            program = self._programs.setdefault(key, _Program(make))
            while len(self._programs) > _MOST:  # a process that lives long sees photos of many sizes
                with contextlib.suppress(RuntimeError, StopIteration):  # another thread does the same
                    self._programs.pop(next(iter(self._programs)), None)
        return program

    def forget(self) -> None:
        """Let go of all programs; each is read again where it is needed."""
        self._programs.clear()
        self._jitted.clear_cache()  # pyright: ignore

    def _made(self, told: str, tree: Any, statics: Mapping, types: tuple, chosen: Backend) -> Callable:
        """The program, called with flat arrays: from its file, or compiled and written there."""
        settings = jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64  # pyright: ignore
        facts = (self._function.__module__, self._function.__qualname__, _version(), told, threads(), settings,
                 self._level, compile_target())
        if " at 0x" in (text := repr(facts)):  # it does not tell what is there
            return lambda *leaves: self._jitted(*tree.unflatten(leaves), **statics)
        name = hashlib.sha256(text.encode()).hexdigest()
        _used.append(name)
        if (noted := _noted.get()) is not None:
            noted.append(name)
        if name in _ahead and (program := _ahead.pop(name).ready()) is not None:
            return program
        folder = _folder()
        assert folder is not None  # programs are kept
        program = _loaded(folder / name)
        if program is not None:
            return program

        results = []

        def flat(*leaves):
            outputs, result = jax.tree.flatten(self._function(*tree.unflatten(leaves), **statics))
            results.append(result)
            return outputs

        # JAX's cache finds no such name, and must not: a program that it has read cannot be written again.
        flat.__name__ = f"{self._function.__name__}_{secrets.token_hex(4)}"
        with made_for(chosen):
            # Of arguments that are dropped the text would say nothing.
            lowered = jax.jit(flat, keep_unused=True).lower(*(jax.ShapeDtypeStruct(*each) for each in types))
            facts = (lowered.as_text().replace(flat.__name__, ""), types, lowered.out_info, self._level, threads(),
                     _compiler(), compile_target())
            code = hashlib.sha256(repr(facts).encode()).hexdigest()
            program = _ready(folder / f"{code}.code")
            if program is None:
                program = compiled(lowered, level=self._level)
                _write_code(folder / f"{code}.code", program)
            with contextlib.suppress(AttributeError, TypeError, pickle.PicklingError):  # a class that no module defines
                _write(folder / name, code.encode() + pickle.dumps(results[0]))
        return lambda *leaves: results[0].unflatten(program(*leaves))


def kept_json(name: str, key: object, make: Callable[[], Any]) -> Any:
    """What `make` returns, JSON that follows from the code and the `repr` of `key`; kept where programs are.

    It is made once for each version of the code.
    """
    data = recall(name, key := (_version(), key))
    if data is not None:
        return json.loads(data)
    value = make()
    keep(name, key, json.dumps(value).encode())
    return value


def recall(name: str, key: object) -> bytes | None:
    """What `keep` kept for a name and the `repr` of a key, whole; None: nothing, or no longer."""
    path = _path(name, key)
    return None if path is None else _read(path)


def keep(name: str, key: object, data: bytes) -> None:
    """Keep data beside the programs, for `recall`; nothing where none are kept."""
    path = _path(name, key)
    if path is not None:
        _write(path, data)


def forget() -> None:
    """Let go of every kept function's programs: each holds memory of its own until then."""
    for function in list(_functions):
        function.forget()


_functions: weakref.WeakSet[Kept] = weakref.WeakSet()


class _Program:
    """What a program is made by: whoever asks first makes it, others wait."""

    def __init__(self, make: Callable[[], Any]):
        self._make, self._made, self._lock = make, None, threading.Lock()

    def ready(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return self._made


def read_ahead(command: str) -> bool:
    """Load the programs that the last run of a command used, in threads beside what this run does first.

    Call it after `runtime.configure`; the classes that programs return need not be imported by then. A program that is
    not used after all costs nothing else.
    Only the first command of a process reads and is noted: later ones find most programs in memory.
    Returns whether there was such a run.
    """
    folder = _folder()
    if folder is None:
        return False
    note, names = folder / f"{command}.json", _noted_by(command)
    _begun.append(len(_used))
    if len(_begun) > 1:
        return bool(names)
    for name in names:
        _ahead[name] = _Program(functools.partial(_loaded, folder / pathlib.PurePath(name).name))
        _makers().submit(_ahead[name].ready)
    atexit.register(_note_used, note, names)
    return bool(names)


def is_known(command: str) -> bool:
    """Whether a run of this command was noted, so that `read_ahead` would load its programs."""
    return bool(_noted_by(command))


@contextlib.contextmanager
def noted_for(command: str) -> Iterator[None]:
    """What this context reads or makes inside is what the next run of `command` reads ahead."""
    token = _noted.set(names := [])
    try:
        yield
    finally:
        _noted.reset(token)
    folder = _folder()
    if folder is not None and names:
        with contextlib.suppress(PieError, OSError):
            write_json(folder / f"{command}.json", {"version": _version(), "programs": names})


_noted: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("noted", default=None)
_ahead: dict[str, _Program] = {}  # those being read, by their files' names
_used: list[str] = []  # the names of those that this process used
_begun: list[int] = []  # how many those were when each of its commands began


def beside(work: Callable[[], Any]) -> None:
    """Have `work` done in a thread that makes programs. What it raises is lost."""
    _makers().submit(work)


def stop_making() -> None:
    """Drop what no thread has begun to read or make: whoever needs it makes it."""
    _makers().shutdown(wait=False, cancel_futures=True)
    _makers.cache_clear()


@functools.cache
def _makers() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that read and make programs; XLA shares each one's work among the processors."""
    return concurrent.futures.ThreadPoolExecutor(2, "programs")


def _is_elsewhere(leaf: Any) -> bool:
    """Whether an array is part of another program, or on several devices."""
    return isinstance(leaf, Tracer) or isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1


def _type_of(leaf: Any) -> tuple:
    return np.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else jax.dtypes.result_type(leaf)


def _noted_by(command: str) -> list[str]:
    """The names of the programs that the last run of a command used; none where it was of other code."""
    folder = _folder()
    found = {} if folder is None else read_json(folder / f"{command}.json")
    names = found.get("programs") if found.get("version") == _version() else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _note_used(note: pathlib.Path, known: list[str]) -> None:
    first, *later = _begun
    used = _used[first:later[0] if later else None]
    if used and set(used) != set(known):
        with contextlib.suppress(PieError, OSError):
            write_json(note, {"version": _version(), "programs": list(dict.fromkeys(used))})


def _loaded(path: pathlib.Path) -> Callable | None:
    """A kept program, called with flat arrays; None where it is not there.

    path: of a file that names the program's own, and holds the tree that its outputs make. The tree is read when it is
      first needed: by then the classes in it are imported.
    """
    data = _read(path)
    if data is None:
        return None
    program = _ready(path.with_name(f"{data[:_CODE].decode(errors='replace')}.code"))
    tree = functools.cache(lambda: pickle.loads(data[_CODE:]))
    return None if program is None else lambda *leaves: tree().unflatten(program(*leaves))


def _ready(path: pathlib.Path) -> jax.stages.Compiled | None:
    """What `_write_code` wrote, ready to run; None where it is not there or is no program."""
    data = _read(path)
    if data is None:
        return None
    device = default_device()
    try:
        code, *trees = pickle.loads(zlib.decompress(data))
        if b"lapack_" in code:
            _find_lapack()
        return serialize_executable.deserialize_and_load(code, *trees, backend=device.client,
                                                         execution_devices=[device])
    except Exception:  # of many kinds; it is made anew
        return None


def _write_code(path: pathlib.Path, program: jax.stages.Compiled) -> None:
    """Keep a compiled program of flat arguments and outputs; a device's programs may have no form that can be."""
    try:
        code, *trees = serialize_executable.serialize(program)
    except Exception:  # of many kinds
        return
    if b"pu_callback" not in code:  # that calls this process's Python, by address
        _write(path, zlib.compress(pickle.dumps((code, *trees)), 1))


@functools.cache
def _find_lapack() -> None:
    """Let programs of XLA:CPU call LAPACK: JAX finds it where it lowers the first function that needs it."""
    jax.jit(jax.lax.linalg.cholesky).lower(np.zeros((1, 1), np.float32))


def _folder() -> pathlib.Path | None:
    """Where programs are kept; None where none are."""
    cache = cache_folder()
    return None if cache is None or not keeps_programs() else cache / "programs"


def _path(name: str, key: object) -> pathlib.Path | None:
    folder = _folder()
    return None if folder is None else folder / f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()}"


def _read(path: pathlib.Path) -> bytes | None:
    """What `_write` wrote to a file; None where there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    return data[_DIGEST:]


def _write(path: pathlib.Path, data: bytes) -> None:
    """Keep data; where it cannot be, later processes make it again."""
    with contextlib.suppress(PieError, OSError):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, hashlib.sha256(data).digest() + data)


@functools.cache
def _version() -> str:
    """A hash of this package's code and of JAX's version."""
    code = hashlib.sha256(_compiler().encode())
    root = pathlib.Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return code.hexdigest()


@functools.cache
def _compiler() -> str:
    return f"{jax.__version__} {importlib.metadata.version('jaxlib')}"
