"""One run of the embed command at work: batches of photos, checkpoints, results, and a summary."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from pie_jax import __version__
from pie_jax.cli import command
from pie_jax.cli.progress import Progress, duration
from pie_jax.cli.signals import Interruption
from pie_jax.config import EmbedConfig
from pie_jax.embed.photos import (
    BEGUN,
    Photo,
    leave_folder,
    make_folder,
    settings_hash,
    settle,
)
from pie_jax.embed.results import write_results
from pie_jax.embed.summary import write_summary
from pie_jax.energy import portrait_energy
from pie_jax.errors import (
    InputError,
    NumericsError,
    PieError,
    ResourceError,
    of_the_whole_run,
)
from pie_jax.io import load_photo, load_portrait
from pie_jax.io.images import shown
from pie_jax.pack import Pack, load_pack
from pie_jax.photo import fitted
from pie_jax.photo.align import whole
from pie_jax.photo.squares import SquareReader
from pie_jax.portrait import Checkpoint, EmbedProgress, embed_portraits
from pie_jax.portrait.early import make_edits_early, make_photo_edits_early, make_programs_early
from pie_jax.portrait.face_points import fit_face
from pie_jax.portrait.micro_batch import micro_batch_of
from pie_jax.programs import is_known, read_ahead, stop_making
from pie_jax.runtime import keeps_programs, local_devices

_SAVE_SECONDS = 30.0  # at most so much work is lost when the process is killed without a signal it can answer


def say_bad(photos: Sequence[Photo], progress: Progress) -> None:
    for photo in photos:
        if photo.error is not None:
            progress.warn(f"error: {photo.error}")


class Work:
    """The state of one run of the command."""

    def __init__(self, arguments, config: EmbedConfig, *, pack_hash: str, photos: list[Photo],
                 progress: Progress, several: bool):
        self.arguments, self.config = arguments, config
        self.pack_hash, self.photos, self.progress = pack_hash, photos, progress
        self.several = several  # whether the whole run, of which this may be a share, has more than one photo
        self.rows: list[dict] = []
        self.at_work: list[Photo] = []
        self.snapshot = None  # () -> checkpoints of the photos at work
        self.saved_at = time.monotonic()
        self.compiled = False
        self.devices: list = []
        self.batch = 1  # portraits that are embedded at once
        self.edits_known = True  # whether programs of photos' edits are made, or begun

    def say_plan(self) -> None:
        words = {"new": "embed", "resume": "go on", "again": "embed again (other settings)", "finished": "skip, done"}
        steps = " + ".join(f"{stage.steps} in {_space(stage.space)}" for stage in self.config.stages)
        energy = self.config.energy
        plan = {"pack_hash": self.pack_hash, "steps": steps, "terms": energy.terms, "controls": energy.controls,
                "photos": [{"photo": str(p.path), "out": str(p.assigned) if p.assigned else None, "plan": p.plan,
                            "error": str(p.error) if p.error else None} for p in self.photos]}
        if self.arguments.json:
            print(json.dumps(plan, indent=1))
            return
        print(f"steps {steps}; terms {', '.join(energy.terms)}; controls {', '.join(energy.controls)}; "
              f"pack {self.pack_hash[:12]}")
        for photo in self.photos:
            verb = f"bad: {photo.error}" if photo.error else f"{words[photo.plan]} -> {photo.folder}"
            print(f"{shown(photo.path)}  {verb}")

    def run(self, folder: pathlib.Path, interruption: Interruption) -> None:
        for photo in self.photos:
            if photo.error is None and photo.plan == "finished":
                settle(photo)  # the run that finished it may have been killed before it did so
                self.progress.note(f"{shown(photo.path)}: already done in {photo.folder} (--restart does it again)")
                self._add_row(photo, _read_report(photo.folder))
            elif photo.error is None and photo.plan == "again" and not self.arguments.restart:
                self.progress.note(f"{shown(photo.path)}: settings, pack or results in {photo.folder} have changed, "
                                   "embedding it again")
        todo = [photo for photo in self.photos if not photo.settled]
        if not todo:
            return
        began = time.perf_counter()
        command.configure(self.arguments.device, autotune=self.arguments.autotune)
        known = read_ahead("embed")
        good = [photo for photo in self.photos if photo.error is None]
        self.devices = local_devices(count=self.arguments.devices)[:len(good)]
        pack = load_pack(folder)
        if self.config.stages[0].encoded and not self.config.stages[0].nearest_random_codes:
            pack.require("encoder")
        each = -(-min(self.arguments.batch, len(good)) // len(self.devices))
        self.batch = each * len(self.devices)  # the same when a run is resumed
        self.edits_known = is_known("edit") or len(self.devices) > 1
        if not known and len(self.devices) == 1:
            make_programs_early(pack, self.config, batch=micro_batch_of(
                each, generator=pack.configs.generator, platform=self.devices[0].platform,
                asked=self.arguments.micro_batch))
            make_edits_early(pack)
        self.pack_folder = folder
        pack_seconds = time.perf_counter() - began
        if not fitted.can_fit(pack):
            self.progress.note("note: the pack has no networks that find faces: photos must be framed as its portraits "
                               "are, and edits are the generator's alone")
        energy = portrait_energy(pack, config=self.config.energy)
        for what, why in energy.missing:
            self.progress.note(f"note: {what} is left out of the energy: {why}")
        if energy.missing and len(energy.terms) == 1:
            self.progress.note(f"note: the energy is the term {energy.terms[0]} alone")
        starts = {id(photo): self._checkpoint(photo) for photo in todo}
        try:
            for group in _groups(todo, starts, self.batch):
                self._batch(pack, group, [starts[id(photo)] for photo in group], interruption, pack_seconds)
        finally:
            stop_making()

    def _checkpoint(self, photo: Photo) -> Checkpoint | None:
        if photo.plan != "resume":
            return None
        try:
            checkpoint = Checkpoint.load(photo.folder / "checkpoint.npz")
        except InputError as error:
            self.progress.note(f"note: {error}; starting from the beginning")
            return None
        self.progress.note(f"{shown(photo.path)}: going on from the checkpoint in {photo.folder}")
        return checkpoint

    def _batch(self, pack: Pack, group: list[Photo], starts: list[Checkpoint | None], interruption: Interruption,
               pack_seconds: float) -> None:
        portraits, photographs = [], []
        for photo in group:
            try:
                make_folder(photo)
                portrait, photograph = self._portrait(pack, photo)
            except PieError as error:
                leave_folder(photo)
                _kept_with(photo, error)
                continue
            portraits.append(portrait)
            photographs.append(photograph)
        starts = [start for start, photo in zip(starts, group, strict=True) if photo.error is None]
        group = [photo for photo in group if photo.error is None]
        if not group:
            return
        self.at_work, self.snapshot, self.saved_at = group, None, time.monotonic()
        first = shown(group[0].path.name)
        label = first if len(group) == 1 else f"{first} + {len(group) - 1}"
        if len(self.photos) > 1:  # one bar for all of them
            settled = sum(photo.settled or photo.plan == "done" for photo in self.photos)
            label = f"{settled + 1}/{len(self.photos)} {label}"
        self.progress.start(label)
        embed = partial(embed_portraits, pack, portraits, config=self.config, batch=self.batch, devices=self.devices,
                        landmarks=[None if each is None else each.landmarks for each in photographs],
                        micro_batch=self.arguments.micro_batch, progress=self._progress)
        try:
            embeddings = embed(resume=starts)
        except ValueError as error:
            if not any(starts):
                raise
            self.progress.note(f"note: checkpoint of another version ({error}); starting from the beginning")
            embeddings = embed()
        for photo, portrait, photograph, embedding in zip(group, portraits, photographs, embeddings, strict=True):
            embedding = dataclasses.replace(embedding, photo=photograph)
            try:
                with interruption.busy:
                    seconds = {"load": photo.load_seconds + pack_seconds}
                    settings = settings_hash(self.config, pack_hash=self.pack_hash, photo_sha256=photo.sha256,
                                             framing=photo.framing)
                    report = write_results(pack, photo, portrait, embedding, settings=settings, seconds=seconds,
                                           pack_folder=self.pack_folder)
                    settle(photo)
                    photo.plan = "done"
            except ResourceError as error:
                _kept_with(photo, error)
                continue
            self._add_row(photo, report)
            if embedding.report["outcome"] != "finished":
                term = embedding.report["incidents"][-1]["term"] if embedding.report["incidents"] else "a value"
                photo.error = NumericsError(f"{shown(photo.path)}: {term} was not finite and could not be recovered, "
                                            f"the best so far is in {photo.folder}; lower its --weight or the steps")
            self.progress.clear()
            if report["match"] is not None and report["match"]["verdict"] == "poor":
                self.progress.warn(_poorly(photo, report["match"], pack.name))
            if not self.arguments.json:
                print(_line(photo, report), flush=True)
        self.at_work, self.snapshot = [], None

    def _portrait(self, pack: Pack, photo: Photo) -> tuple[np.ndarray, fitted.FittedPhoto | None]:
        """The square that is embedded, [R, R, 3], and the photo fitted for edits of its own pixels."""
        resolution = pack.configs.generator.resolution
        silent = lambda text: None  # noqa: E731 - said when it was first opened
        if not photo.framing:
            return load_portrait(photo.path, resolution=resolution, notice=silent), None
        image = load_photo(photo.path, notice=silent)
        square, landmarks = fitted.frame_photo(
            pack, image, align=self.arguments.align, face=photo.face, landmarks=photo.landmarks,
            where=shown(photo.path), tell=lambda text: self.progress.note(f"note: {text}"))

        def make_edits(stranger: bool) -> None:
            if stranger and not self.edits_known:  # edits of whom the pack knows are the generator's
                make_photo_edits_early(pack, size=fitted.portrait_size(square))
                self.edits_known = True

        photograph = fit_face(pack, image, square, landmarks, known=photo.landmarks is not None, before_fit=make_edits)
        make_edits(stranger=photograph.landmarks_by != "landmarks")
        if square == whole(image.size):
            return load_portrait(photo.path, resolution=resolution, notice=silent), photograph
        return SquareReader(image).read(square, resolution, mirror=True), photograph

    def _progress(self, event: EmbedProgress) -> None:
        if event.phase == "compile":
            if not self.compiled:
                kept = "; kept for later runs" if keeps_programs() else ""
                self.progress.note(f"compiling (once for each setting{kept}) ...")
            self.compiled = True
            return
        self.snapshot = event.checkpoints
        self.progress.update(event.step, event.steps, energy=event.energy, what=_space(event.space))
        if time.monotonic() - self.saved_at > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        if self.snapshot is None:
            return
        for photo, checkpoint in zip(self.at_work, self.snapshot(), strict=True):
            if photo.plan == "done":
                continue
            settings = settings_hash(self.config, pack_hash=self.pack_hash, photo_sha256=photo.sha256,
                                         framing=photo.framing)
            try:
                checkpoint.save(photo.folder / "checkpoint.npz", facts={
                    "settings": settings, "photo": photo.sha256, "version": __version__})
                (photo.folder / BEGUN).unlink(missing_ok=True)
            except ResourceError as error:
                if of_the_whole_run(error):
                    raise
                self.progress.note(f"note: {error}; going on without a checkpoint")
        self.saved_at = time.monotonic()

    def interrupted(self) -> None:
        """On a thread of its own, at a signal: save, say how to go on."""
        saved = "nothing new to save"
        try:
            if self.snapshot is not None:
                self._save()
                saved = "saved"
        except PieError as error:
            saved = f"could not save: {error}"
        self.progress.clear()
        resume = shlex.join(["python", "-m", "pie_jax.embed", *(a for a in self.arguments.words if a != "--restart")])
        self.progress.warn(f"interrupted, {saved}; to go on: {resume}")

    def _add_row(self, photo: Photo, report: dict) -> None:
        self.rows.append({"photo": str(photo.path), "out": str(photo.folder), "outcome": report.get("outcome"),
                          **report.get("metrics", {})})

    def summarise(self) -> None:
        bad = [(photo, photo.error) for photo in self.photos if photo.error is not None]
        say_bad(self.photos, self.progress)
        if self.several:
            out = pathlib.Path(self.arguments.out)
            write_summary(out, [(str(photo.path), str(error)) for photo, error in bad])
            self.progress.note(f"all at a glance: {shown(out / 'index.html')}, {shown(out / 'summary.csv')}")
        if bad:
            names = ", ".join(shown(photo.path.name) for photo, _ in bad)
            self.progress.warn(f"{len(self.photos) - len(bad)} of {len(self.photos)} photos embedded, "
                               f"{len(bad)} failed: {names}")
        if self.arguments.json:
            failed = [{"photo": str(p.path), "error": str(error), "exit_code": error.exit_code} for p, error in bad]
            print(json.dumps({"results": self.rows, "failed": failed}, indent=1))
        sys.stdout.flush()


def _space(space: str) -> str:
    return {"w": "W", "w_plus": "W+"}[space]


def _groups(todo: list[Photo], starts: dict, batch: int) -> list[list[Photo]]:
    """Batches of photos in the same stage, resumed ones first."""
    def stage(photo: Photo) -> int:
        return starts[id(photo)].stage if starts[id(photo)] else -1

    found = []
    for value in sorted({stage(photo) for photo in todo}, reverse=True):
        same = [photo for photo in todo if stage(photo) == value]
        found += [same[i:i + batch] for i in range(0, len(same), batch)]
    return found


def _kept_with(photo: Photo, error: PieError) -> None:
    """Keep an error with its photo, so that the others go on; raise what no other photo would escape."""
    if of_the_whole_run(error):
        raise error
    photo.error = error


def _read_report(folder: pathlib.Path) -> dict:
    from pie_jax.io import read_json

    return read_json(folder / "report.json")


def _line(photo: Photo, report: dict) -> str:
    figures, seconds = report["metrics"], report["seconds"]
    words = {"psnr_db": "{:.2f} dB", "ssim": "SSIM {:.3f}", "identity_cosine": "identity {:.3f}",
             "landmark_error_px224": "landmarks {:.1f} px"}
    facts = [text.format(figures[name]) for name, text in words.items() if figures.get(name) is not None]
    facts.append(duration(seconds["compile"] + seconds["optimise"] + seconds["edit"]))
    return f"{shown(photo.folder)}  " + "  ".join(facts)


def _poorly(photo: Photo, match: dict, pack_name: str) -> str:
    instead = "edits show the photo's own pixels" if photo.framing else "mind its edits"
    return (f"{shown(photo.path.name)}: poorly matched, {match['psnr_db']:.1f} dB where the pack's own people reach "
            f"{match['own_psnr_db']:.1f}; the pack {pack_name!r} was not made for such pictures: {instead}")
