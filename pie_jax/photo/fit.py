"""FaceParams of a photograph by the pack's own morphable model: its points first, then its pixels.

The camera is the pack's, the photo is framed as its portraits are. Shape, pose and expression come from the 66 points
and priors, light and texture from the pixels that the face covers. What a photograph cannot show keeps its prior.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.face3d.morphable import FaceParams, MorphableModel
from pie_jax.face3d.render import project_landmarks
from pie_jax.imaging import face_crop
from pie_jax.pack import Pack
from pie_jax.pack.inference import crop_camera
from pie_jax.photo.light import find_light
from pie_jax.programs import kept

_STEPS, _RATE = 300, 0.03  # of Adam
_IDENTITY_PRIOR, _EXPRESSION_PRIOR = 0.02, 0.02  # of squared deviations, beside squared px of 224
_PAIR_PRIOR = 0.1  # of components that differ between the two sides
_RENDER = 64  # px of the crops that light is found in
_JAW, _MOUTH = slice(0, 17), slice(48, 66)
_POINTS = np.ones(66, np.float32)
_POINTS[_JAW] = 0.3  # the silhouette slides over the face as it turns
_POINTS[_MOUTH] = 2.0
_POINTS /= _POINTS.sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """What was found for photos, leading dimension B."""

    params: FaceParams
    residual_px: np.ndarray  # [B] mean distance of the points, px of a 224 px crop
    difference: np.ndarray | None = None  # [B] mean absolute difference of the face's pixels, in 0..1; None: not seen


def fit_photos(pack: Pack, portraits: Array, landmarks: Array) -> Fit:
    """Fit portraits [B, H, W, 3] in 0..1, framed as the pack's are, with their 66 points [B, 66, 2] in 0..1 of them.

    Raises PackError: the pack has no morphable model.
    """
    pack.require("morphable")
    camera = pack.configs.camera
    points = _crop_points(camera, landmarks)
    crops = _crops(np.asarray(portraits), camera=camera)
    params, residual, difference = _fit(pack.morphable, crops, points, camera=crop_camera(camera))
    return Fit(params=jax.tree.map(np.asarray, params), residual_px=np.asarray(residual),
               difference=np.asarray(difference))


@kept(static_argnames="camera", level=0)
def _crops(portraits: Array, *, camera: CameraConfig) -> jax.Array:
    return face_crop(portraits, camera, resolution=_RENDER)


@kept(static_argnames="camera")
def _fit(model: MorphableModel, crops: Array, points: Array, *, camera: CameraConfig):
    start = _start(model, points, camera)
    shaped = _descend(start, partial(_shape_loss, model, points, camera), _SHAPE_SCALES)
    illumination, texture, difference = find_light(model, crops, camera, shaped)
    return (dataclasses.replace(shaped, illumination=illumination, texture=texture),
            _residual(model, shaped, points, camera), difference)


def fit_as(pack: Pack, landmarks: Array, identity: Array) -> Fit:
    """Pose and expression of faces by 66 points [B, 66, 2] in 0..1 of their portraits; `identity` [B, 80] is known.

    Expressions of one person compare better so than when each photo has found an identity of its own. Light and
    texture stay at the model's mean. Raises PackError: the pack has no morphable model.
    """
    pack.require("morphable")
    params, residual = _fit_as(pack.morphable, _crop_points(pack.configs.camera, landmarks), np.asarray(identity),
                               camera=crop_camera(pack.configs.camera))
    return Fit(params=jax.tree.map(np.asarray, params), residual_px=np.asarray(residual))


@kept(static_argnames="camera")
def _fit_as(model: MorphableModel, points: Array, identity: Array, *, camera: CameraConfig):
    start = dataclasses.replace(_start(model, points, camera), identity=identity)
    params = _descend(start, partial(_shape_loss, model, points, camera), _SHAPE_SCALES | {"identity": 0.0})
    return params, _residual(model, params, points, camera)


def _crop_points(camera: CameraConfig, landmarks: Array) -> np.ndarray:
    """Points in 0..1 of the portrait -> in 0..1 of its face crop."""
    corner = np.array([camera.crop_x, camera.crop_y], np.float32)
    return (np.asarray(landmarks, np.float32) - corner) / np.float32(camera.crop_size)


def _residual(model: MorphableModel, params: FaceParams, points: Array, camera: CameraConfig) -> jax.Array:
    found = project_landmarks(model, params, camera, resolution=224)
    return jnp.linalg.norm(found - 224.0 * points, axis=-1).mean(axis=-1)


def _start(model: MorphableModel, points: Array, camera: CameraConfig) -> FaceParams:
    """The mean face where the points are, as large as they are, turned in the plane as they are."""
    batch = points.shape[0]
    mean = FaceParams.zeros(leading=(batch,))
    base = project_landmarks(model, mean, camera, resolution=1)
    inner = slice(17, 66)
    a, b = base[:, inner], points[:, inner]
    a_mid, b_mid = a.mean(axis=1), b.mean(axis=1)
    centre = jnp.asarray([camera.centre_x, camera.centre_y])[None]
    a, b = a - a_mid[:, None], b - b_mid[:, None]
    norm = jnp.sum(jnp.square(a), axis=(1, 2))
    cos = jnp.sum(a * b, axis=(1, 2)) / norm
    sin = jnp.sum(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], axis=1) / norm
    scale = jnp.sqrt(cos**2 + sin**2)
    distance = camera.distance / scale
    shift = (b_mid - centre) * distance[:, None] / camera.focal
    middle = (a_mid - centre) * camera.distance / camera.focal
    translation = jnp.stack([shift[:, 0] - middle[:, 0], -(shift[:, 1] - middle[:, 1]), camera.distance - distance], -1)
    rotation = jnp.stack([jnp.zeros(batch), jnp.zeros(batch), -jnp.arctan2(sin, cos)], axis=-1)
    return dataclasses.replace(mean, rotation=rotation, translation=translation)


# How far one step goes in each field; 0 keeps it.
_SHAPE_SCALES = {"rotation": 0.3, "translation": 0.3, "identity": 1.0, "expression": 1.0, "texture": 0.0,
                 "illumination": 0.0}


def _descend(params: FaceParams, loss, scales: dict[str, float]) -> FaceParams:
    """`_STEPS` of Adam on the sum of `loss` [B], the rate falling to a twentieth."""
    import optax  # a slow import that edits do not need

    optimiser = optax.scale_by_adam(b1=0.9, b2=0.99)

    def step(carry: Any, i):
        params, state = carry
        gradient: Any = jax.grad(lambda p: jnp.sum(loss(p)))(params)
        direction: Any
        direction, state = optimiser.update(gradient, state)
        speed = _RATE * (0.05 ** (i / _STEPS))
        moved = {f.name: getattr(params, f.name) - scales[f.name] * speed * getattr(direction, f.name)
                 for f in dataclasses.fields(FaceParams)}
        return (FaceParams(**moved), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimiser.init(_as_tree(params))), jnp.arange(_STEPS))
    return params


def _as_tree(params: FaceParams) -> Any:
    """The same, as optax types a tree of parameters."""
    return params


def _shape_loss(model: MorphableModel, points: Array, camera: CameraConfig, params: FaceParams) -> Array:
    found = project_landmarks(model, params, camera, resolution=224)
    squared = jnp.sum(jnp.square(found - 224.0 * points), axis=-1)
    return (jnp.sum(_POINTS[None] * squared, axis=-1) + _IDENTITY_PRIOR * jnp.sum(jnp.square(params.identity), axis=-1)
            + _EXPRESSION_PRIOR * jnp.sum(jnp.square(params.expression) * _expression_weights(model)[None], axis=-1))


def _expression_weights(model: MorphableModel) -> np.ndarray:
    """[64] how much more the prior holds a component that moves one side than one that moves both."""
    return np.array([1.0 + _PAIR_PRIOR / _EXPRESSION_PRIOR * name.endswith(("_left", "_right"))
                     for name in model.expression_names] or [1.0], np.float32)
