"""What `pie drive` does once its arguments are good: the motion of one face given to another, segment by segment."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np

from pie_jax.cli.progress import Progress
from pie_jax.drive.source import Source, open_source
from pie_jax.drive.track import smoothed, track
from pie_jax.edit.film import make_film
from pie_jax.errors import EXIT_OK, PackError, ResourceError, UsageError
from pie_jax.face3d.morphable import FaceParams, with_control
from pie_jax.io import cause_of, is_picture, save_picture, shown
from pie_jax.io.film import H264, join_h264
from pie_jax.pack import Pack, find_pack, load_pack
from pie_jax.photo.composite import edited_portrait
from pie_jax.photo.fitted import PARTS, FittedPhoto, open_photo
from pie_jax.portrait import Embedding, PhotoEditor
from pie_jax.portrait.request import photo_params_of

_SEGMENT = 240  # frames of a part that is done or not


def run(arguments: argparse.Namespace) -> int:
    """Drive the photo; the exit code. Raises PieError."""
    source = open_source(pathlib.Path(arguments.by))
    out = pathlib.Path(arguments.out)
    if (out.suffix == ".png") != source.still:
        raise UsageError("-o: a photo gives a .png, a video or a folder gives .mp4 or a folder of frames")
    pack = load_pack(find_pack(arguments.pack), parts=(*PARTS, "mouth"))
    pack.require(*PARTS)
    own = _photo(pack, pathlib.Path(arguments.photo))
    rate = arguments.rate or source.rate
    with Progress() as progress:
        if source.still:
            found = _drive_still(pack, own, source, out, arguments)
        else:
            found = _drive(pack, own, source, out, arguments, rate, progress)
    if arguments.json:
        print(json.dumps({"out": str(out), **found}))
    else:
        held = f", {found['held']} without a face held" if found["held"] else ""
        print(f"{shown(out)}  {found['frames']} frames{held}")
    return EXIT_OK


def _photo(pack: Pack, path: pathlib.Path) -> FittedPhoto:
    if path.is_dir() or not is_picture(path):
        photo = Embedding.load(path).photo
        if photo is None:
            raise PackError(f"{shown(path)}: the embedding has no fitted photo; name the photo itself")
        return photo
    return open_photo(pack, path)


def driven(own: FaceParams, row: np.ndarray, first: np.ndarray, *, controls: tuple[str, ...],
           relative: tuple[str, ...]) -> FaceParams:
    """`own` [n] with the motion of `row` [257]; `first` [257] is the first picture's.

    Where the head is in the picture is always taken as a change since the first one.
    """
    other, start = FaceParams.from_vector(row), FaceParams.from_vector(first)
    result = own
    for control in controls:
        result = with_control(result, other, control)
    changes = {"pose": "rotation", "expression": "expression", "illumination": "illumination"}
    for control in relative:
        if control in controls:
            name = changes[control]
            result = dataclasses.replace(result, **{
                name: getattr(own, name) + getattr(other, name) - getattr(start, name)})
    if "pose" in controls:
        result = dataclasses.replace(result, translation=own.translation + other.translation - start.translation)
    return result


def _drive_still(pack: Pack, own: FittedPhoto, source: Source, out: pathlib.Path, arguments) -> dict:
    row = np.asarray(photo_params_of(pack, str(source.path), own=own).to_vector(), np.float32)
    target = driven(own.params, row, row, controls=arguments.control, relative=())
    image = edited_portrait(PhotoEditor(pack, own, size=arguments.size).layers(target))
    save_picture(out, image, metadata={"kind": "drive"})
    return {"frames": 1, "held": 0}


def _drive(pack: Pack, own: FittedPhoto, source: Source, out: pathlib.Path, arguments, rate: float,
           progress: Progress) -> dict:
    work = out.with_name(f".{out.name}.work")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{shown(work)}: cannot be made ({cause_of(error)}); choose another place") from None
    light = "illumination" in arguments.control
    facts = _facts(pack, own, source, light)
    progress.start("following the face", unit="frame")
    found = track(pack, lambda start: source.pictures(start=start), own, work / "track.npz", facts=facts, light=light,
                  where=shown(source.path), tell=lambda done: progress.update(done, max(source.count, done)))
    rows = smoothed(found.params, arguments.smooth)
    editor = PhotoEditor(pack, own, size=arguments.size)
    knobs = {"controls": arguments.control, "relative": arguments.relative}

    def draw(numbers) -> Iterator[np.ndarray]:
        targets = [driven(own.params, rows[number], rows[0], **knobs) for number in numbers]
        return editor.edit_many(targets)

    settings = {"facts": facts.tobytes().hex(), "smooth": arguments.smooth, "size": arguments.size, **knobs}
    if out.suffix:
        _write_parts(out, work, rows, draw, settings, rate, source, progress)
    else:
        make_film(out, len(rows), draw, facts=settings, order=range(len(rows)), rate=rate, loop=False,
                  progress=progress)
    shutil.rmtree(work, ignore_errors=True)
    return {"frames": len(rows), "held": int((~found.seen).sum()), "rate": rate}


def _facts(pack: Pack, own: FittedPhoto, source: Source, light: bool) -> np.ndarray:
    """A hash of what a track depends on: the pictures by their names, sizes and times, the photo, the pack."""
    digest = hashlib.sha256(f"{light} {own.size} {pack.hash}".encode() + own.portrait.tobytes())
    for path in (source.video,) if source.video is not None else source.files:
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}".encode())
    return np.frombuffer(digest.digest(), np.uint8)


def _write_parts(out: pathlib.Path, work: pathlib.Path, rows: np.ndarray, draw, settings: dict, rate: float,
                 source: Source, progress: Progress) -> None:
    """The film in parts of _SEGMENT frames, those that are there kept, then joined, with the sound of the video."""
    name = hashlib.sha256(json.dumps({**settings, "rate": rate}, sort_keys=True).encode()).hexdigest()[:16]
    parts = []
    progress.start("frames", unit="frame")
    for start in range(0, len(rows), _SEGMENT):
        numbers = range(start, min(start + _SEGMENT, len(rows)))
        part = work / f"{name}_{start:08d}.mp4"
        parts.append(part)
        if not part.exists():
            with H264(part, rate=rate) as film:
                for number, frame in zip(numbers, draw(numbers), strict=True):
                    film.add(frame)
                    progress.update(number + 1, len(rows))
    join_h264(parts, out, sound=source.video)


