"""Edits of an embedding: asked parameters through the rigs, one control after the other, then one synthesis."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent, Array
from pie_jax.config import CONTROLS, GeneratorConfig
from pie_jax.errors import PackError, UsageError, choose
from pie_jax.face3d.morphable import FaceParams, with_control
from pie_jax.face3d.render import light as light_from
from pie_jax.face3d.render import light_ambient, render
from pie_jax.io import is_picture, load_portrait
from pie_jax.pack import Pack, inference
from pie_jax.photo.composite import Layers, edit_layers, edited_portrait
from pie_jax.photo.fit import fit_as
from pie_jax.photo.fitted import PARTS as FITTED_PARTS
from pie_jax.photo.fitted import FittedPhoto, can_fit, open_photo
from pie_jax.portrait.calibration import apply_rig, range_warnings, solve_edit
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.inversion import as_pack, synthesise
from pie_jax.portrait.matching import photo_detail

AXES = ("pitch", "yaw", "roll")  # the columns of FaceParams.rotation
LARGEST_ANGLE = 90.0
ONE_PERSON = 1.45  # times the distance of the points: two photos of one person with one identity
_AMBIENT = (0.1, 1.5)  # the portrait's own ambient light is kept, within what a photo can have


class ReachWarning(UserWarning):
    """An edit asks for more than this pack was measured to do."""


Like: TypeAlias = "Embedding | FittedPhoto | FaceParams | np.ndarray | str | os.PathLike[str]"


def edit_portrait(pack: Pack | str | os.PathLike, embedding: Embedding, *, yaw: float | None = None,
                  pitch: float | None = None, roll: float | None = None, expression: Mapping[str, float] | None = None,
                  light: tuple[float, float, float] | None = None, like: tuple[Like, Sequence[str]] | None = None,
                  order: Sequence[str] = CONTROLS, invert_response: bool = True,
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
        light over the portrait's own ambient light.
      like: (another embedding, its folder, a photo, a portrait [H, W, 3] or FaceParams; controls taken from it).
      order: the controls, first one first.
      detail: how much of the picture is the photo's own pixels, moved and relit, 0..1 (0: the generator alone, PIE
        as published). None: 1 where the embedding has its photo and the generator does not give it back as it does
        its own people, else 0.
      invert_response: ask the rigs for as much more as their response falls short (see `calibration`). Without a
        measurement of it in the pack nothing changes.

    Returns:
      [H, W, 3] float32 in 0..1, as large as the generator's portraits, and where the photo's own pixels are shown as
      large as `embedding.photo.portrait`. Without any request: the synthesis itself, or the photo. A ReachWarning says
      where what is asked lies outside the range in which edits of this pack were measured to arrive.

    Raises:
      UsageError: unknown component or control, angle out of range. PackError: another pack's embedding, or a part
      (rig, regressor, morphable model) that this edit needs is missing.
    """
    pack = as_pack(pack)
    if detail is not None and not 0.0 <= detail <= 1.0:
        raise UsageError(f"detail: expected 0 to 1, got {detail:g}")
    asked = {"yaw": yaw, "pitch": pitch, "roll": roll, "expression": expression, "light": light, "like": like}
    share = photo_detail(pack.manifest, embedding, detail)
    if share == 1.0:
        check_pack(pack, embedding)
        return _photo_edit(pack, embedding, asked)
    w_plus, _ = edit_latent(pack, embedding, **asked, order=order, invert_response=invert_response)
    for line in range_warnings(pack, yaw=yaw, pitch=pitch, roll=roll, expression=expression, light=light):
        warnings.warn(line, ReachWarning, stacklevel=2)
    image = np.clip(np.asarray(synthesise(pack, jnp.asarray(w_plus)[None])[0], np.float32), 0.0, 1.0)
    if share == 0.0:
        return image
    own = _photo_edit(pack, embedding, asked)
    return share * own + (1.0 - share) * np.asarray(jax.image.resize(image, own.shape, "cubic")).clip(0.0, 1.0)


def _photo_edit(pack: Pack, embedding: Embedding, asked: Mapping) -> np.ndarray:
    assert embedding.photo is not None
    return edit_photo(pack, embedding.photo, **asked)


def photo_layers(pack: Pack, embedding: Embedding, **request) -> Layers:
    """How an edit moves and relights the photo of an embedding. Arguments and errors as in `edit_portrait`.

    PackError: the embedding has no fitted photo.
    """
    if embedding.photo is None:
        raise PackError(f"{pack.name}: the embedding has no fitted photo; embed it again with a pack that has "
                        f"{', '.join(FITTED_PARTS)}")
    return _layers_of(pack, embedding.photo, **request)


def edit_photo(pack: Pack | str | os.PathLike, photo: FittedPhoto, **request) -> np.ndarray:
    """A photo's own pixels with another pose, expression or light, without embedding it: [R, R, 3] float32 in 0..1.

    Args:
      pack: the pack that fitted it, or its folder or name; of its parts the morphable model is needed.
      photo: from `open_photo`, or an embedding's.
      request: yaw, pitch, roll, expression, light, like: as in `edit_portrait`, errors too.
    """
    return edited_portrait(photo, _layers_of(as_pack(pack), photo, **request))


def photo_params_of(pack: Pack, other: Like, *, own: FittedPhoto | None = None) -> FaceParams:
    """As `params_of`, but a photo is found and fitted where the pack can: fits go with fits.

    own: the photo that is edited. Where its identity explains the other photo's points as well as an identity of their
    own, they are taken for one person, and pose and expression are the ones that go with this identity.
    """
    fitted = other if isinstance(other, FittedPhoto) else None
    if isinstance(other, str | os.PathLike) and is_picture(pathlib.Path(other)) and can_fit(pack):
        fitted = open_photo(pack, other)
    elif isinstance(other, str | os.PathLike) and not is_picture(pathlib.Path(other)):
        other = Embedding.load(other)
    if isinstance(other, Embedding):
        fitted = other.photo
    if fitted is None:
        return params_of(pack, other)
    if own is not None:
        alike = fit_as(pack, fitted.landmarks[None], own.params.identity[None])
        if alike.residual_px[0] <= ONE_PERSON * fitted.residual_px:
            return dataclasses.replace(jax.tree.map(lambda a: a[0], alike.params), texture=fitted.params.texture,
                                       illumination=fitted.params.illumination)
    return fitted.params


def _layers_of(pack: Pack, photo: FittedPhoto, **request) -> Layers:
    pack.require("morphable")
    if request.get("like") is not None:
        other, controls = request["like"]
        request["like"] = photo_params_of(pack, other, own=photo), controls
    target, _ = target_params(pack, photo.params, **request)
    return edit_layers(pack, photo, target)


def edit_latent(pack: Pack, embedding: Embedding, *, order: Sequence[str] = CONTROLS, invert_response: bool = True,
                **request) -> tuple[np.ndarray, FaceParams | Absent]:
    """The edited code [L, D] and the FaceParams asked for. Arguments and errors as in `edit_portrait`."""
    check_pack(pack, embedding)
    target, asked = target_params(pack, embedding.params, **request)
    order = tuple(choose("order", control, CONTROLS) for control in _names(order))
    order = tuple(control for control in order if control in asked)
    pack.require(*(f"rignet_{control}" for control in order))
    w_plus = jnp.asarray(embedding.w_plus)[None]
    source, wanted = _batched(embedding.params), _batched(target)
    if order and invert_response:
        w_plus = solve_edit(pack, w_plus, source, wanted, order=order)
    elif order:
        for control in order:
            step = with_control(source, wanted, control)
            w_plus, source = apply_rig(pack, w_plus, source, step, control=control), step
    return np.asarray(w_plus[0], np.float32), target


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


def target_params(pack: Pack, params: FaceParams | None, *, yaw: float | None = None, pitch: float | None = None,
                  roll: float | None = None, expression: Mapping[str, float] | None = None,
                  light: tuple[float, float, float] | None = None,
                  like: tuple[Like, Sequence[str]] | None = None) -> tuple[FaceParams | Absent, set[str]]:
    """`params` (fields [n]) with what is asked replaced, and the controls that are asked for."""
    _check_request(like=like, light=light)
    angles = {name: value for name, value in (("pitch", pitch), ("yaw", yaw), ("roll", roll)) if value is not None}
    controls = [choose("control", c, CONTROLS) for c in (_names(like[1]) if like else ())]
    asked = set(controls) | ({"pose"} if angles else set()) | ({"expression"} if expression else set())
    asked |= {"illumination"} if light is not None else set()
    if not asked:
        return params, asked
    if params is None:
        raise PackError(f"{pack.name}: the embedding knows no face parameters because the pack has neither a regressor "
                        "nor a dfr; train one into the pack and embed the photo again")
    if like:
        other = params_of(pack, like[0])
        for control in controls:
            params = with_control(params, other, control)
    if angles:
        rotation = np.array(params.rotation, np.float32)
        for name, value in angles.items():
            if not abs(value) <= LARGEST_ANGLE:  # also catches what is not a number
                raise UsageError(f"{name}: expected {-LARGEST_ANGLE:g} to {LARGEST_ANGLE:g} degrees, got {value:g}")
            rotation[AXES.index(name)] = math.radians(value)
        params = dataclasses.replace(params, rotation=rotation)
    if expression:
        params = dataclasses.replace(params, expression=_expression(pack, params, expression))
    if light is not None:
        azimuth, elevation, intensity = (_finite("light", value) for value in light)
        ambient = np.clip(light_ambient(jnp.asarray(params.illumination)), *_AMBIENT)
        gamma = light_from(azimuth, elevation, intensity, ambient=ambient)
        params = dataclasses.replace(params, illumination=np.asarray(gamma, np.float32))
    return params, asked


def _check_request(*, like: Any, light: Any) -> None:
    """UsageError unless the parts of a request are of their kinds, before anything is computed."""
    if light is not None:
        if not isinstance(light, Sequence | np.ndarray) or len(light) != 3:
            raise UsageError(f"light: expected azimuth, elevation and intensity, got {light!r:.80}")
        azimuth, elevation, intensity = (_finite("light", value) for value in light)
        if abs(azimuth) > 180 or abs(elevation) > 90 or intensity < 0:
            raise UsageError("light: expected azimuth in -180..180, elevation in -90..90, intensity >= 0, got "
                             f"{azimuth:g}, {elevation:g}, {intensity:g}")
    if like is not None and (not isinstance(like, Sequence) or isinstance(like, str) or len(like) != 2):
        raise UsageError(f"like: expected (another portrait, its controls), got {like!r:.80}")
    if like and isinstance(like[0], np.ndarray | jax.Array):
        _check_portrait(like[0])


def _check_portrait(portrait: Array) -> None:
    if portrait.ndim != 3 or portrait.shape[-1] != 3 or not jnp.issubdtype(portrait.dtype, jnp.floating):
        raise UsageError(f"like: expected a portrait [H, W, 3] of floats in 0..1, got {portrait.dtype} "
                         f"{list(portrait.shape)}")
    low, high = float(jnp.min(portrait)), float(jnp.max(portrait))
    if not -0.01 <= low <= high <= 1.01:
        raise UsageError(f"like: expected a portrait in 0..1, got {low:g} to {high:g}")


def _names(what: str | Sequence[str]) -> Sequence[str]:
    """One name as a list of one."""
    return (what,) if isinstance(what, str) else what


def expression_names(pack: Pack) -> tuple[str, ...]:
    """The names of the expression components; numbered where the morphable model has none."""
    pack.require("morphable")
    count = pack.morphable.expression_basis.shape[-1]
    return pack.morphable.expression_names or tuple(f"expression_{i}" for i in range(count))


def params_of(pack: Pack, other: Like) -> FaceParams:
    """FaceParams [n] of an embedding or its folder (its photo's), a photo, a portrait array; FaceParams pass through.

    Raises:
      InputError: no such file, or it cannot be used. PackError: no regressor to read a photo with.
    """
    if isinstance(other, FaceParams):
        return other
    if isinstance(other, str | os.PathLike):
        path = pathlib.Path(other)
        if path.is_dir() or path.suffix.lower() == ".npz":
            other = Embedding.load(path)
        else:
            other = load_portrait(path, resolution=pack.configs.generator.resolution)
    if isinstance(other, FittedPhoto):
        return other.params
    if isinstance(other, Embedding):
        params = other.photo.params if other.photo is not None else other.portrait_params or other.params
        if params is None:
            raise PackError(f"{pack.name}: the other embedding knows no face parameters; embed it with a pack that has "
                            "a regressor")
        return params
    pack.require("regressor")
    params_vector = _regress(pack, jnp.asarray(other, jnp.float32)[None])[0]
    return jax.tree.map(np.asarray, FaceParams.from_vector(params_vector))


@jax.jit
def _regress(pack: Pack, portraits: Array) -> jax.Array:
    return inference.regress(pack.configs, pack.weights, portraits)


def render_params(pack: Pack, params: FaceParams, *, resolution: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The morphable model's own picture of `params` (fields [n]) in the portrait's frame.

    Returns: image [R, R, 3] in 0..1 and coverage [R, R] in 0..1. Raises PackError: the pack has no morphable model.
    """
    pack.require("morphable")
    resolution = resolution or pack.configs.generator.resolution
    image, coverage = _render(pack, _batched(params), resolution=resolution)
    return np.asarray(image[0]), np.asarray(coverage[0])


@partial(jax.jit, static_argnames=("resolution",))
def _render(pack: Pack, params: FaceParams, *, resolution: int):
    rendering = render(pack.morphable, params, pack.configs.camera, resolution=resolution, supersample=2)
    return jnp.clip(rendering.image, 0.0, 1.0), rendering.coverage


def _expression(pack: Pack, params: FaceParams, wanted: Mapping[str, float]) -> np.ndarray:
    names = expression_names(pack)
    values = np.array(params.expression, np.float32)
    for name, value in wanted.items():
        values[names.index(choose("expression", name, names))] = _finite(f"expression {name}", value)
    return values


def _finite(what: str, value: float) -> float:
    if isinstance(value, str | bytes) or not math.isfinite(value):
        raise UsageError(f"{what}: expected a finite number, got {value}")
    return float(value)


def _batched(params: FaceParams | Absent) -> FaceParams | Absent:
    return None if params is None else jax.tree.map(lambda a: jnp.asarray(a)[None], params)
