"""`read`: which container a file is, told by its first bytes, and the reader of that container."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

from converters.readers.checkpoint import Checkpoint, unwrapped
from converters.readers.limits import Limits
from converters.readers.machine import Machine
from converters.readers.mapped import mapped
from converters.readers.tfjs_file import is_tfjs, read_tfjs
from converters.readers.torch_files import LEGACY_MAGIC, read_legacy, read_zip
from converters.readers.unsafe_file import ANOTHER_FILE, UnsafeFileError
from converters.readers.zips import Archive
from pie_jax.errors import PackError, ResourceError, printable

FORMATS = ("torch-zip", "torchscript", "torch-legacy", "tf-network", "persistence", "pickle", "t7", "mat", "hdf5",
           "npz", "npy", "safetensors", "safetensors-index", "tflite", "tfjs", "obj-folder")

_PACKED = {b"\x1f\x8b": ("gzip", "gunzip"), b"BZh": ("bzip2", "bunzip2"), b"\xfd7zXZ\0": ("xz", "unxz"),
           b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"), b"7z\xbc\xaf": ("7z", "7z x"), b"Rar!": ("RAR", "unrar x")}


def read(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint file (or ICT-FaceKit's folder of .obj) without running anything in it.

    The container is recognised by content, never by name. Arrays are read-only views of the mapped file where possible.
    Errors: PackError (exit code 4), one line: the file, what is wrong with it, what to do.
    """
    path = Path(path)
    try:
        if path.is_dir():
            from converters.readers.obj_folder import read_obj_folder

            return Checkpoint(path=path, format="obj-folder", tree=read_obj_folder(path))
        if path.exists() and not path.is_file():
            raise UnsafeFileError("neither a file nor a folder")
        data = mapped(path)
        limits = Limits(stored=len(data))
        name, tree = _read(path, data, limits)
        limits.check_tree(tree)
    except UnsafeFileError as refusal:
        raise PackError(f"{path}: {_short(str(refusal))}; {refusal.advice}") from refusal
    except OSError as error:
        raise PackError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise ResourceError(f"{path}: not enough memory to read it; close other programs, or use a larger machine") \
            from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, SyntaxError,
            struct.error, zlib.error) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise PackError(f"{path}: damaged ({_short(cause)}); {ANOTHER_FILE}") from error
    taken: list[str] = []
    tree = unwrapped(tree, taken=taken)
    return Checkpoint(path=path, format=name, tree=tree, prefix=taken[0] if len(set(taken)) == 1 else "")


def _short(text: str, *, longest: int = 400) -> str:
    """Text that may hold anything of a file, for a line of a message."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _read(path: Path, data: memoryview, limits: Limits) -> tuple[str, Any]:
    head = bytes(data[:512])
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UnsafeFileError("a web page saved under this name, not a checkpoint")
    if text.startswith(b"version https://git-lfs"):
        raise UnsafeFileError("a pointer to a large file, not the file itself (fetch it with git lfs)")
    if head.startswith(b"PK\x03\x04"):
        archive = Archive(data, limits)
        if any(name.endswith("/data.pkl") for name in archive.names):
            scripted = any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.names)
            return ("torchscript" if scripted else "torch-zip"), read_zip(archive, limits)
        if archive.names and all(name.endswith(".npy") for name in archive.names):
            from converters.readers.numpy_files import read_npz

            return "npz", read_npz(archive, limits)
        raise UnsafeFileError("a zip archive that is neither torch's nor numpy's (unpack it, and give what is in it)")
    if head.startswith(b"\x93NUMPY"):
        from converters.readers.numpy_files import read_npy

        return "npy", read_npy(data, limits)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        from converters.readers.hdf5_file import read_hdf5

        return "hdf5", read_hdf5(path, limits)
    if head[4:8] == b"TFL3":
        from converters.readers.tflite_file import read_tflite

        return "tflite", read_tflite(data, limits)
    if head[:1] == b"{" and b'"weight_map"' in bytes(data[:2**20]):
        from converters.readers.safetensors_file import read_safetensors_index

        return "safetensors-index", read_safetensors_index(path, data, limits)
    if is_tfjs(head):
        return "tfjs", read_tfjs(path, data, limits)
    if head.startswith(b"MATLAB 5.0"):
        from converters.readers.mat_file import read_mat

        return "mat", read_mat(data, limits)
    if head.startswith(b"MATLAB 7.3"):
        raise UnsafeFileError("a MATLAB 7.3 file; in MATLAB load it and save it again with '-v7'")
    if len(data) > 12 and head[:4] == b"\x04\0\0\0":
        from converters.readers.torch7_file import read_t7

        return "t7", read_t7(data, limits)
    if len(data) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**40:
        from converters.readers.safetensors_file import read_safetensors

        return "safetensors", read_safetensors(data, limits)
    if head[:1] == b"\x80" or (head[:1] in b"(c]}li" and bytes(data[-1:]) == b"."):
        return _read_pickle(data, limits)
    for magic, (kind, command) in _PACKED.items():
        if head.startswith(magic):
            raise UnsafeFileError(f"a {kind} file", advice=f"unpack it ({command}), and give what is in it")
    if head[257:262] == b"ustar":
        raise UnsafeFileError("a tar archive (unpack it, and give what is in it)")
    raise UnsafeFileError("not a kind of checkpoint that is known here")


def _read_pickle(data: memoryview, limits: Limits) -> tuple[str, Any]:
    from converters.readers.plain import read_plain

    if bytes(data[:2]) == b"\x80\x02" and bytes(data[2:4]) == b"\x8a\x0a":
        magic, _ = Machine(data, limits, {}).run()
        if magic == LEGACY_MAGIC:
            return "torch-legacy", read_legacy(data, limits)
    return read_plain(data, limits)
