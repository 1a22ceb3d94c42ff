"""The portraits on the page: what `pie embed` left in folders, and photos that were opened."""

from __future__ import annotations

import dataclasses
import pathlib
import secrets

import numpy as np
from PIL import Image

from pie_jax.edit.photo import photo_file
from pie_jax.errors import PackError, UsageError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.io import to_uint8
from pie_jax.pack import Pack
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.portrait import Embedding, PhotoEditor, synthesise
from pie_jax.portrait.calibration import FEEDBACK_ROUNDS
from pie_jax.portrait.latent_edits import check_pack
from pie_jax.portrait.matching import photo_detail

FAST = 256  # px of the pictures while a slider is dragged
LARGEST_GALLERY = 4096  # portraits
_READ, _OPEN = 32, 4  # portraits of folders whose files are kept in memory; that are kept ready for edits
_THUMB = 160  # px


@dataclasses.dataclass(kw_only=True)
class Portrait:
    """One portrait of the gallery. What its folder holds is read when it is first needed."""

    key: str
    name: str
    folder: pathlib.Path | None = None  # that `pie embed` made
    photo_path: pathlib.Path | None = None  # the whole photo, upright or not
    face: int = 1  # which of its faces, the largest first
    dropped: bool = False  # on the page: its file is the page's own and goes with it
    fitted: FittedPhoto | None = None
    embedding: Embedding | None = None
    editors: dict[int, PhotoEditor] = dataclasses.field(default_factory=dict)


class Gallery:
    """All portraits of a page, in order. Its methods run in the worker's thread."""

    def __init__(self, pack: Pack):
        self.pack = pack
        self.portraits: dict[str, Portrait] = {}
        self._read: dict[str, Portrait] = {}  # the last ones, the newest last
        self._open: dict[str, Portrait] = {}

    def add(self, name: str, **facts) -> Portrait:
        """A new portrait at the end. UsageError: there are too many."""
        if len(self.portraits) >= LARGEST_GALLERY:
            raise UsageError(f"more than {LARGEST_GALLERY} portraits; name fewer folders")
        portrait = Portrait(key=secrets.token_hex(8), name=name, **facts)
        self.portraits[portrait.key] = portrait
        return portrait

    def add_folders(self, out: pathlib.Path) -> int:
        """Every embedding in OUT, or in OUT itself where it is one; how many. Links that lead out are left alone."""
        root = out.resolve()
        found = [out] if (out / "embedding.npz").is_file() else sorted(p.parent for p in out.glob("*/embedding.npz"))
        inside = [f for f in found if (f / "embedding.npz").resolve().is_relative_to(root)]
        for folder in inside:
            self.add(folder.name, folder=folder)
        return len(inside)

    def of(self, key: object) -> Portrait:
        """The portrait of a key, read. UsageError: there is none. InputError, PackError: it cannot be used."""
        portrait = self.portraits.get(key) if isinstance(key, str) else None
        if portrait is None:
            raise UsageError("this portrait is not in the gallery any more; reload the page")
        if portrait.embedding is None and portrait.folder is not None:
            embedding = Embedding.load(portrait.folder)
            check_pack(self.pack, embedding)
            portrait.embedding = embedding
            portrait.editors.clear()  # they know nothing of it
            if photo_detail(self.pack.manifest, embedding, None) == 1.0:
                portrait.fitted = embedding.photo
                portrait.photo_path = photo_file(str(portrait.folder))
        if portrait.folder is not None:
            for old in _older(self._read, portrait, _READ):
                old.embedding = old.fitted = None
                old.editors.clear()
        return portrait

    def start(self, portrait: Portrait) -> FaceParams:
        """The FaceParams [n] that its edits start from."""
        if portrait.fitted is not None:
            return portrait.fitted.params
        params = portrait.embedding.params if portrait.embedding is not None else None
        if params is None:
            raise PackError(f"{portrait.name}: knows no face parameters; embed it with a pack that has a regressor")
        return params

    def editor(self, portrait: Portrait, *, size: int) -> PhotoEditor:
        """Its photo open for edits at about this size."""
        assert portrait.fitted is not None
        for old in _older(self._open, portrait, _OPEN):
            old.editors.clear()
        if size not in portrait.editors:
            corrections = 0 if size == FAST else FEEDBACK_ROUNDS
            portrait.editors[size] = PhotoEditor(self.pack, portrait.fitted, size=size, embedding=portrait.embedding,
                                                 corrections=corrections)
        return portrait.editors[size]

    def picture(self, portrait: Portrait) -> np.ndarray:
        """The portrait without edits, uint8 [R, R, 3]."""
        if portrait.fitted is not None:
            return portrait.fitted.portrait
        assert portrait.embedding is not None
        return to_uint8(np.asarray(synthesise(self.pack, portrait.embedding.w_plus[None])[0], np.float32))

    def thumbnail(self, portrait: Portrait) -> Image.Image:
        """A small picture of it."""
        return Image.fromarray(self.picture(portrait)).resize((_THUMB, _THUMB), Image.Resampling.LANCZOS)


def _older(used: dict[str, Portrait], portrait: Portrait, count: int) -> list[Portrait]:
    """Put a portrait last among the `used` ones, and take out those beyond the newest `count`."""
    used.pop(portrait.key, None)
    used[portrait.key] = portrait
    return [used.pop(key) for key in list(used)[:-count]]
