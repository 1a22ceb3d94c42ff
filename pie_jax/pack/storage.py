"""The arrays of one part in an Orbax folder: written whole, read whole, and what Orbax says of a failure kept short.

Importing Orbax takes longer than reading a small part. So a small part that was read and found right is kept once
more, beside the programs. It is read from there for as long as its folder stays what it is.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pie_jax.errors import NumericsError, PackError
from pie_jax.io import reserve_space, shown
from pie_jax.pack.schema import flatten, unflatten
from pie_jax.programs import keep, recall

_SMALL = 8 * 2**20  # bytes of a part that is kept once more


def array_hash(tree: Any) -> str:
    """SHA-256 of a nested dict of arrays: names, types, shapes and bytes, in sorted order."""
    digest = hashlib.sha256()
    for name, array in flatten(tree).items():
        array = np.ascontiguousarray(array)
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.data)
    return digest.hexdigest()


def write_arrays(folder: Path, name: str, tree: Any, sha: str) -> None:
    """Write a nested dict of arrays, whose `array_hash` is `sha`, into `folder`/`name`, whole or not at all.

    Raises OSError.
    """
    from orbax.checkpoint import v1 as ocp

    if (folder / name).exists():
        with contextlib.suppress(Exception), _quiet():  # a damaged one is written anew
            if array_hash(jax.tree.map(np.asarray, ocp.load(str(folder / name)))) == sha:
                return
        shutil.rmtree(folder / name)
    reserve_space(folder, sum(array.nbytes + 4096 for array in jax.tree.leaves(tree)))
    temporary = folder / f".{name}-{os.getpid()}"
    try:
        with _quiet():
            ocp.save(str(temporary), tree)
        told = temporary / "commit_success.txt"  # orbax writes there the path on the maker's machine
        if told.is_file():
            told.write_text("Checkpoint commit was successful\n")
        os.replace(temporary, folder / name)
    except ValueError as error:  # of TensorStore, which tells the system's number only in its text
        number = re.search(r"os_error_code='(\d+)'", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    finally:
        for left in folder.glob(f"{temporary.name}*"):  # Orbax's own temporary one among them
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs a traceback for each array that it cannot read or write; the error that it raises is enough."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    unraisable = sys.unraisablehook
    sys.unraisablehook = _without_closed_loops(unraisable)  # stays after a failure: late answers come any time
    try:
        yield
        sys.unraisablehook = unraisable
    except Exception:
        gc.collect()  # what asyncio has to say of a task that failed it says when the task goes
        raise
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


def _without_closed_loops(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """TensorStore goes on with other arrays after one has failed, and answers a loop that has ended."""
    if getattr(hook, "__name__", "") == "but_closed_loops":
        return hook

    def but_closed_loops(seen: Any) -> None:
        if "loop is closed" not in str(seen.exc_value):
            hook(seen)

    return but_closed_loops


def read_arrays(folder: Path, name: str, entry: Mapping, *, check: bool) -> Any:
    """The nested dict of arrays of the part `name`, whose entry in the manifest of the pack `folder` is `entry`.

    check: compare with the SHA-256 of the entry, and refuse what is not finite.

    Raises:
      FileNotFoundError: it is not there. PackError: it is damaged. NumericsError: it holds NaN or infinity.
    """
    file = folder / entry["folder"]
    if file.is_symlink() or any(path.is_symlink() for path in file.rglob("*")):
        raise PackError(f"{shown(file)}: is or holds a symbolic link; copy the files themselves into the pack")
    if not file.is_dir():
        raise FileNotFoundError(f"{file}: the folder of the part {name!r} is missing")
    small = check and _SMALL >= sum(path.stat().st_size for path in file.rglob("*"))
    key = (entry["sha256"], _state(file)) if small else None
    if small and (data := recall("part", key)) is not None:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return unflatten({path: arrays[path] for path in arrays.files})
    from orbax.checkpoint import v1 as ocp

    try:
        with _quiet():
            tree = jax.tree.map(np.asarray, ocp.load(file))
    except Exception as error:  # Orbax raises many kinds for a damaged folder: all mean the same to the user
        if not file.is_dir():
            raise FileNotFoundError(f"{file}: the folder of the part {name!r} is missing") from error
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise PackError(f"{file}: damaged ({cause[:200]}); download or make the pack again") from error
    if check and array_hash(tree) != entry["sha256"]:
        raise PackError(f"{file}: its SHA-256 is not the one in manifest.json; download or make the pack again")
    for array_name, array in flatten(tree).items() if check else ():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NumericsError(f"{shown(file)}: {name}/{array_name} holds NaN or infinity: the training that made it "
                                "diverged; make the part again")
    flat = flatten(tree)
    if small and all(array.dtype.isbuiltin for array in flat.values()):  # NumPy's files know no other types
        data = io.BytesIO()
        np.savez(data, allow_pickle=False, **flat)
        keep("part", key, data.getvalue())
    return tree


def _state(folder: Path) -> list[tuple]:
    """Name, size and time of each file in a folder: others, once one of them was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
