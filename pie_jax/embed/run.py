"""What the embed command does once its arguments are good: photos in, folders of results out, one summary."""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Sequence

from pie_jax.cli.progress import Progress
from pie_jax.cli.signals import Interruption
from pie_jax.embed.arguments import embed_config
from pie_jax.embed.framing import check_framing, each_face, framing_of
from pie_jax.embed.photos import (
    Photo,
    assign_folders,
    collect,
    file_hash,
    listed,
    output_folder,
)
from pie_jax.embed.share import find_share
from pie_jax.embed.work import Work, say_bad
from pie_jax.errors import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    InputError,
    PackError,
)
from pie_jax.io import load_photo, load_portrait
from pie_jax.io.images import shown
from pie_jax.pack import configs_of, find_pack, has_encoder, pack_hash, read_manifest
from pie_jax.photo.landmarks_file import read_landmarks


def run(arguments: argparse.Namespace) -> int:
    """Embed all photos; the exit code. Raises PieError for what stops everything."""
    with Progress(quiet=arguments.quiet) as progress:
        share = find_share(arguments)
        folder = find_pack(arguments.pack)
        manifest = read_manifest(folder)
        configs = configs_of(manifest)
        if configs.generator is None:
            raise PackError(f"{shown(folder)}: the pack has no generator; train or convert one first")
        config = embed_config(arguments, configs.energy, encoder=has_encoder(manifest))
        every = collect([*arguments.photos, *listed(arguments.list or ()),
                         *([_sample(folder, arguments.sample)] if arguments.sample else [])])
        photos = share.of(every)
        if share.count > 1:
            progress.note(f"process {share.index} of {share.count}: {len(photos)} of {len(every)} photos")
        check_framing(arguments, manifest)
        known = read_landmarks(arguments.landmarks) if arguments.landmarks else {}
        for photo in photos:
            photo.face = arguments.face if isinstance(arguments.face, int) else None
            photo.landmarks = known.get(photo.path.name, known.get(photo.path.stem))
            photo.framing = framing_of(arguments, manifest, photo)
            _open(photo, configs.generator.resolution, progress)
        if arguments.face == "all":
            photos = each_face(photos, folder, arguments, manifest)
        if photos and all(photo.error for photo in photos):
            say_bad(photos, progress)
            return _exit_code(photos)
        out = pathlib.Path(arguments.out)
        work = Work(arguments, config, pack_hash=pack_hash(manifest), photos=photos, progress=progress,
                    several=max(len(every), len(photos)) > 1)
        if arguments.dry_run:
            assign_folders(photos, out, config=config, pack_hash=work.pack_hash, restart=arguments.restart)
            work.say_plan()
            return _exit_code(photos)
        with output_folder(out, share=share.name) as locked, Interruption(work.interrupted) as interruption:
            if not locked:
                progress.note(f"note: {shown(out)}: there are no file locks here; let no second run write there")
            assign_folders(photos, out, config=config, pack_hash=work.pack_hash, restart=arguments.restart)
            work.run(folder, interruption)
        work.summarise()
        return _exit_code(photos)


def _sample(folder: pathlib.Path, kind: str) -> str:
    path = folder / f"{kind}.png"
    if not path.is_file():
        raise PackError(f"{shown(folder)}: the pack has no {kind}.png; name a photo instead of --demo")
    return str(path)


def _open(photo: Photo, resolution: int, progress: Progress) -> None:
    """Decode a photo once to know that it can be; what is wrong with it is kept with it, its pixels are not."""
    if photo.error is not None:
        return
    began = time.perf_counter()
    try:
        tell = lambda text: progress.note(f"note: {text}")  # noqa: E731
        if photo.framing:
            load_photo(photo.path, notice=tell)
        else:
            load_portrait(photo.path, resolution=resolution, notice=tell)
        photo.sha256 = file_hash(photo.path)
    except InputError as error:
        photo.error = error
    except OSError as error:  # it vanished in between
        photo.error = InputError(f"{shown(photo.path)}: cannot be read ({error.strerror}); check it")
    photo.load_seconds = time.perf_counter() - began


def _exit_code(photos: Sequence[Photo]) -> int:
    bad = [photo.error.exit_code for photo in photos if photo.error is not None]
    if not bad:
        return EXIT_OK
    return bad[0] if len(bad) == len(photos) and len(set(bad)) == 1 else EXIT_SOME_FAILED
