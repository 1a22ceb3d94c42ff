"""HDF5 (.h5) through h5py in a process of its own: datasets of the file itself, packed by gzip or not at all.

The library under h5py is large and written in C, and damaged files may keep it busy for ever. So a child process with
limits of time and memory walks the file and writes what it finds to its output; this process checks that again.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.limits import Limits
from converters.readers.unsafe_file import UnsafeFileError
from pie_jax.errors import PackError

_FILTERS = {1, 2, 3}  # deflate, shuffle, checksum: others are libraries that HDF5 would load
_SECONDS, _BYTES_PER_SECOND = 3, 30 * 2**20  # of processor time in the child
_MEMORY = 512 * 2**20  # of the child beside what the file may ask for


def read_hdf5(path: Path, limits: Limits) -> dict[str, Any]:
    """Groups as dicts, numbers as arrays, text as str; UnsafeFileError for outward links and foreign filters."""
    if importlib.util.find_spec("h5py") is None:
        raise PackError(f"{path}: an HDF5 file, which needs h5py: pip install 'pie_jax[convert]'")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                                "HDF5_PLUGIN_PRELOAD": "::"}  # no plug-ins
    seconds = 20 * (_SECONDS + limits.stored // _BYTES_PER_SECOND)  # on a busy machine
    try:
        done = subprocess.run([sys.executable, "-m", "converters.readers.hdf5_file", os.path.abspath(path)],
                              stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise UnsafeFileError(f"a damaged HDF5 file (not read after {seconds} s)") from error
    if done.returncode:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise UnsafeFileError(f"a damaged HDF5 file (its reader ended by {how}, at its limits of time and memory)")
    return _received(memoryview(done.stdout), limits)


def walk(path: Path, limits: Limits) -> dict[str, Any]:
    """What `read_hdf5` returns, without a process of its own."""
    import h5py

    seen: set[int] = set()

    def group(node, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name in node:
            limits.enter(depth)
            if not isinstance(node.get(name, getlink=True), h5py.HardLink):
                raise UnsafeFileError(f"{name!r:.80} is a link; only what is in the file itself is read")
            child = node[name]
            place = h5py.h5o.get_info(child.id).addr  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(child, h5py.Group):
                if place in seen:
                    raise UnsafeFileError(f"the group {name!r:.80} is in it twice")
                seen.add(place)
                result[name] = group(child, depth + 1)
            elif isinstance(child, h5py.Dataset):
                result[name] = dataset(name, child)
        return result

    def dataset(name: str, node) -> Any:
        creation = node.id.get_create_plist()
        if node.is_virtual or node.external or \
                not {creation.get_filter(i)[0] for i in range(creation.get_nfilters())} <= _FILTERS:
            raise UnsafeFileError(f"the dataset {name!r:.80} needs other files or plug-ins")
        if node.shape is None:
            return None
        limits.take(f"the dataset {name!r:.80}", math.prod(node.shape) * max(node.dtype.itemsize, 1))
        if node.chunks:
            limits.take(f"a piece of the dataset {name!r:.80}", math.prod(node.chunks) * max(node.dtype.itemsize, 1))
        if h5py.check_string_dtype(node.dtype) is not None:
            text = node.asstr(errors="replace")[()]
            return text if isinstance(text, str) else [str(t) for t in np.ravel(text)]
        if node.dtype.kind not in "biuf":
            return None
        array = np.asarray(node[()])
        return array.astype(array.dtype.newbyteorder("="), order="C") if node.shape else array.item()

    try:
        with h5py.File(path, "r") as file:
            return group(file, 0)
    except UnsafeFileError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file: all mean the same
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UnsafeFileError(f"a damaged HDF5 file ({cause})") from error


def confine(limits: Limits, *, memory: bool = True) -> None:
    """Limit this process's processor time and memory to what reading the file may take, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's limit of time remains
        return
    used = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:
        pages = int((file.read().split() or ["0"])[0])
    most = pages * resource.getpagesize() + _MEMORY + limits.allowed
    for what, value in ((resource.RLIMIT_CPU, used + _SECONDS + limits.stored // _BYTES_PER_SECOND),
                        (resource.RLIMIT_CORE, 0), *(((resource.RLIMIT_AS, most),) if pages and memory else ())):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _sent(tree: dict[str, Any]) -> bytes:
    """Eight bytes of size, the tree as JSON, then the arrays end to end."""
    arrays: list[np.ndarray] = []

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {"group": {name: plain(child) for name, child in value.items()}}
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {"array": [value.dtype.str, list(value.shape)]}
        return {"value": value}

    text = json.dumps(plain(tree)).encode()
    return b"".join([struct.pack("<Q", len(text)), text, *(array.tobytes() for array in arrays)])


def _received(data: memoryview, limits: Limits) -> dict[str, Any]:
    """The tree that a child sent; its own refusal; UnsafeFileError where a child that went wrong sent anything else."""
    (size,) = struct.unpack("<Q", data[:8])
    message, at = json.loads(bytes(data[8:8 + size])), 8 + size
    if "refused" in message:
        raise UnsafeFileError(str(message["refused"])[:400])

    def tree(message: dict[str, Any], depth: int) -> Any:
        nonlocal at
        limits.enter(depth)
        if "group" in message:
            return {name: tree(child, depth + 1) for name, child in message["group"].items()}
        if "array" in message:
            dtype, shape = np.dtype(message["array"][0]), tuple(message["array"][1])
            length = math.prod(shape) * dtype.itemsize
            if dtype.kind not in "biuf" or min(shape, default=0) < 0 or at + length > len(data):
                raise UnsafeFileError("a damaged HDF5 file (its reader was led astray)")
            at += length
            return np.frombuffer(data[at - length:at], dtype).reshape(shape) if length else np.zeros(shape, dtype)
        return message["value"]

    return tree(message, 0)


def main() -> None:
    """The child: the file is its argument, what was found its output."""
    import h5py  # noqa: F401  before the limits

    path = Path(sys.argv[1])
    limits = Limits(stored=path.stat().st_size)
    confine(limits)
    try:
        sent = _sent(walk(path, limits))
    except UnsafeFileError as refusal:
        text = json.dumps({"refused": str(refusal)}).encode()
        sent = struct.pack("<Q", len(text)) + text
    sys.stdout.buffer.write(sent)


if __name__ == "__main__":
    main()
