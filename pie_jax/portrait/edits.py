"""Edits of an embedding: of its photo's own pixels, by the generator, or both."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.config import CONTROLS
from pie_jax.errors import UsageError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.face3d.render import render
from pie_jax.pack import Pack
from pie_jax.photo.composite import edited_portrait
from pie_jax.portrait.calibration import FEEDBACK_ROUNDS, range_warnings
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.latent_edits import batched, check_pack, generated_edit
from pie_jax.portrait.matching import generator_trust, photo_detail
from pie_jax.portrait.photo_edits import photo_editor, turn_warnings
from pie_jax.portrait.request import Like
from pie_jax.portrait.synthesis import as_pack
from pie_jax.programs import kept


class ReachWarning(UserWarning):
    """An edit asks for more than this pack was measured to do, or than the photo shows."""


def edit_portrait(pack: Pack | str | os.PathLike, embedding: Embedding, *, yaw: float | None = None,
                  pitch: float | None = None, roll: float | None = None, expression: Mapping[str, float] | None = None,
                  light: Sequence[float] | None = None, like: tuple[Like, Sequence[str]] | None = None,
                  order: Sequence[str] = CONTROLS, invert_response: bool = True, corrections: int = FEEDBACK_ROUNDS,
                  detail: float | None = None) -> np.ndarray:
    """The embedded portrait with other pose, expression or light.

    All values are absolute: what is asked replaces what the embedding has, what is not asked stays. Each control that
    is asked for goes through its rig once, in `order`.

    Args:
      pack: the pack of the embedding, or its folder or name.
      embedding: from `embed_portraits` or `Embedding.load`.
      yaw, pitch, roll: degrees; + turns the face to the image's right, down, anticlockwise.
      expression: component name to value in standard deviations (names: `pack.morphable.expression_names`).
      light: azimuth (+ from the image's right) and elevation (+ from above) in degrees, and intensity of one white
        light over the portrait's own ambient light, or over a fourth number, an ambient light.
      like: (another embedding, its folder, a photo, a portrait [H, W, 3] or FaceParams; controls taken from it).
      order: the controls, first one first.
      detail: how much of the picture is the photo's own pixels, moved and relit, 0..1 (0: the generator alone, PIE
        as published). None: 1 where the embedding has its photo and the generator does not give it back as it does
        its own people, else 0. The moved pixels are corrected by the generator's edit as far as it gives the photo
        back (see `photo.correction`).
      invert_response: ask the rigs for as much more as their response falls short (see `calibration`). Without a
        measurement of it in the pack nothing changes.
      corrections: how often an edit by the generator is read and corrected then; 0 is quicker and less exact.

    Returns:
      [H, W, 3] float32 in 0..1, as large as the generator's portraits, and where the photo's own pixels are shown as
      large as `embedding.photo.portrait`. Without any request: the synthesis itself, or the photo. A ReachWarning says
      where what is asked lies outside the range in which edits of this pack were measured to arrive.

    Raises:
      UsageError: unknown component or control, angle out of range, corrections below 0. PackError: another pack's
      embedding, or a part (rig, regressor, morphable model) that this edit needs is missing. NumericsError: a part
      gives NaN or infinity.
    """
    pack = as_pack(pack)
    if detail is not None and not 0.0 <= detail <= 1.0:
        raise UsageError(f"detail: expected 0 to 1, got {detail:g}")
    check_pack(pack, embedding)
    asked = {"yaw": yaw, "pitch": pitch, "roll": roll, "expression": expression, "light": light, "like": like}
    share = photo_detail(pack.manifest, embedding, detail)
    how = {"order": order, "invert_response": invert_response, "corrections": corrections}
    if share == 1.0:
        image = _own(pack, embedding, asked, how)
    else:
        image = generated_edit(pack, embedding, **asked, **how)
        if share > 0.0:
            own = _own(pack, embedding, asked, how)
            image = share * own + (1.0 - share) * np.asarray(jax.image.resize(image, own.shape, "cubic")).clip(0.0, 1.0)
    if share < 1.0 or generator_trust(pack.manifest, embedding) > 0.0:  # after the edit, which checked the request
        for line in range_warnings(pack, yaw=yaw, pitch=pitch, roll=roll, expression=expression, light=light):
            warnings.warn(line, ReachWarning, stacklevel=2)
    return image


def _own(pack: Pack, embedding: Embedding, asked: Mapping, how: Mapping) -> np.ndarray:
    editor = photo_editor(pack, embedding, **how)
    target = editor.target(**asked)
    for line in turn_warnings(editor.photo.params, target):
        warnings.warn(line, ReachWarning, stacklevel=3)
    return edited_portrait(editor.layers(target)) / np.float32(255.0)


def render_params(pack: Pack, params: FaceParams, *, resolution: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The morphable model's own picture of `params` (fields [n]) in the portrait's frame.

    Returns: image [R, R, 3] in 0..1 and coverage [R, R] in 0..1. Raises PackError: the pack has no morphable model.
    """
    pack.require("morphable")
    resolution = resolution or pack.configs.generator.resolution
    image, coverage = render_batch(pack, batched(params), resolution=resolution)
    return np.asarray(image)[0], np.asarray(coverage)[0]


@kept(static_argnames="resolution", level=0)
def render_batch(pack: Pack, params: FaceParams, *, resolution: int) -> tuple[jax.Array, jax.Array]:
    """Image [B, R, R, 3] in 0..1 and coverage [B, R, R] of the morphable model at `params` [B, n]."""
    rendering = render(pack.morphable, params, pack.configs.camera, resolution=resolution, supersample=2)
    return jnp.clip(rendering.image, 0.0, 1.0), rendering.coverage
