"""Edits of a photo's own pixels: moved by its fitted face and relit, as many as are asked of one photo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.errors import PackError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.pack import Pack
from pie_jax.photo.composite import edited_portrait, packed_portrait
from pie_jax.photo.fitted import PARTS as FITTED_PARTS
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import Layers, edit_layers, prepare_photo
from pie_jax.photo.maps import unpack_image
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.request import photo_params_of, target_params
from pie_jax.portrait.synthesis import as_pack
from pie_jax.runtime import backend

_BATCH = 8  # edits at once on an accelerator


class PhotoEditor:
    """One photo open for many edits: what they have in common is done once.

    Args:
      pack: the pack that fitted it, or its folder or name; of its parts the morphable model is needed.
      photo: from `open_photo`, or an embedding's.
      size: px of the edited portrait, a power of two; default the photo's own, which is the most.
    """

    def __init__(self, pack: Pack | str | os.PathLike, photo: FittedPhoto, *, size: int | None = None):
        self.pack, self.photo = as_pack(pack), photo
        self.pack.require("morphable")
        self._prepared = prepare_photo(self.pack, photo, size=size)

    def target(self, **request) -> FaceParams:
        """The FaceParams [n] that a request asks for. Arguments and errors as in `edit_portrait`."""
        if request.get("like") is not None:
            other, controls = request["like"]
            request["like"] = photo_params_of(self.pack, other, own=self.photo), controls
        return target_params(self.pack, self.photo.params, **request)[0]

    def layers(self, target: FaceParams) -> Layers:
        """How the edit to `target` [n] moves and relights the photo."""
        return edit_layers(self.pack, self._prepared, target)

    def edit(self, **request) -> np.ndarray:
        """The edited portrait, uint8 [R, R, 3]. Arguments and errors as in `edit_portrait`."""
        return edited_portrait(self.layers(self.target(**request)))


    def edit_many(self, targets: Sequence[FaceParams], *, batch: int | None = None) -> Iterator[np.ndarray]:
        """The portraits, uint8 [R, R, 3], of edits to many FaceParams [n], one after the other.

        batch: edits made at once, in programs under `jax.vmap`; default: 1 on a CPU, which is no quicker with more, 8
        elsewhere.
        """
        batch = batch or (1 if backend().is_cpu else _BATCH)
        if batch == 1:
            yield from (edited_portrait(self.layers(target)) for target in targets)
            return
        for start in range(0, len(targets), batch):
            some = list(targets[start:start + batch])
            padded = some + some[-1:] * (batch - len(some))  # the same program for the rest
            stacked = jax.tree.map(lambda *fields: jnp.stack(fields), *padded)
            packed = np.asarray(jax.vmap(lambda target: packed_portrait(self.layers(target)))(stacked))
            yield from (unpack_image(one) for one in packed[:len(some)])


def photo_editor(pack: Pack, embedding: Embedding, *, size: int | None = None) -> PhotoEditor:
    """The photo of an embedding open for edits. PackError: the embedding has none."""
    if embedding.photo is None:
        raise PackError(f"{pack.name}: the embedding has no fitted photo; embed it again with a pack that has "
                        f"{', '.join(FITTED_PARTS)}")
    return PhotoEditor(pack, embedding.photo, size=size)


def edit_photo(pack: Pack | str | os.PathLike, photo: FittedPhoto, **request) -> np.ndarray:
    """A photo's own pixels with another pose, expression or light, without embedding it: [R, R, 3] float32 in 0..1.

    Args:
      pack: the pack that fitted it, or its folder or name; of its parts the morphable model is needed.
      photo: from `open_photo`, or an embedding's. Many edits of one photo are quicker by a `PhotoEditor`.
      request: yaw, pitch, roll, expression, light, like: as in `edit_portrait`, errors too.
    """
    return PhotoEditor(pack, photo).edit(**request).astype(np.float32) / 255.0
