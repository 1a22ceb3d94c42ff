"""Edits of a photo's own pixels: moved by its fitted face and relit, as many as are asked of one photo.

Where the photo is embedded and the generator gives it back, the generator's edit corrects them (`photo.correction`).
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent
from pie_jax.config import CONTROLS
from pie_jax.errors import PackError
from pie_jax.face3d.morphable import FaceParams, control_vector, landmark_model, shape
from pie_jax.face3d.render import project
from pie_jax.io import to_uint8
from pie_jax.pack import Pack
from pie_jax.photo.composite import edited_portrait, packed_portrait
from pie_jax.photo.correction import corrected
from pie_jax.photo.fitted import PARTS as FITTED_PARTS
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import Layers, edit_layers, prepare_photo
from pie_jax.photo.maps import unpack_image
from pie_jax.portrait.calibration import FEEDBACK_ROUNDS
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.latent_edits import generated_edit
from pie_jax.portrait.matching import generator_trust
from pie_jax.portrait.reading import read_portraits
from pie_jax.portrait.request import AXES, photo_params_of, target_params
from pie_jax.portrait.synthesis import as_pack, synthesise
from pie_jax.runtime import backend

LARGEST_TURN = 20.0  # degrees away from the photo: beyond it, cheeks come into view that it does not show
_BATCH = 8  # edits at once on an accelerator


class PhotoEditor:
    """One photo open for many edits: what they have in common is done once.

    Args:
      pack: the pack that fitted it, or its folder or name; of its parts the morphable model is needed.
      photo: from `open_photo`, or an embedding's.
      size: px of the edited portrait, a power of two; default the photo's own, which is the most.
      embedding: of this photo. What its generator knows of an edit corrects it, as far as it gives the photo back.
      order, invert_response, corrections: of the generator's edits, as in `edit_portrait`.
    """

    def __init__(self, pack: Pack | str | os.PathLike, photo: FittedPhoto, *, size: int | None = None,
                 embedding: Embedding | Absent = None, order: Sequence[str] = CONTROLS, invert_response: bool = True,
                 corrections: int = FEEDBACK_ROUNDS):
        self.pack, self.photo = as_pack(pack), photo
        self.pack.require("morphable")
        self._embedding = embedding
        self._trust = 0.0 if embedding is None else generator_trust(self.pack.manifest, embedding)
        self._how = {"order": order, "invert_response": invert_response, "corrections": corrections}
        self._prepared = prepare_photo(self.pack, photo, size=size)

    def target(self, **request) -> FaceParams:
        """The FaceParams [n] that a request asks for. Arguments and errors as in `edit_portrait`."""
        if request.get("like") is not None:
            other, controls = request["like"]
            request["like"] = photo_params_of(self.pack, other, own=self.photo), controls
        return target_params(self.pack, self.photo.params, **request)[0]

    def layers(self, target: FaceParams) -> Layers:
        """How the edit to `target` [n] moves and relights the photo, and what the generator corrects of it."""
        layers, embedding = edit_layers(self.pack, self._prepared, target), self._embedding
        if embedding is None or embedding.params is None or self._trust == 0.0:
            return layers
        changed = self._changed(target)
        if not changed or not self._can_generate(changed):
            return layers
        wanted = _wanted(embedding.params, self.photo.params, target)
        edit = generated_edit(self.pack, embedding, like=(wanted, changed), **self._how)
        read = jax.tree.map(lambda a: np.asarray(a)[0], read_portraits(self.pack, jnp.asarray(edit)[None]))
        moved = self._landmarks(target) - self._landmarks(self.photo.params)
        place = _similarity(self._landmarks(embedding.params) + moved, self._landmarks(read))
        return corrected(self.pack, layers, target, before=self._given_back, after=to_uint8(edit), place=place,
                         trust=self._trust)

    def _changed(self, target: FaceParams) -> tuple[str, ...]:
        """The controls in which `target` is not the photo."""
        return tuple(control for control in CONTROLS if not np.array_equal(
            control_vector(target, control), control_vector(self.photo.params, control)))

    def _can_generate(self, controls: Sequence[str]) -> bool:
        """Whether the pack has what the generator's edit by these controls needs."""
        parts = ("generator", "regressor", *(f"rignet_{control}" for control in controls))
        return all(part in self.pack.weights for part in parts)

    @functools.cached_property
    def _given_back(self) -> np.ndarray:
        """[R, R, 3] uint8: the portrait as the generator gives it back."""
        assert self._embedding is not None
        return to_uint8(np.asarray(synthesise(self.pack, jnp.asarray(self._embedding.w_plus)[None])[0]))

    def _landmarks(self, params: FaceParams) -> np.ndarray:
        """[66, 2]: where the face model has them, in 0..1 of the portrait."""
        points = shape(landmark_model(self.pack.morphable), params)
        return np.asarray(project(points, params, self.pack.configs.camera, resolution=1)[:, :2])

    def edit(self, **request) -> np.ndarray:
        """The edited portrait, uint8 [R, R, 3]. Arguments and errors as in `edit_portrait`."""
        return edited_portrait(self.layers(self.target(**request)))

    def edit_many(self, targets: Sequence[FaceParams], *, batch: int | None = None) -> Iterator[np.ndarray]:
        """The portraits, uint8 [R, R, 3], of edits to many FaceParams [n], one after the other.

        batch: edits made at once, in programs under `jax.vmap`; default: 1 on a CPU, which is no quicker with more, 8
        elsewhere. Edits that a generator corrects are made one by one.
        """
        batch = batch or (1 if backend().is_cpu else _BATCH)
        if batch == 1 or self._trust > 0.0:
            yield from (edited_portrait(self.layers(target)) for target in targets)
            return
        for start in range(0, len(targets), batch):
            some = list(targets[start:start + batch])
            padded = some + some[-1:] * (batch - len(some))  # the same program for the rest
            stacked = jax.tree.map(lambda *fields: jnp.stack(fields), *padded)
            packed = np.asarray(jax.vmap(lambda target: packed_portrait(self.layers(target)))(stacked))
            yield from (unpack_image(one) for one in packed[:len(some)])


def turn_warnings(own: FaceParams, target: FaceParams) -> list[str]:
    """One line for each angle by which `target` [n] turns a photo's face, `own` [n], farther than its pixels go."""
    changes = np.degrees(np.asarray(target.rotation) - np.asarray(own.rotation))
    return [f"{name}: the photo's face turns by {change:+.0f} degrees; beyond {LARGEST_TURN:g}, skin comes into view "
            "that the photo does not show, and looks stretched"
            for name, change in zip(AXES, changes, strict=True) if name != "roll" and abs(change) > LARGEST_TURN]


def photo_editor(pack: Pack, embedding: Embedding, **knobs) -> PhotoEditor:
    """The photo of an embedding open for edits; knobs of `PhotoEditor`. PackError: the embedding has none."""
    if embedding.photo is None:
        raise PackError(f"{pack.name}: the embedding has no fitted photo; embed it again with a pack that has "
                        f"{', '.join(FITTED_PARTS)}")
    return PhotoEditor(pack, embedding.photo, embedding=embedding, **knobs)


def edit_photo(pack: Pack | str | os.PathLike, photo: FittedPhoto, **request) -> np.ndarray:
    """A photo's own pixels with another pose, expression or light, without embedding it: [R, R, 3] float32 in 0..1.

    Args:
      pack: the pack that fitted it, or its folder or name; of its parts the morphable model is needed.
      photo: from `open_photo`, or an embedding's. Many edits of one photo are quicker by a `PhotoEditor`.
      request: yaw, pitch, roll, expression, light, like: as in `edit_portrait`, errors too.
    """
    return PhotoEditor(pack, photo).edit(**request).astype(np.float32) / 255.0


def _wanted(read: FaceParams, fitted: FaceParams, target: FaceParams) -> FaceParams:
    """What the generator is asked for, of FaceParams [n] read in what it gives back.

    Pose and expression change by as much as the fitted photo's do, light becomes what is asked.
    """
    return dataclasses.replace(read, rotation=read.rotation + (target.rotation - fitted.rotation),
                               expression=read.expression + (target.expression - fitted.expression),
                               illumination=np.asarray(target.illumination))


def _similarity(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[2, 3]: the turn, scale and shift that brings places [N, 2] closest to others [N, 2]."""
    a, b = places @ np.array([1.0, 1j]), others @ np.array([1.0, 1j])  # complex numbers: x + iy
    centred = a - a.mean()
    turn = (centred.conj() * (b - b.mean())).sum() / (centred.conj() * centred).sum().real
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
