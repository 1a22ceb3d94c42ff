"""Arrays in `.npz` files: written whole or not at all, read without pickles and with a limit on what they unfold to."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from pie_jax.errors import InputError
from pie_jax.io.atomic import replacing
from pie_jax.io.text import cause_of, shown

MAX_BYTES = 256 * 2**20


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> None:
    """Write named arrays. Raises ResourceError."""
    with replacing(path) as file:
        (np.savez_compressed if compress else np.savez)(file, allow_pickle=False, **arrays)


def read_npz(path: str | os.PathLike, *, max_bytes: int | None = None) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`; its declared size is checked before anything is inflated.

    Args:
      path: the file.
      max_bytes: how much its arrays may hold, 256 MiB by default. A larger file may hold its own size.

    Raises:
      InputError: missing, not an `.npz`, damaged, objects in it, or larger than that.
    """
    try:
        limit = max(MAX_BYTES if max_bytes is None else max_bytes, os.path.getsize(path))
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > limit:
            raise InputError(f"{shown(path)}: unfolds to {total / 2**20:.0f} MiB, the limit is {limit // 2**20} MiB; "
                             "this is not a file of ours")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except InputError:
        raise
    except Exception as error:  # zip and array headers are user data: they fail in many ways
        raise InputError(f"{shown(path)}: damaged or not an .npz file ({cause_of(error)}); make it again") from None
