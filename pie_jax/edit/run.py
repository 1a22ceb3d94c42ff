"""What the edit command does once its arguments are good."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import sys
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from pie_jax import __version__
from pie_jax.arrays import Absent
from pie_jax.cli import figures
from pie_jax.cli.progress import Progress
from pie_jax.config import CONTROLS
from pie_jax.edit.animation import read_keyframes, sweep
from pie_jax.edit.arguments import ANGLES, LIGHT, Sweep
from pie_jax.edit.film import make_film
from pie_jax.edit.photo import explained, full_name, photo_file, shares, write_full
from pie_jax.errors import EXIT_OK, UsageError, choose
from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import light_ambient, light_direction
from pie_jax.io import load_with_profile, read_json, save_picture, save_png, to_uint8
from pie_jax.io.film import write_film
from pie_jax.io.images import WithProfile, shown
from pie_jax.pack import Pack, find_pack, load_pack, read_manifest
from pie_jax.photo.composite import edited_portrait
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import Layers
from pie_jax.portrait import Embedding, ReachWarning, edit_portrait, render_params
from pie_jax.portrait.calibration import range_warnings
from pie_jax.portrait.latent_edits import check_pack
from pie_jax.portrait.matching import generator_trust, photo_detail, start_params
from pie_jax.portrait.photo_edits import photo_editor, turn_warnings
from pie_jax.portrait.request import AXES, expression_names, params_of, photo_params_of, target_params

_SWEEP_RATE = 12.5  # frames a second of a sweep that -o writes
_FILM_PX = 512  # of a film, where none is asked for
_GROUND = np.float32(0.6)


def run(arguments: argparse.Namespace) -> int:
    """Make the edit and write it; the exit code. Raises PieError."""
    embedding = Embedding.load(arguments.embedding)
    folder = find_pack(arguments.pack or _pack_of(arguments.embedding) or embedding.pack_name)
    share = photo_detail(read_manifest(folder), embedding, arguments.detail)
    generates = share < 1.0 or generator_trust(read_manifest(folder), embedding) > 0.0
    pack = load_pack(folder, parts=None if generates or arguments.like is not None else ("morphable", "mouth"))
    if arguments.components:
        print("\n".join(expression_names(pack)))
        return EXIT_OK
    check_pack(pack, embedding)
    request = _request(arguments, pack, embedding.photo if share == 1.0 else None)
    path = _out(arguments)
    how = {"order": arguments.order, "invert_response": not arguments.raw}
    start = start_params(pack.manifest, embedding, share)
    ends = [target_params(pack, start, **each)[0] for each in _ends(request, arguments.sweep)]
    if share == 1.0:
        for line in dict.fromkeys(line for end in ends for line in turn_warnings(start, end)):
            print(f"warning: {line}", file=sys.stderr)
    if generates:
        _warn(pack, request, arguments.sweep)
    if arguments.save is not None:
        found: dict = _write_film(pack, embedding, request, arguments, how, share)
        path = pathlib.Path(arguments.save)
    elif arguments.sweep:
        _write_sweep(path, pack, embedding, request, arguments.sweep, how, share)
        found = {"frames": arguments.sweep.count}
    else:
        target, asked = target_params(pack, start, **request)
        photo = _whole_photo(arguments) if share == 1.0 and arguments.full else None  # while programs are read
        layers = photo_editor(pack, embedding, **how).layers(target) if share == 1.0 else None
        image = (edit_portrait(pack, embedding, detail=share, **how, **request) if layers is None
                 else edited_portrait(layers) / np.float32(255.0))
        found = {"lines": []}
        if generates:
            found |= _compare(pack, start, target, asked, request, image)
        if layers is not None:
            found |= _write_photo(path, embedding, layers, photo, request, arguments, lines=found["lines"])
        picture = _grid(pack, embedding, target, image, request, share) if arguments.grid else image
        save_picture(path, picture, metadata=_facts(embedding, request))
    if arguments.json:
        print(json.dumps({"out": str(path), "request": _plain(request), **found}, indent=1))
    else:
        print(f"{shown(path)}" + "".join(f"  {line}" for line in found.get("lines", ())))
    return EXIT_OK


def _ends(request: dict, sweep: Sweep | None) -> list[dict]:
    """The request, or the first and the last one of a sweep."""
    return [request] if sweep is None else [_with_value(request, sweep.name, v) for v in (sweep.first, sweep.last)]


def _warn(pack: Pack, request: dict, sweep: Sweep | None) -> None:
    """Say once, and not at every frame, which numbers lie beyond what edits of this pack were measured to reach."""
    lines = [line for each in _ends(request, sweep)
             for line in range_warnings(pack, **{k: v for k, v in each.items() if k != "like"})]
    for line in dict.fromkeys(lines):
        print(f"warning: {line}", file=sys.stderr)
    warnings.simplefilter("ignore", ReachWarning)


def _pack_of(embedding: str) -> str | None:
    """The pack's folder as the report beside the embedding names it, if it is still there."""
    given = pathlib.Path(embedding)
    report = read_json((given if given.is_dir() else given.parent) / "report.json")
    folder = report.get("pack", {}).get("folder") if isinstance(report.get("pack"), dict) else None
    return folder if isinstance(folder, str) and (pathlib.Path(folder) / "manifest.json").is_file() else None


def _request(arguments: argparse.Namespace, pack: Pack, photo: FittedPhoto | None) -> dict:
    """The arguments of `edit_portrait` that were given; another's portrait is read once here."""
    request = {name: getattr(arguments, name) for name in (*ANGLES, "light") if getattr(arguments, name) is not None}
    if arguments.expression:
        for name in arguments.expression:
            choose("--expression", name, expression_names(pack))
        request["expression"] = arguments.expression
    if arguments.like is not None:
        other = (params_of(pack, arguments.like) if photo is None
                 else photo_params_of(pack, arguments.like, own=photo))
        request["like"] = (other, arguments.control)
    if arguments.sweep and arguments.sweep.name not in (*ANGLES, *LIGHT):
        choose("--sweep", arguments.sweep.name, (*ANGLES, *LIGHT, *expression_names(pack)))
    if not request and not arguments.sweep and not arguments.keyframes:
        raise UsageError("nothing to change; give --yaw, --pitch, --roll, --expression, --light, --like, --sweep or "
                         "--keyframes")
    return request


def _out(arguments: argparse.Namespace) -> pathlib.Path:
    if arguments.out is not None:
        return pathlib.Path(arguments.out)
    given = pathlib.Path(arguments.embedding)
    return (given if given.is_dir() else given.parent) / ("sweep.png" if arguments.sweep else "edit.png")


def _facts(embedding: Embedding, request: dict) -> dict:
    return {"version": __version__, "pack": embedding.pack_name, "pack_hash": embedding.pack_hash, "kind": "edit",
            "request": _plain(request)}


def _plain(request: dict) -> dict:
    plain = dict(request)
    if "like" in plain:
        plain["like"] = list(plain["like"][1])
    return plain


def _whole_photo(arguments: argparse.Namespace) -> WithProfile | None:
    """The photo beside an embedding as `load_with_profile` reads it. InputError: it cannot be read."""
    path = photo_file(arguments.embedding)
    if path is None:
        print(f"note: the photo is not beside {shown(arguments.embedding)}: only its portrait is written",
              file=sys.stderr)
    return None if path is None else load_with_profile(path)


def _write_photo(path: pathlib.Path, embedding: Embedding, layers: Layers, photo: WithProfile | None,
                 request: dict, arguments: argparse.Namespace, *, lines: list[str]) -> dict:
    """The files beside the edited portrait: the whole photo, and what came from where; returns the latter.

    photo: of `_whole_photo`. lines: what there is to say already; the files are said last.
    """
    fitted = embedding.photo
    assert fitted is not None
    found: dict = {"sources": shares(layers), "lines": lines}
    if arguments.explain:
        save_png(path.with_name(f"{path.stem}_explained.png"), explained(fitted, layers))
    if photo is not None:
        write_full(full_name(path), photo, fitted, layers, facts=_facts(embedding, request))
        found |= {"full": str(full_name(path)), "lines": [*lines, f"and {shown(full_name(path))}"]}
    return found


def _compare(pack: Pack, before: FaceParams | Absent, target: FaceParams, asked: set[str], request: dict,
             image: np.ndarray) -> dict:
    """What was asked and what the regressor reads in the edited portrait: it may fall short, so say by how much."""
    if "regressor" not in pack.weights or before is None:
        return {}
    seen = params_of(pack, image)
    rows = {}
    if "pose" in asked:
        for name in AXES:
            if name in request or ("like" in request and "pose" in request["like"][1]):
                rows[name] = tuple(math.degrees(float(p.rotation[AXES.index(name)]))
                                   for p in (before, target, seen))
    for name in request.get("expression", ()):
        index = expression_names(pack).index(name)
        rows[name] = tuple(float(p.expression[index]) for p in (before, target, seen))
    lines = ["{} {:+.1f}, asked {:+.1f}, read {:+.1f}".format(name, *(round(v, 1) + 0.0 for v in row))
             for name, row in rows.items()]
    return {"read": {name: dict(zip(("before", "asked", "read"), row)) for name, row in rows.items()}, "lines": lines}


def _grid(pack: Pack, embedding: Embedding, target: FaceParams, image: np.ndarray, request: dict, share: float):
    before = edit_portrait(pack, embedding, detail=share)
    tiles = [figures.Tile(image=before, label="photo" if share == 1.0 else "synthesis", detail="before")]
    if pack.morphable is not None:
        rendering, coverage = render_params(pack, target)
        rendering = rendering * coverage[..., None] + _GROUND * (1 - coverage[..., None])
        tiles.append(figures.Tile(image=rendering, label="asked for", detail="rendering"))
    tiles.append(figures.Tile(image=image, label="edit", detail="after"))
    return figures.grid(tiles, columns=len(tiles), title=_words(request))


def _words(request: dict) -> str:
    words = [f"{name} {request[name]:+g}°" for name in ANGLES if name in request]
    words += [f"{name} {value:+g}" for name, value in request.get("expression", {}).items()]
    if "light" in request:
        words.append("light {:+g}°, {:g}°, {:g}".format(*request["light"]))
    if "like" in request:
        words.append(f"{' and '.join(request['like'][1])} of another")
    return ", ".join(words)


def _write_sweep(path: pathlib.Path, pack: Pack, embedding: Embedding, request: dict, sweep: Sweep,
                 how: dict, share: float) -> None:
    requests = [_with_value(request, sweep.name, value) for value in sweep.values()]
    edit = (photo_editor(pack, embedding, **how).edit if share == 1.0
            else functools.partial(edit_portrait, pack, embedding, detail=share, **how))
    images = [edit(**each) for each in requests]
    facts = {**_facts(embedding, request), "sweep": dataclasses.asdict(sweep)}
    if path.suffix.lower() == ".png":
        unit = "°" if sweep.name in (*ANGLES, "azimuth", "elevation") else ""
        tiles = [figures.Tile(image=image, label=f"{value:+.3g}{unit}") for image, value in zip(images, sweep.values())]
        columns = min(len(tiles), max(2, math.ceil(len(tiles) / math.ceil(len(tiles) / 11))))
        save_png(path, figures.grid(tiles, columns=columns, title=sweep.name), metadata=facts)
        return
    frames = [np.asarray(figures.to_pillow(image)) for image in images]
    write_film(path, frames + frames[-2:0:-1], rate=_SWEEP_RATE)


def _write_film(pack: Pack, embedding: Embedding, request: dict, arguments: argparse.Namespace, how: dict,
                share: float) -> dict:
    """The frames of --sweep or --keyframes, as a film or in a folder; what there is to say of it."""
    path, rate, wanted = pathlib.Path(arguments.save), arguments.rate, arguments.sweep
    film = (read_keyframes(pathlib.Path(arguments.keyframes)) if wanted is None
            else sweep(wanted.name, wanted.first, wanted.last, wanted.count, rate=rate))
    film = dataclasses.replace(film, loop=arguments.loop or film.loop)
    for track in film.tracks:
        choose("--keyframes", track.name, (*ANGLES, *LIGHT, *expression_names(pack)))
    start, _ = target_params(pack, start_params(pack.manifest, embedding, share), **request)
    own = _numbers(pack, start)
    frames = film.frames(rate=rate, own=own)
    requests = [_with_values(values, own) for values in frames]
    targets = [target_params(pack, start, **each)[0] for each in requests]
    if share == 1.0:
        editor = photo_editor(pack, embedding, size=arguments.size or _FILM_PX, **how)

        def draw(numbers: Sequence[int]) -> Iterator[np.ndarray]:
            return editor.edit_many([targets[number] for number in numbers])
    else:
        def draw(numbers: Sequence[int]) -> Iterator[np.ndarray]:
            for number in numbers:
                image = edit_portrait(pack, embedding, detail=share, **how, like=(targets[number], CONTROLS))
                yield to_uint8(image)

    facts = {**_facts(embedding, request), "frames": frames, "size": arguments.size, "detail": share,
             "w_plus": hashlib.sha256(embedding.w_plus.tobytes()).hexdigest()}
    order = film.order(len(frames))
    with Progress() as progress:
        drawn = make_film(path, len(frames), draw, facts=facts, order=order, rate=rate, loop=film.loop != "once",
                          progress=progress)
    return {"frames": len(order), "drawn": drawn, "seconds": len(order) / rate,
            "lines": [f"{len(order)} frames, {len(order) / rate:.1f} s"]}


def _numbers(pack: Pack, params: FaceParams) -> dict[str, float]:
    """What FaceParams [n] say by the names of sweeps and keyframes."""
    gamma = np.asarray(params.illumination)
    light = (*light_direction(gamma), light_ambient(gamma))
    angles = np.degrees(np.asarray(params.rotation))
    return {**{name: float(angles[AXES.index(name)]) for name in ANGLES},
            **{name: float(value) for name, value in zip(LIGHT, light, strict=True)},
            **dict(zip(expression_names(pack), map(float, np.asarray(params.expression)), strict=True))}


def _with_values(values: dict[str, float], own: dict[str, float]) -> dict:
    """A request from numbers by name; light that is not named is the portrait's own."""
    request: dict = {name: value for name, value in values.items() if name in ANGLES}
    if any(name in values for name in LIGHT):
        request["light"] = tuple(max(values.get(name, own[name]), -180.0 if i < 2 else 0.0)
                                 for i, name in enumerate(LIGHT))
    expression = {name: value for name, value in values.items() if name not in (*ANGLES, *LIGHT)}
    return request | ({"expression": expression} if expression else {})


def _with_value(request: dict, name: str, value: float) -> dict:
    if name in ANGLES:
        return {**request, name: value}
    if name in LIGHT:
        light = dict(zip(LIGHT, request["light"])) | {name: value}
        return {**request, "light": tuple(light.values())}
    return {**request, "expression": {**request.get("expression", {}), name: value}}


