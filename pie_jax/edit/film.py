"""The frames of an animation drawn and written; a film that is stopped goes on from the frames that are done."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from pie_jax.cli.progress import Progress
from pie_jax.errors import InputError, ResourceError
from pie_jax.io import cause_of, clear_unfinished, encode_png, read_json, replace_file, shown, write_json
from pie_jax.io.film import write_film

_FACTS = "frames.json"


def make_film(path: pathlib.Path, count: int, draw: Callable[[Sequence[int]], Iterable[np.ndarray]], *, facts: dict,
              order: Sequence[int], rate: float, loop: bool, progress: Progress) -> int:
    """Draw `count` frames and write them: a film by the ending of `path`, or numbered PNG files in a folder.

    order: the numbers of a film's frames as they are shown; a folder has each of them once.

    draw: gives the pictures, uint8 [H, W, 3], of frames by their numbers, in order.
    facts: JSON-able, all that the frames depend on: frames of the same facts that are there are not drawn again.

    Returns how many were drawn. Raises ResourceError: they cannot be written.
    """
    folder = path if not path.suffix else path.with_name(f".{path.name}.frames")
    names = [f"frame_{number:05d}.png" for number in range(1, count + 1)]
    missing = _begin(folder, names, hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest())
    progress.start("frames", unit="frame")
    for done, (number, frame) in enumerate(zip(missing, draw(missing), strict=True), start=1):
        replace_file(folder / names[number], encode_png(Image.fromarray(frame), effort=1))
        progress.update(count - len(missing) + done, count)
    progress.clear()
    if path.suffix:
        write_film(path, _read(folder, [names[number] for number in order]), rate=rate, loop=loop)
        shutil.rmtree(folder, ignore_errors=True)
    return len(missing)


def _begin(folder: pathlib.Path, names: Sequence[str], settings: str) -> list[int]:
    """Make the folder, take away frames of other settings, and list the numbers of those that are not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_unfinished(folder)
        if read_json(folder / _FACTS).get("settings") != settings:
            for frame in folder.glob("frame_*.png"):
                frame.unlink()
            write_json(folder / _FACTS, {"settings": settings})
        there = {frame.name for frame in folder.iterdir()}
    except OSError as error:
        raise ResourceError(f"{shown(folder)}: cannot be written ({cause_of(error)}); choose another place") from None
    return [number for number, name in enumerate(names) if name not in there]


def _read(folder: pathlib.Path, names: Sequence[str]) -> Iterator[np.ndarray]:
    for name in names:
        try:
            with Image.open(folder / name) as image:
                yield np.asarray(image.convert("RGB"))
        except OSError as error:
            raise InputError(f"{shown(folder / name)}: cannot be read ({error}); delete it and run again") from None
