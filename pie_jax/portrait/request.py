"""What an edit asks for, as FaceParams: numbers, components by name, and what is taken from another portrait."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent, Array
from pie_jax.config import CONTROLS
from pie_jax.errors import PackError, UsageError, choose
from pie_jax.face3d.morphable import FaceParams, with_control
from pie_jax.face3d.render import light as light_from
from pie_jax.face3d.render import light_ambient
from pie_jax.io import is_picture, load_portrait
from pie_jax.pack import Pack
from pie_jax.photo.fit import fit_as
from pie_jax.photo.fitted import FittedPhoto, can_fit, open_photo
from pie_jax.portrait.embedding import Embedding
from pie_jax.portrait.reading import read_portraits

AXES = ("pitch", "yaw", "roll")  # the columns of FaceParams.rotation
LARGEST_ANGLE = 90.0
ONE_PERSON = 1.45  # times the distance of the points: two photos of one person with one identity
_AMBIENT = (0.1, 1.5)  # the portrait's own ambient light is kept, within what a photo can have

Like: TypeAlias = "Embedding | FittedPhoto | FaceParams | np.ndarray | str | os.PathLike[str]"


def target_params(pack: Pack, params: FaceParams | None, *, yaw: float | None = None, pitch: float | None = None,
                  roll: float | None = None, expression: Mapping[str, float] | None = None,
                  light: Sequence[float] | None = None,
                  like: tuple[Like, Sequence[str]] | None = None) -> tuple[FaceParams | Absent, set[str]]:
    """`params` (fields [n]) with what is asked replaced, and the controls that are asked for."""
    _check_request(like=like, light=light)
    angles = {name: value for name, value in (("pitch", pitch), ("yaw", yaw), ("roll", roll)) if value is not None}
    controls = [choose("control", c, CONTROLS) for c in (names_of(like[1]) if like else ())]
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
        azimuth, elevation, intensity, *given = (_finite("light", value) for value in light)
        own = np.clip(light_ambient(np.asarray(params.illumination)), *_AMBIENT)
        gamma = light_from(azimuth, elevation, intensity, ambient=given[0] if given else own)
        params = dataclasses.replace(params, illumination=np.asarray(gamma, np.float32))
    return params, asked


def _check_request(*, like: Any, light: Any) -> None:
    """UsageError unless the parts of a request are of their kinds, before anything is computed."""
    if light is not None:
        if not isinstance(light, Sequence | np.ndarray) or len(light) not in (3, 4):
            raise UsageError("light: expected azimuth, elevation, intensity and, if you like, ambient, got "
                             f"{light!r:.80}")
        azimuth, elevation, *strengths = (_finite("light", value) for value in light)
        if abs(azimuth) > 180 or abs(elevation) > 90 or min(strengths) < 0:
            raise UsageError("light: expected azimuth in -180..180, elevation in -90..90, intensity and ambient >= 0, "
                             f"got {', '.join(f'{float(v):g}' for v in light)}")
    if like is not None and (not isinstance(like, Sequence) or isinstance(like, str) or len(like) != 2):
        raise UsageError(f"like: expected (another portrait, its controls), got {like!r:.80}")
    if like and isinstance(like[0], np.ndarray | jax.Array):
        _check_portrait(like[0])


def _check_portrait(portrait: Array) -> None:
    if portrait.ndim != 3 or portrait.shape[-1] != 3 or not jnp.issubdtype(portrait.dtype, jnp.floating):
        raise UsageError(f"like: expected a portrait [H, W, 3] of floats in 0..1, got {portrait.dtype} "
                         f"{list(portrait.shape)}")
    low, high = float(np.min(portrait)), float(np.max(portrait))
    if not -0.01 <= low <= high <= 1.01:
        raise UsageError(f"like: expected a portrait in 0..1, got {low:g} to {high:g}")


def names_of(what: str | Sequence[str]) -> Sequence[str]:
    """One name as a list of one."""
    return (what,) if isinstance(what, str) else what


def expression_names(pack: Pack) -> tuple[str, ...]:
    """The names of the expression components; numbered where the morphable model has none."""
    pack.require("morphable")
    count = pack.morphable.expression_basis.shape[-1]
    return pack.morphable.expression_names or tuple(f"expression_{i}" for i in range(count))


def choose_components(pack: Pack, names: Sequence[str]) -> tuple[str, ...]:
    """These expression components. UsageError: the pack has no such one."""
    return tuple(choose("expression", name, expression_names(pack)) for name in names)


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
    return jax.tree.map(lambda a: np.asarray(a)[0], read_portraits(pack, np.asarray(other, np.float32)[None]))


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
