"""HDF5 (.h5) through h5py: datasets of the file itself, packed by gzip or not at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.unsafe_file import MAX_DEPTH, MAX_NODES, UnsafeFileError, check_size
from pie_jax.errors import PackError

_FILTERS = {1, 2, 3}  # deflate, shuffle, checksum: others are libraries that HDF5 would load


def read_hdf5(path: Path, size: int) -> dict[str, Any]:
    """Groups as dicts, numbers as arrays, text as str; Refusal for links out of the file and foreign filters."""
    try:
        import h5py
    except ImportError:
        raise PackError(f"{path}: an HDF5 file, which needs h5py: pip install 'pie_jax[convert]'") from None
    seen, total = set(), 0

    def group(node, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH or len(seen) > MAX_NODES:
            raise UnsafeFileError("groups nested too deeply or too many")
        result: dict[str, Any] = {}
        for name in node:
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
        nonlocal total
        creation = node.id.get_create_plist()
        if node.is_virtual or node.external or \
                not {creation.get_filter(i)[0] for i in range(creation.get_nfilters())} <= _FILTERS:
            raise UnsafeFileError(f"the dataset {name!r:.80} needs other files or plug-ins")
        if node.shape is None:
            return None
        declared = math.prod(node.shape) * max(node.dtype.itemsize, 1)
        total += declared
        check_size(f"the dataset {name!r:.80}", declared, size)
        check_size("all datasets", total, size)
        if h5py.check_string_dtype(node.dtype) is not None:
            text = node.asstr(errors="replace")[()]
            return text if isinstance(text, str) else [str(t) for t in np.ravel(text)]
        if node.dtype.kind not in "biuf":
            return None
        return node[()] if node.shape == () else np.ascontiguousarray(node[()])

    try:
        with h5py.File(path, "r") as file:
            return group(file, 0)
    except (OSError, RuntimeError) as error:
        raise UnsafeFileError(f"a damaged HDF5 file ({' '.join(str(error).split())[:160]})") from error
