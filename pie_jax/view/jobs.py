"""A photo of the page embedded, as `pie embed` does it, with its progress told and its synthesis shown."""

from __future__ import annotations

import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pie_jax.config import DEFAULT_PRESET, EmbedConfig, preset_stages
from pie_jax.embed.photos import (
    Photo,
    assign_folders,
    file_hash,
    make_folder,
    output_folder,
    settings_hash,
    settle,
)
from pie_jax.embed.results import write_results
from pie_jax.errors import PieError, UsageError
from pie_jax.io import shown, to_uint8
from pie_jax.pack import Pack, find_pack
from pie_jax.photo.squares import SquareReader
from pie_jax.portrait import EmbedProgress, embed_portraits, synthesise
from pie_jax.view.gallery import Portrait
from pie_jax.view.pictures import framed, jpeg

_SHOWN_SECONDS = 1.0  # between two pictures of the synthesis
_YIELD_SECONDS = 0.01

Tell = Callable[[bytes], None]


class Cancelled(Exception):
    """The user stopped a job."""


class EmbeddingJob:
    """One photo being embedded, in a thread of its own. At most one is at work."""

    def __init__(self, pack: Pack, pack_name: str, out: pathlib.Path, *, busy: Callable[[], bool]):
        """busy: whether a picture is asked for just now; then the steps wait."""
        self.pack, self.pack_name, self.out, self.busy = pack, pack_name, out, busy
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, portrait: Portrait, image: Any, tell: Tell, done: Callable[[pathlib.Path], None]) -> None:
        """Embed a portrait that was opened from `image`; `done` is called with its folder.

        UsageError: one is at work.
        """
        if self._thread is not None and self._thread.is_alive():
            raise UsageError("a photo is being embedded; wait for it or cancel it")
        self._cancel.clear()
        self._thread = threading.Thread(target=self._run, args=(portrait, image, tell, done), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop it at its next steps; nothing is written."""
        self._cancel.set()

    def join(self, seconds: float) -> None:
        """Wait for its end, but not for ever."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, portrait: Portrait, image: Any, tell: Tell, done: Callable[[pathlib.Path], None]) -> None:
        facts = {"type": "job", "portrait": portrait.key}
        try:
            folder = self._embed(portrait, image, tell, facts)
        except Cancelled:
            tell(framed({**facts, "state": "cancelled"}))
        except PieError as error:
            tell(framed({**facts, "state": "failed", "text": str(error)}))
        except Exception as error:  # the page must not wait for what has died
            tell(framed({**facts, "state": "failed", "text": f"unexpected {type(error).__name__}: {error}"[:300]}))
        else:
            done(folder)
            tell(framed({**facts, "state": "done", "folder": shown(folder)}))

    def _embed(self, portrait: Portrait, image: Any, tell: Tell, facts: dict) -> pathlib.Path:
        assert portrait.fitted is not None and portrait.photo_path is not None
        config = EmbedConfig(energy=self.pack.configs.energy, stages=preset_stages(
            DEFAULT_PRESET, encoder=self.pack.has_encoder))
        photo = Photo(path=portrait.photo_path, sha256=file_hash(portrait.photo_path), framing=f"face {portrait.face}")
        square = SquareReader(image).read(portrait.fitted.square, self.pack.configs.generator.resolution, mirror=True)
        last = 0.0

        def progress(event: EmbedProgress) -> None:
            nonlocal last
            while self.busy() and not self._cancel.is_set():
                time.sleep(_YIELD_SECONDS)
            if self._cancel.is_set():
                raise Cancelled
            state = {**facts, "state": event.phase, "step": event.step, "steps": event.steps}
            if event.phase == "optimise" and time.monotonic() - last > _SHOWN_SECONDS:
                w_plus = event.checkpoints()[0].w_plus
                picture = np.asarray(synthesise(self.pack, w_plus[None])[0])
                tell(framed(state, data=jpeg(to_uint8(picture))))
                last = time.monotonic()
            else:
                tell(framed(state))

        with output_folder(self.out):
            assign_folders([photo], self.out, config=config, pack_hash=self.pack.hash, restart=False)
            if photo.plan != "finished":
                embedding = embed_portraits(self.pack, square[None], config=config, progress=progress,
                                            landmarks=[portrait.fitted.landmarks])[0]
                embedding = dataclasses.replace(embedding, photo=portrait.fitted)
                make_folder(photo)
                settings = settings_hash(config, pack_hash=self.pack.hash, photo_sha256=photo.sha256,
                                         framing=photo.framing)
                write_results(self.pack, photo, square, embedding, settings=settings, seconds={},
                              pack_folder=find_pack(self.pack_name))
                settle(photo)
        return photo.folder
