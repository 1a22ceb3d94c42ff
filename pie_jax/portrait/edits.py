"""Edits of an embedding: asked parameters through the rigs, one control after the other, then one synthesis."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent
from pie_jax.config import CONTROLS, GeneratorConfig
from pie_jax.errors import NumericsError, PackError, UsageError, choose
from pie_jax.face3d.morphable import FaceParams, with_control
from pie_jax.face3d.render import render
from pie_jax.pack import Pack
from pie_jax.portrait.calibration import FEEDBACK_ROUNDS, apply_rig, range_warnings, solve_edit
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.matching import photo_detail
from pie_jax.portrait.photo_edits import edit_photo
from pie_jax.portrait.request import Like, names_of, target_params
from pie_jax.portrait.synthesis import as_pack, synthesise
from pie_jax.programs import kept


class ReachWarning(UserWarning):
    """An edit asks for more than this pack was measured to do."""


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
        its own people, else 0.
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
    asked = {"yaw": yaw, "pitch": pitch, "roll": roll, "expression": expression, "light": light, "like": like}
    share = photo_detail(pack.manifest, embedding, detail)
    if share == 1.0:
        check_pack(pack, embedding)
        return _photo_edit(pack, embedding, asked)
    w_plus, _ = edit_latent(pack, embedding, **asked, order=order, invert_response=invert_response,
                            corrections=corrections)
    for line in range_warnings(pack, yaw=yaw, pitch=pitch, roll=roll, expression=expression, light=light):
        warnings.warn(line, ReachWarning, stacklevel=2)
    image = np.asarray(synthesise(pack, jnp.asarray(w_plus)[None])[0], np.float32)
    image = _finite(image, "the edited picture", "the generator").clip(0.0, 1.0)
    if share == 0.0:
        return image
    own = _photo_edit(pack, embedding, asked)
    return share * own + (1.0 - share) * np.asarray(jax.image.resize(image, own.shape, "cubic")).clip(0.0, 1.0)


def _photo_edit(pack: Pack, embedding: Embedding, asked: Mapping) -> np.ndarray:
    assert embedding.photo is not None
    return edit_photo(pack, embedding.photo, **asked)


def edit_latent(pack: Pack, embedding: Embedding, *, order: Sequence[str] = CONTROLS, invert_response: bool = True,
                corrections: int = FEEDBACK_ROUNDS, **request) -> tuple[np.ndarray, FaceParams | Absent]:
    """The edited code [L, D] and the FaceParams asked for. Arguments and errors as in `edit_portrait`."""
    check_pack(pack, embedding)
    if corrections < 0:
        raise UsageError(f"corrections: expected 0 or more, got {corrections}")
    target, asked = target_params(pack, embedding.params, **request)
    order = tuple(choose("order", control, CONTROLS) for control in names_of(order))
    order = tuple(control for control in order if control in asked)
    pack.require(*(f"rignet_{control}" for control in order))
    w_plus = jnp.asarray(embedding.w_plus)[None]
    source, wanted = _batched(embedding.params), _batched(target)
    if order and invert_response:
        w_plus = solve_edit(pack, w_plus, source, wanted, order=order, corrections=corrections)
    elif order:
        for control in order:
            step = with_control(source, wanted, control)
            w_plus, source = apply_rig(pack, w_plus, source, step, control=control), step
    return _finite(np.asarray(w_plus[0], np.float32), "the edited code", " or ".join(
        f"rignet_{control}" for control in order) or "the embedding"), target


def _finite(array: np.ndarray, what: str, by: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise NumericsError(f"{what} is not finite, by {by}; ask for less, or make that part again")
    return array


def check_pack(pack: Pack, embedding: Embedding) -> None:
    """PackError unless `embedding` was made with this very pack's generator size and content."""
    if pack.configs.generator is None:
        pack.require("generator")
    generator: GeneratorConfig | Absent = pack.configs.generator
    if tuple(embedding.w_plus.shape) != (generator.num_layers, generator.w_dim):
        raise PackError(f"the embedding was made with the pack {embedding.pack_name!r} "
                        f"({list(embedding.w_plus.shape)} codes), this is {pack.name!r} ({generator.num_layers} x "
                        f"{generator.w_dim}); name the right one with --pack")
    if embedding.pack_hash != pack.hash:
        raise PackError(f"the embedding was made with another state of the pack {embedding.pack_name!r} "
                        f"({embedding.pack_hash[:12]}, this is {pack.hash[:12]}); embed the photo again, or name the "
                        "right one with --pack")


def render_params(pack: Pack, params: FaceParams, *, resolution: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The morphable model's own picture of `params` (fields [n]) in the portrait's frame.

    Returns: image [R, R, 3] in 0..1 and coverage [R, R] in 0..1. Raises PackError: the pack has no morphable model.
    """
    pack.require("morphable")
    resolution = resolution or pack.configs.generator.resolution
    image, coverage = render_batch(pack, _batched(params), resolution=resolution)
    return np.asarray(image[0]), np.asarray(coverage[0])


@kept(static_argnames="resolution", level=0)
def render_batch(pack: Pack, params: FaceParams, *, resolution: int) -> tuple[jax.Array, jax.Array]:
    """Image [B, R, R, 3] in 0..1 and coverage [B, R, R] of the morphable model at `params` [B, n]."""
    rendering = render(pack.morphable, params, pack.configs.camera, resolution=resolution, supersample=2)
    return jnp.clip(rendering.image, 0.0, 1.0), rendering.coverage


def _batched(params: FaceParams | Absent) -> FaceParams | Absent:
    return None if params is None else jax.tree.map(lambda a: jnp.asarray(a)[None], params)
