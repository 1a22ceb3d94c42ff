"""Compiled functions whose programs outlive the process: traced once for each version of the code.

JAX's compilation cache keeps what XLA makes of a program. What Python does to get that far, tracing and lowering, is
most of a command's start, and is kept here: as JAX's own portable form (`jax.export`), beside that cache. A command
that knows what it will need has programs read or made in threads, beside what it does first.
"""

from __future__ import annotations

import ast
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.export
import numpy as np
from jax.core import Tracer

from pie_jax.errors import PieError
from pie_jax.io import read_json, replace_file, write_json
from pie_jax.runtime import Backend, backend, cache_folder, keeps_programs, made_for, threads

_Class = TypeVar("_Class", bound=type)
_DIGEST = 32  # bytes of SHA-256 before the data in a file
_LENGTH = 8  # bytes of a program's length before it
_PLATFORMS = {"gpu": "cuda"}
_MOST = 64  # programs of one function
_LEVEL = "xla_backend_optimization_level"
_OLDER_EMITTERS = {"xla_cpu_use_fusion_emitters": False}  # of XLA:CPU: programs as quick, made in less time


def keepable(cls: _Class) -> _Class:
    """Make a dataclass a pytree that a `kept` function may return. Its static fields hold literals."""
    jax.tree_util.register_dataclass(cls)
    jax.export.register_pytree_node_serialization(
        cls, serialized_name=f"{cls.__module__}.{cls.__qualname__}", serialize_auxdata=lambda aux: repr(aux).encode(),
        deserialize_auxdata=lambda data: ast.literal_eval(data.decode()))
    return cls


def keepable_tuple(cls: _Class) -> _Class:
    """Let a `kept` function return a NamedTuple of another library."""
    jax.export.register_namedtuple_serialization(cls, serialized_name=f"{cls.__module__}.{cls.__qualname__}")
    return cls


def kept(*, static_argnames: str | Sequence[str] = (), donate_argnames: str | Sequence[str] = (),
         level: int = 1) -> Callable[[Callable], Kept]:
    """`jax.jit` whose traced programs are kept for later processes, where `runtime.configure` keeps programs at all.

    Arrays are given by position, static arguments by name: their `repr`, and that of the arrays' trees, tells all that
    the program depends on. What the function returns are arrays in dictionaries, lists, tuples and `keepable` classes.
    Arrays on several devices are left to `jax.jit`.

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
        """The program, called with flat arrays: from its file, or traced and written there."""
        settings = jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64  # pyright: ignore
        facts = (self._function.__module__, self._function.__qualname__, _version(), told, threads(), settings)
        if " at 0x" in (text := repr(facts)):  # it does not tell what is there
            return lambda *leaves: self._jitted(*tree.unflatten(leaves), **statics)
        name = f"{hashlib.sha256(text.encode()).hexdigest()}.{self._level}"
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

        flat.__name__ = self._function.__name__
        try:
            with made_for(chosen):
                platform = _PLATFORMS.get(chosen.platform, chosen.platform)
                exported = jax.export.export(jax.jit(flat), platforms=[platform])(
                    *(jax.ShapeDtypeStruct(*each) for each in types))
                _write(folder / name, _joined(exported, results[0], platform))
        except ImportError:  # it is written with flatbuffers
            return lambda *leaves: self._jitted(*tree.unflatten(leaves), **statics)
        return _made_ready(exported, lambda: results[0], self._level)


def compiled(lowered: jax.stages.Lowered, *, level: int) -> jax.stages.Compiled:
    """A lowered program as a `kept` function of that level has it compiled; one that XLA_FLAGS names is for all.

    JaxRuntimeError: XLA cannot.
    """
    if not backend().is_cpu or _LEVEL in os.environ.get("XLA_FLAGS", ""):
        return lowered.compile()
    options: dict = {_LEVEL: level}
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # JAX 0.12 has no older emitters and refuses the name at once
        return lowered.compile(compiler_options=options | _OLDER_EMITTERS)
    return lowered.compile(compiler_options=options)


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
    note = folder / f"{command}.json"
    found = read_json(note)
    names = found.get("programs") if found.get("version") == _version() else None
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    _begun.append(len(_used))
    if len(_begun) > 1:
        return bool(names)
    for name in names:
        _ahead[name] = _Program(functools.partial(_loaded, folder / pathlib.PurePath(name).name))
        _makers().submit(_ahead[name].ready)
    atexit.register(_note_used, note, names)
    return bool(names)


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


def _note_used(note: pathlib.Path, known: list[str]) -> None:
    first, *later = _begun
    used = _used[first:later[0] if later else None]
    if used and set(used) != set(known):
        with contextlib.suppress(PieError, OSError):
            write_json(note, {"version": _version(), "programs": list(dict.fromkeys(used))})


def _joined(exported: jax.export.Exported, result: Any, platform: str) -> bytes:
    """A program whose outputs are flat, and the tree that they make: one after the other, for `_loaded`.

    Apart, because the program can be read before the classes in the tree are imported.
    """
    program = bytes(exported.serialize())
    shaped = jax.export.export(jax.jit(lambda *leaves: result.unflatten(leaves)), platforms=[platform])(
        *(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in exported.out_avals))
    return len(program).to_bytes(_LENGTH, "little") + program + bytes(shaped.serialize())


def _loaded(path: pathlib.Path) -> Callable | None:
    """A kept program ready to run, its level in its file's name; None where it is not there."""
    data, level = _read(path), path.suffix[1:]
    if data is None or not level.isdigit():  # an older version's name has none
        return None
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    return _made_ready(jax.export.deserialize(bytearray(data[_LENGTH:end])),
                       lambda: jax.export.deserialize(bytearray(data[end:])).out_tree, int(level))


def _made_ready(exported: jax.export.Exported, result: Callable[[], Any], level: int) -> Callable:
    """`exported` compiled; it is called with flat arrays and returns the tree that `result` is asked for at first."""
    args, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)

    def call(*leaves):
        return exported.call(*leaves)

    call.__name__ = exported.fun_name
    program, tree = compiled(jax.jit(call).lower(*args), level=level), functools.cache(result)
    return lambda *leaves: tree().unflatten(program(*leaves))


def _folder() -> pathlib.Path | None:
    """Where traced programs are kept; None where none are."""
    cache = cache_folder()
    return None if cache is None or not keeps_programs() else cache / "traced"


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
    code = hashlib.sha256(f"{jax.__version__} {importlib.metadata.version('jaxlib')}".encode())
    root = pathlib.Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return code.hexdigest()
