"""How the squares of a run's photos are found: the largest face, one that was named, every one, or known points."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

from pie_jax.cli import command
from pie_jax.embed.photos import Photo
from pie_jax.errors import PackError
from pie_jax.io import load_photo
from pie_jax.pack import load_pack
from pie_jax.pack.parts import PARTS
from pie_jax.photo import fitted
from pie_jax.photo.detect import find_faces


def _missing(manifest: Mapping) -> list[str]:
    """The parts that the pack lacks for looking at faces."""
    return [part for part in fitted.PARTS if part not in manifest.get("parts", {})]


def check_framing(arguments: argparse.Namespace, manifest: Mapping) -> None:
    """PackError where a flag asks for a face and the pack cannot look for one."""
    missing = _missing(manifest)
    for flag in ("face", "landmarks"):
        if missing and getattr(arguments, flag) is not None:
            raise PackError(f"--{flag}: the pack has no {missing[0]}; train or convert it into the pack first "
                            f"({PARTS[missing[0]].command})")


def framing_of(arguments: argparse.Namespace, manifest: Mapping, photo: Photo) -> str:
    """How the square of a photo is found; "" in the middle, because the pack cannot look for faces."""
    if _missing(manifest):
        return ""
    face = f"face {photo.face or 1}"
    if photo.landmarks is not None:
        face = f"points {hashlib.sha256(photo.landmarks.tobytes()).hexdigest()[:16]}"
    return face if arguments.align else f"middle, {face}"


def each_face(photos: Sequence[Photo], folder: pathlib.Path, arguments: argparse.Namespace,
              manifest: Mapping) -> list[Photo]:
    """Each photo once for each of its faces, the largest first. PackError: the pack cannot look for faces."""
    command.configure(arguments.device, autotune=arguments.autotune)
    pack, faces = load_pack(folder, parts=("face_detector", "face_mesh")), []
    for photo in photos:
        found = [] if photo.error else find_faces(pack, load_photo(photo.path, notice=lambda text: None))
        for number in range(1, max(len(found), 1) + 1):  # without a face it is the one that says so
            one = dataclasses.replace(photo, face=number)
            one.framing = framing_of(arguments, manifest, one)
            faces.append(one)
    return faces
