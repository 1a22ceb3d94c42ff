"""Compiled functions whose programs outlive the process: traced once for each version of the code.

JAX's compilation cache keeps what XLA makes of a program. What Python does to get that far, tracing and lowering, is
most of a command's start, and is kept here: as JAX's own portable form (`jax.export`), beside that cache.
"""

from __future__ import annotations

import ast
import atexit
import concurrent.futures
import contextlib
import functools
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.export
from jax.core import Tracer

from pie_jax.errors import PieError
from pie_jax.io import read_json, replace_file, write_json
from pie_jax.runtime import backend, cache_folder, keeps_programs, threads

_Class = TypeVar("_Class", bound=type)
_DIGEST = 32  # bytes of SHA-256 before the program in its file
_PLATFORMS = {"gpu": "cuda"}


def keepable(cls: _Class) -> _Class:
    """Make a dataclass a pytree that a `kept` function may take and return. Its static fields hold literals."""
    jax.tree_util.register_dataclass(cls)
    jax.export.register_pytree_node_serialization(
        cls, serialized_name=f"{cls.__module__}.{cls.__qualname__}", serialize_auxdata=lambda aux: repr(aux).encode(),
        deserialize_auxdata=lambda data: ast.literal_eval(data.decode()))
    return cls


def kept(*, static_argnames: str | Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """`jax.jit` whose traced programs are kept for later processes, where `runtime.configure` keeps programs at all.

    Static arguments are given by name; their `repr` tells everything that the program depends on. What the function
    returns are arrays in dictionaries, lists, tuples and `keepable` classes.
    """
    def decorated(function: Callable) -> Callable:
        jitted, programs = jax.jit(function, static_argnames=static_argnames), {}

        @functools.wraps(function)
        def call(*args, **statics):
            leaves, tree = jax.tree.flatten(args)
            if not keeps_programs() or any(isinstance(leaf, Tracer) for leaf in leaves):
                return jitted(*args, **statics)
            key = (tree, tuple(statics.items()), backend(), tuple(jax.typeof(leaf) for leaf in leaves))
            if key not in programs:
                try:
                    programs[key] = _program(function, jitted, args, statics, key)
                except ImportError:  # jax.export writes with flatbuffers
                    programs[key] = functools.partial(jitted, **statics)
            return programs[key](*args)

        return call

    return decorated


def read_ahead(command: str) -> None:
    """Load the programs that the last run of a command used, in a thread beside what this run does first.

    Call it after `runtime.configure`. A program that is another by now, or is not used after all, costs nothing else.
    """
    folder = _folder()
    if folder is None:
        return
    note = folder / f"{command}.json"
    names = read_json(note).get("programs")
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    pool = concurrent.futures.ThreadPoolExecutor(1, "programs")
    _ahead.update({name: pool.submit(_loaded, folder / pathlib.PurePath(name).name) for name in names})
    pool.shutdown(wait=False)
    atexit.register(_note_used, note, names)


_ahead: dict[str, concurrent.futures.Future] = {}  # programs on their way, by their files' names
_used: list[str] = []  # the names of those that this process used


def _note_used(note: pathlib.Path, known: list[str]) -> None:
    if _used and set(_used) != set(known):
        with contextlib.suppress(PieError, OSError):
            write_json(note, {"programs": _used})


def _loaded(path: pathlib.Path) -> Callable | None:
    """A kept program ready to run; None where it is not there."""
    exported = _read(path)
    return None if exported is None else _compiled(exported)


def _compiled(exported: jax.export.Exported) -> Callable:
    args, statics = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    return jax.jit(exported.call).lower(*args, **statics).compile()


def _program(function: Callable, jitted: Any, args: tuple, statics: dict, key: tuple) -> Callable:
    """The function for these arguments: from its file, or traced and written there."""
    settings = jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64  # pyright: ignore
    facts = (function.__module__, function.__qualname__, _version(), repr(key), threads(), settings)
    name = hashlib.sha256(repr(facts).encode()).hexdigest()
    _used.append(name)
    if name in _ahead and (program := _ahead.pop(name).result()) is not None:
        return program
    folder = _folder()
    assert folder is not None  # programs are kept
    program = _loaded(folder / name)
    if program is None:
        platform = backend().platform
        exported = jax.export.export(jitted, platforms=[_PLATFORMS.get(platform, platform)])(*args, **statics)
        _write(folder / name, bytes(exported.serialize()))
        program = _compiled(exported)
    return program


def _folder() -> pathlib.Path | None:
    """Where traced programs are kept; None where none are."""
    cache = cache_folder()
    return None if cache is None or not keeps_programs() else cache / "traced"


def _read(path: pathlib.Path) -> jax.export.Exported | None:
    """The program in a file; None where there is none, or not the one that was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    return jax.export.deserialize(bytearray(data[_DIGEST:]))


def _write(path: pathlib.Path, program: bytes) -> None:
    """Keep a program; where it cannot be, later processes trace it again."""
    with contextlib.suppress(PieError, OSError):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, hashlib.sha256(program).digest() + program)


@functools.cache
def _version() -> str:
    """A hash of this package's code and of JAX's version."""
    code = hashlib.sha256(f"{jax.__version__} {importlib.metadata.version('jaxlib')}".encode())
    root = pathlib.Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        code.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return code.hexdigest()
