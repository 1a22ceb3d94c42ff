"""Which photos a run works on, and where each one's results go. No pixel is decoded here.

A photo is known by the SHA-256 of its bytes: a folder that holds another photo's results is never written to, and a
run finds its own unfinished and finished work again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pie_jax.config import EmbedConfig, to_dict
from pie_jax.errors import InputError, PieError, ResourceError, UsageError
from pie_jax.io import (
    cause_of,
    clear_unfinished,
    is_picture,
    read_json,
    shown,
    take_lock,
    write_json,
)

if TYPE_CHECKING:  # the names of photos need no arrays
    import numpy as np

_LONGEST_LIST = 64 * 2**20  # bytes
BEGUN = "begun.json"  # whose a folder is that holds no checkpoint or report yet
RECORDS = ("report.json", "checkpoint.npz", BEGUN)


@dataclasses.dataclass(kw_only=True)
class Photo:
    """One photo of a run and what has become of it."""

    path: pathlib.Path
    sha256: str = ""
    assigned: pathlib.Path | None = None  # its folder, once `assign_folders` has chosen one
    plan: str = "new"  # "new", "resume", "again", "finished" (skip it), "done" (in this run)
    error: PieError | None = None
    load_seconds: float = 0.0
    framing: str = ""  # how its square is found, as far as a result depends on it
    face: int | None = None  # which of its faces, from 1; None: the largest
    landmarks: np.ndarray | None = None  # [66, 2] px, where the user knows them

    @property
    def folder(self) -> pathlib.Path:
        """Where its results go."""
        assert self.assigned is not None, "assign_folders comes first"
        return self.assigned

    @property
    def settled(self) -> bool:
        return self.error is not None or self.plan == "finished"


def collect(names: Sequence[str]) -> list[Photo]:
    """Files, the pictures of folders (sorted, not below them) and of patterns; each file once.

    A name that leads nowhere becomes a Photo with its error, so that it cannot stop the others.
    """
    photos: list[Photo] = []
    for name in names:
        path = pathlib.Path(name)
        try:
            if path.is_dir():
                found = sorted(p for p in path.iterdir() if is_picture(p))
                if not found:
                    raise InputError(f"{shown(path)}: no JPEG, PNG or WebP file in this folder; name another")
            elif glob.has_magic(name) and not os.path.lexists(path):
                found = sorted(pathlib.Path(p) for p in glob.glob(name, recursive=True) if not os.path.isdir(p))
                if not found:
                    raise InputError(f"{shown(path)}: no file matches this pattern; check it")
            else:
                found = [path]
        except InputError as error:
            photos.append(Photo(path=path, error=error))
            continue
        except (OSError, ValueError) as error:
            problem = InputError(f"{shown(path)}: cannot be listed ({cause_of(error)}); check its name and permissions")
            photos.append(Photo(path=path, error=problem))
            continue
        photos += [Photo(path=p) for p in found]
    unique: dict[str, Photo] = {}
    for photo in photos:
        name = str(photo.path)
        unique.setdefault(name if "\0" in name else os.path.realpath(name), photo)
    return list(unique.values())


def listed(files: Sequence[str]) -> list[str]:
    """The lines of text files, each the name of a photo; empty ones are left out. Raises InputError."""
    names = []
    for file in files:
        try:
            path = pathlib.Path(file)
            if not path.is_file() or path.stat().st_size > _LONGEST_LIST:
                raise InputError(f"{shown(file)}: is no file, or one of more than {_LONGEST_LIST // 2**20} MiB; name a "
                                 "text file with one photo a line")
            lines = path.read_text(encoding="utf-8").splitlines()
            if not any(line.strip() for line in lines):
                raise InputError(f"{shown(file)}: names no photo; write one name a line into it")
            names += lines
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(f"{shown(file)}: cannot be read as a list of photos ({cause}); check it") from None
    return [name for name in names if name.strip()]


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_hash(config: EmbedConfig, *, pack_hash: str, photo_sha256: str, framing: str = "") -> str:
    """What decides a result: two runs with equal hashes give the same embedding."""
    facts = {"config": to_dict(config), "pack": pack_hash, "photo": photo_sha256}
    if framing:
        facts["framing"] = framing
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def assign_folders(photos: Sequence[Photo], out: pathlib.Path, *, config: EmbedConfig, pack_hash: str,
                   restart: bool) -> None:
    """Set `folder` and `plan` of every photo without an error: OUT/<stem>, or OUT/<stem>-2 where that is another's."""
    taken: set[str] = set()
    for photo in photos:
        if photo.error is not None:
            continue
        settings = settings_hash(config, pack_hash=pack_hash, photo_sha256=photo.sha256, framing=photo.framing)
        count = 1
        while True:
            name = photo.path.stem if count == 1 else f"{photo.path.stem}-{count}"
            folder = out / name
            count += 1
            if name.casefold() in taken:
                continue
            record = records(folder)
            if record is not None and record.get("photo") in (None, photo.sha256):
                break
        taken.add(name.casefold())
        photo.assigned = folder
        photo.plan = "new"
        if record and set(record) != {"photo"}:
            photo.plan = "again"
            if record.get("finished") == settings and not restart:
                photo.plan = "finished"
            elif record.get("begun") == settings and not restart:
                photo.plan = "resume"


def records(folder: pathlib.Path) -> dict | None:
    """What our files in `folder` say: photo, finished and begun settings. {} where it is free, None where it is not."""
    if not os.path.lexists(folder):
        return {}
    if not folder.is_dir():
        return None
    names = {p.name for p in folder.iterdir() if not p.name.endswith(".part")}
    if not names:
        return {}
    if not names & set(RECORDS):
        return None
    mark = read_json(folder / BEGUN)
    found: dict = {"photo": mark["photo"]} if isinstance(mark.get("photo"), str) else {}
    report = read_json(folder / "report.json")
    if isinstance(report.get("photo"), dict):
        found |= {"photo": report["photo"].get("sha256"), "finished": report.get("settings")}
    begun = _checkpoint_facts(folder / "checkpoint.npz")
    if begun:
        found |= {"photo": begun.get("photo"), "begun": begun.get("settings")}
    return found or {"photo": None, "damaged": True}


def make_folder(photo: Photo) -> None:
    """Make a photo's folder, which is known as its own from now on. Raises ResourceError."""
    try:
        photo.folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(photo.folder)
        if not any((photo.folder / name).exists() for name in RECORDS):
            write_json(photo.folder / BEGUN, {"photo": photo.sha256})
    except OSError as error:
        raise ResourceError(f"{shown(photo.folder)}: cannot be made ({error.strerror}); choose another folder with "
                            "-o") from error


def leave_folder(photo: Photo) -> None:
    """Undo `make_folder` where nothing came of the photo, so that another photo of its name can have the folder."""
    with contextlib.suppress(OSError):
        if [path.name for path in photo.folder.iterdir()] == [BEGUN]:
            (photo.folder / BEGUN).unlink()
            photo.folder.rmdir()


def settle(photo: Photo) -> None:
    """Remove from a photo's folder what its report has made needless; what cannot be removed does no harm."""
    for name in ("checkpoint.npz", BEGUN):
        with contextlib.suppress(OSError):
            (photo.folder / name).unlink(missing_ok=True)


def _checkpoint_facts(path: pathlib.Path) -> dict:
    from pie_jax.portrait.checkpoint import read_facts

    return read_facts(path)


@contextlib.contextmanager
def output_folder(out: pathlib.Path, *, share: str = "") -> Iterator[bool]:
    """Make `out`, be sure it can be written, and keep a second run out of it; False where there are no locks for that.

    share: the name of this process's part of a run; other parts are then let in, the same one and whole runs are not.

    Raises:
      ResourceError: it cannot be made or written (exit code 7).
      UsageError: another run is at work in it (exit code 2).
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(b"x")
        locks = [_open_lock(out / ".lock")] + ([_open_lock(out / f".lock-{share}")] if share else [])
    except OSError as error:
        raise ResourceError(f"{shown(out)}: cannot be written ({error.strerror or error}); choose another folder with "
                            "-o") from None
    try:
        taken = [take_lock(locks[0], shared=bool(share)), *(take_lock(lock) for lock in locks[1:])]
        if False in taken:
            raise UsageError(f"{shown(out)}: another run is writing there; wait for it or choose another folder "
                             "with -o")
        yield None not in taken
    finally:
        for lock in locks:
            os.close(lock)


def _open_lock(path: pathlib.Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
