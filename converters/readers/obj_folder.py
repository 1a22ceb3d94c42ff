"""A folder of Wavefront .obj meshes of one topology (ICT-FaceKit's FaceXModel) and its vertex_indices.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from converters.readers.limits import MAX_BYTES
from converters.readers.unsafe_file import UnsafeFileError

MAX_FILES = 1000
_JSON = "vertex_indices.json"


def read_obj_folder(folder: Path) -> dict[str, Any]:
    """{"meshes": {stem: {"vertices" [V, 3], "quads" [Q, 4], "triangles" [T, 3]}}, "vertex_indices": ...}, 0-based.

    Looks into FaceXModel below `folder` too. Meshes whose face lines equal share the index arrays.
    """
    folder = next((f for f in (folder, folder / "FaceXModel") if any(f.glob("*.obj"))), folder)
    files = sorted(folder.glob("*.obj"))
    if not files or len(files) > MAX_FILES:
        raise UnsafeFileError(f"a folder with {len(files)} .obj files, not a face model")
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES // 4:  # what is read of a text takes up to four times its bytes
        raise UnsafeFileError(f"a folder of {size} bytes of meshes")
    topologies: dict[bytes, dict[str, np.ndarray]] = {}
    tree: dict[str, Any] = {"meshes": {file.stem: _read_obj(file, topologies) for file in files}}
    if (folder / _JSON).is_file():
        tree["vertex_indices"] = json.loads((folder / _JSON).read_text())
    return tree


def _read_obj(file: Path, topologies: dict[bytes, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    lines = file.read_bytes().splitlines()
    vertices = np.array(b" ".join(line[2:] for line in lines if line[:2] == b"v ").split(), np.float64)
    faces = [line for line in lines if line[:2] == b"f "]
    if vertices.size == 0 or vertices.size % 3:
        raise UnsafeFileError(f"{file.name} has {vertices.size} numbers in its vertices")
    key = b"\n".join(faces)
    if key not in topologies:
        corners = [[int(corner.split(b"/")[0]) - 1 for corner in line.split()[1:]] for line in faces]
        quads = np.array([c for c in corners if len(c) == 4], np.int64).reshape(-1, 4)
        triangles = np.array([c for c in corners if len(c) == 3], np.int64).reshape(-1, 3)
        if len(quads) + len(triangles) != len(corners):
            raise UnsafeFileError(f"{file.name} has faces of more than four corners")
        topologies[key] = {"quads": quads, "triangles": triangles}
    top = max((int(a.max()) for a in topologies[key].values() if a.size), default=-1)
    low = min((int(a.min()) for a in topologies[key].values() if a.size), default=0)
    if low < 0 or top >= vertices.size // 3:
        raise UnsafeFileError(f"{file.name} has a face with a vertex that is not there")
    return {"vertices": vertices.reshape(-1, 3), **topologies[key]}
