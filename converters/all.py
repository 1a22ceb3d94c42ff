"""One command for a folder: `python -m converters.all DOWNLOADS --pack DIR` finds, converts and says what is left.

Every file below DOWNLOADS is read and recognised by what is in it. Its name only tells two files apart that say the
same about themselves: which control a rig of all 257 parameters moves. Of several files for one part
those that cannot be converted are told, and do not stand in the way of one that can; two that can are left to the user,
but for face models: the Basel Face Model that Deep3D's regressor speaks of is taken before others.

Ends with `python -m pie_jax.packs status DIR`. Exit code 0: every part that was recognised is in the pack; 1: a file of
one could not be converted, or a part did not get in; 4: nothing was converted.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from converters import landmarks, morphable, regressor, rignet, stylegan, tfjs, tflite, vgg
from converters.converting import Converted, converted_by, facts, in_memory, validate, write
from converters.morphable import bfm
from converters.prefixes import parts, under_prefix
from converters.readers import Checkpoint, read
from converters.readers.mapped import mapped
from converters.readers.safetensors_file import shards_of
from pie_jax.cli import command
from pie_jax.errors import EXIT_OK, EXIT_SOME_FAILED, InputError, PackError, PieError, UsageError

_MODELS = ("deep3d", "bfm2009")  # of several face models the first of these is taken
_EMBEDDINGS = {"lmk_face_idx", "lmk_faces_idx", "full_lmk_faces_idx"}
_CONTROL_WORDS = {"pose": "pose", "expression": "expression", "illumination": "illumination", "light": "illumination"}


@dataclasses.dataclass(kw_only=True)
class Found:
    """A file (or folder) and what it was recognised as; `module` None: it helps another, or was not recognised."""

    path: Path
    layout: str | None = None
    part: str = ""
    module: ModuleType | None = None
    arguments: argparse.Namespace = dataclasses.field(default_factory=argparse.Namespace)
    why: str = ""  # what became of it, for those without a module
    failed: bool = False  # it cannot be converted, and `why` says so
    shards: tuple[Path, ...] = ()  # files that belong to it


def candidates(folder: Path) -> Iterator[Path]:
    """Files below `folder`, and folders of .obj meshes as wholes; packs and hidden things are passed over."""
    for here, folders, files in os.walk(folder):
        at = Path(here)
        if "manifest.json" in files or at.name.startswith(".") and at != folder:
            folders.clear()
            continue
        folders.sort()
        if "vertex_indices.json" in files and sum(name.endswith(".obj") for name in files) > 1:
            folders.clear()
            yield at
            continue
        yield from (at / name for name in sorted(files) if not name.startswith("."))


def recognise(path: Path) -> Found:
    """What a file is, by its content."""
    try:
        checkpoint = read(path)
        found = _recognise(checkpoint)
        if found.module is None and not found.layout:
            others = [other for part in parts(checkpoint) if (other := _recognise(part)).module is not None]
            found = min(others, key=lambda other: other.part != "generator", default=found)
        if checkpoint.format == "safetensors-index":
            found.shards = tuple(path.parent / name for name in set(shards_of(mapped(path)).values()))
        return found
    except PieError as error:
        return Found(path=path, why=str(error).removeprefix(f"{path}: "))


def _recognise(checkpoint: Checkpoint) -> Found:
    path = checkpoint.path
    if (generator := stylegan.layout_of(checkpoint)) is not None:
        return Found(path=path, layout=generator[0].LAYOUT, part="generator", module=stylegan)
    if (layout := vgg.recognise(checkpoint)) is not None:
        if layout == "lpips-heads":
            return Found(path=path, layout=layout, why="LPIPS's linear heads, which go with torchvision's VGG-16")
        return Found(path=path, layout=layout, module=vgg,
                     part="perceptual" if layout in ("torchvision", "lpips") else "recognition")
    for module, part in ((regressor, "regressor"), (morphable, "morphable"), (landmarks, "landmarks")):
        if (layout := module.recognise(checkpoint)) is not None:
            return Found(path=path, layout=layout, part=part, module=module)
    if (part := tflite.recognise(checkpoint)) is not None:
        return Found(path=path, layout="MediaPipe", part=part, module=tflite)
    if (part := tfjs.recognise(checkpoint)) is not None:
        return Found(path=path, layout="Human", part=part, module=tfjs)
    if (layout := rignet.recognise(checkpoint)) is not None:
        if layout == "dfr":
            return Found(path=path, layout=layout, part="dfr", module=rignet)
        words = {control for word, control in _CONTROL_WORDS.items() if word in path.name.lower()}
        control = words.pop() if len(words) == 1 else None
        return Found(path=path, layout=layout, part=f"rignet_{control}" if control else "rig", module=rignet,
                     arguments=argparse.Namespace(control=control))
    if bfm.is_helper(checkpoint):
        return Found(path=path, layout="deep3d-helper", why="goes with the Basel Face Model 2009")
    if isinstance(checkpoint.tree, dict) and _EMBEDDINGS & set(checkpoint.tree):
        return Found(path=path, layout="flame-landmarks", why="goes with FLAME")
    return Found(path=path, why=f"a {checkpoint.format} file of no part that is known here")


def plan(found: Sequence[Found], trial: Callable[[Found], str]) -> list[Found]:
    """`found` with their companions as arguments; where a part has several files, those not taken lose their module.

    trial: why a file cannot be converted, "" where it can.
    """
    shards = {shard: f for f in found for shard in f.shards}
    for f in found:
        if f.path in shards:
            f.layout, f.part, f.module, f.why = "shard", "", None, f"a part of {shards[f.path].path.name}"
    heads = [f for f in found if f.layout == "lpips-heads"]
    helpers = [f for f in found if f.layout == "deep3d-helper"]
    points = [f for f in found if f.layout == "flame-landmarks"]
    for f in found:
        if f.layout == "torchvision" and len(heads) == 1:
            f.arguments = argparse.Namespace(heads=str(heads[0].path))
            heads[0].why = f"used with {f.path.name}"
        if f.part == "morphable":
            f.arguments = argparse.Namespace(
                deep3d=str(helpers[0].path.parent) if helpers else None,
                landmarks=str(points[0].path) if f.layout == "flame" and points else "approximate")
    for part in dict.fromkeys(f.part for f in found if f.module is not None):
        same = [f for f in found if f.part == part and f.module is not None]
        if len(same) > 1 and part != "rig":
            for f in same:
                f.why = trial(f)
            if not all(f.why for f in same):  # else each tells itself why
                for f in same:
                    if f.why:
                        f.module, f.failed = None, True
                same = [f for f in same if f.module is not None]
        module = next(f.module.__name__ for f in same if f.module is not None)
        preferred = [f for name in _MODELS for f in same if f.layout == name and part == "morphable"][:1]
        if part == "rig" or len(same) == 1:
            continue
        for f in same:
            if preferred and f is preferred[0]:
                continue
            other = preferred[0] if preferred else next(o for o in same if o is not f)
            f.why = (f"{other.path.name} is taken as the part {part}" if preferred else
                     f"{other.path.name} is the part {part} too; convert the one you want: python -m "
                     f"{module}")
            f.module = None
    return list(found)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    return command.guarded(lambda: in_memory(lambda: _run(argv)), debug=debug)


def _run(argv: Sequence[str] | None) -> int:
    p = command.Parser(module="converters.all", description="Convert every checkpoint of a folder into a pack.")
    p.add_argument("folder", metavar="DOWNLOADS", help="folder of checkpoints as their owners publish them")
    p.add_argument("--pack", metavar="DIR", help="folder of the pack (made if it is not there)")
    p.add_argument("--name", help="name of the pack in its manifest (its folder's, if it is new and none is given)")
    p.add_argument("--storage", choices=("float32", "float16"), default="float32",
                   help="float16 halves the size and is off by up to 1e-3 relative")
    p.add_argument("--dry-run", action="store_true", help="recognise and account for every tensor; write nothing")
    p.add_argument("--json", action="store_true", help="write the results to stdout as JSON")
    command.add_debug(p)
    arguments = p.parse_args(argv)
    if not arguments.pack and not arguments.dry_run:
        raise UsageError("give --pack DIR to write the parts into, or --dry-run to look only")
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give the one with the downloaded files")
    command.configure("cpu")
    found = plan([recognise(path) for path in candidates(folder)], _trial)
    rows, failed = [], 0
    for f in found:
        row = _convert(f, arguments, folder)
        failed += row["status"] == "failed"
        rows.append(row)
        if not arguments.json:
            print(f"{row['file']}: {row['text']}", flush=True)
            for note in row.get("notes", ()):
                print(f"  note: {note}")
        gc.collect()
    done = sum(row["status"] == "converted" for row in rows)
    lost = {f.part for f in found if f.part} - {row["part"] for row in rows if row["status"] == "converted"}
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{done} of {len(rows)} files converted, {failed} could not be, "
              f"{sum(row['status'] == 'not recognised' for row in rows)} not recognised\n")
        if done and not arguments.dry_run:
            from pie_jax.packs.__main__ import main as packs

            packs(["status", arguments.pack])
    if not done:
        raise PackError(f"{folder}: nothing in it was converted")
    return EXIT_SOME_FAILED if failed or lost else EXIT_OK


def _convert(found: Found, arguments: argparse.Namespace, folder: Path) -> dict:
    """What became of one file, as plain containers with a line of text."""
    row = {"file": str(found.path.relative_to(folder)), "layout": found.layout, "part": found.part or None}
    if found.module is None:
        status = "failed" if found.failed else "left" if found.layout else "not recognised"
        return row | {"status": status, "text": f"{status}: {found.why}"}
    try:
        checkpoint, converted = _converted(found)
        if not arguments.dry_run:
            write(arguments.pack, converted, checkpoint, name=arguments.name, storage=arguments.storage)
    except PieError as error:
        return row | {"status": "failed", "text": f"failed: {_reason(error, found)}"}
    more = facts(converted, checkpoint)
    return row | {"status": "converted", "part": converted.part, "notes": more["notes"], "licence": more["licence"],
                  "text": f"{converted.layout} -> {converted.part} ({converted.table.summary()})"}


def _converted(found: Found) -> tuple[Checkpoint, Converted]:
    module = found.module
    assert module is not None
    checkpoint = under_prefix(read(found.path), module.recognise)
    converted = converted_by(module.convert, checkpoint, found.arguments)
    validate(converted, where=found.path)
    return checkpoint, converted


def _trial(found: Found) -> str:
    try:
        _converted(found)
    except PieError as error:
        return _reason(error, found)
    finally:
        gc.collect()
    return ""


def _reason(error: PieError, found: Found) -> str:
    """An error without its file; where the user must say something, with the command that takes it."""
    name = "" if found.module is None else found.module.__name__
    hint = f"; convert it: python -m {name}" if isinstance(error, UsageError) else ""
    return f"{str(error).removeprefix(f'{found.path}: ')}{hint}"


if __name__ == "__main__":
    sys.exit(main())
