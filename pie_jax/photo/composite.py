"""The edited photo put together: the person moved and relit over the background, in the portrait or in the whole photo.

    edited = A * light * warp(person) + (1 - A) * background       in linear light

A is the person's matte, moved with the person. Where nothing moves and no light changes, every pixel stays what it was.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent, Array, Weights
from pie_jax.config import CameraConfig, MouthConfig
from pie_jax.face3d.morphable import FaceParams, MorphableModel
from pie_jax.pack import Pack
from pie_jax.photo.fitted import FittedPhoto, inside_photo
from pie_jax.photo.motion import Holes, Motion, find_motion, holes_of, nearest, pixel_grid, sample, smooth_field
from pie_jax.photo.mouth import paint_mouth
from pie_jax.photo.windows import narrowest, widest

GRID = 512  # px of the map from which the finest motion is read
_STRIP = 2**19  # pixels of the full photo that are made at a time
_SURE = 1e3
_BACKGROUND, _PERSON = 0.03, 0.4  # matte below which a pixel is background, above which it is the person
_GROW = 13  # px of the map around the person that are not trusted as background
_INNER = 41  # px of the map inside the face that are the person whatever the matte says
_STILL_PX = (0.15, 0.6)  # px of the map: less is no motion, more is one
_JUMP_PX = 3.0  # px of the map: the field is not read between pixels that differ by more
_LIGHT_STEP = 2e-3  # a factor of light nearer to 1 changes nothing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """What an edit does to a portrait, on a map of GRID px; colours are linear."""

    motion: Motion
    matte: Array  # [R, R] 0..1, of the photo as it was
    background: Array  # [R, R, 3] the background, also behind the person
    behind: Array  # [R, R] 0..1: where that is taken instead of the photo
    painted: Array  # [R, R, 3] the mouth's inside, which the photo does not show
    painting: Array  # [R, R] 0..1: where that is taken


def edit_layers(pack: Pack, fitted: FittedPhoto, target: FaceParams) -> Layers:
    """The layers of an edit to `target` [n]. Without the part `mouth`, lips are stretched over an opening mouth."""
    mouth = pack.weights.get("mouth")
    small = jnp.asarray(fitted.portrait, jnp.float32) / 255.0
    matte = jnp.asarray(fitted.matte, jnp.float32) / 255.0
    return _layers(pack.morphable, mouth, inside_photo(fitted, GRID), small, matte,
                   jnp.asarray(fitted.landmarks),
                   jax.tree.map(jnp.asarray, fitted.params), jax.tree.map(jnp.asarray, target),
                   holes=holes_of(pack.morphable), camera=pack.configs.camera,
                   mouth=None if mouth is None else pack.configs.of("mouth"))


@partial(jax.jit, static_argnames=("camera", "holes", "mouth"))
def _layers(model: MorphableModel, mouth_weights: Weights | Absent, inside, portrait, matte, landmarks, source, target,
            *, holes: Holes, camera: CameraConfig, mouth: MouthConfig | Absent) -> Layers:
    motion = find_motion(model, holes, source, target, camera, resolution=GRID, landmarks=landmarks)
    small = jax.image.resize(to_linear(portrait), (GRID, GRID, 3), "linear")
    matte = jax.image.resize(matte, (GRID, GRID), "linear")
    near = widest(matte, _GROW)
    sure = jnp.where((near < _BACKGROUND) & inside, _SURE, 0.0)  # background that the photo shows
    mean = jnp.sum(small * sure[..., None], axis=(0, 1)) / jnp.maximum(jnp.sum(sure), 1.0)
    mean = mean[None, None]
    painted, painting = jnp.zeros_like(small), jnp.zeros_like(matte)
    if mouth is not None:
        painted, painting = paint_mouth(mouth, mouth_weights, to_srgb(small), motion)
    return Layers(motion=motion, matte=matte, background=mean + smooth_field(small - mean, sure),
                  painted=to_linear(painted), painting=painting,
                  behind=jnp.clip((near - _PERSON) * 6.0, 0.0, 1.0))


def edited_portrait(fitted: FittedPhoto, layers: Layers) -> np.ndarray:
    """The edited portrait [R, R, 3] in 0..1, of the fitted one's size."""
    size = fitted.portrait.shape[0]
    affine = np.array([[size, 0.0, 0.0], [0.0, size, 0.0]], np.float32)
    image, _ = _strip(jnp.asarray(fitted.portrait), _reading(layers), layers.matte, affine,
                      np.linalg.inv(affine[:, :2]), 0, rows=size)
    return np.asarray(image)


def edited_photo(photo: np.ndarray, fitted: FittedPhoto, layers: Layers) -> tuple[np.ndarray, np.ndarray]:
    """The whole photo [H, W, 3] uint8 with its edit, and where it changed [H, W]; all other pixels are the same.

    photo: the photo that `fitted` was made of, upright, RGB.
    """
    out, changed = photo.copy(), np.zeros(photo.shape[:2], bool)
    corners = fitted.square.corners()
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)), (photo.shape[1], photo.shape[0])).astype(int)
    across, down = fitted.square.to_photo(np.array([[1.0, 0.0], [0.0, 1.0]])) - fitted.square.to_photo(np.zeros(2))
    affine = np.stack([across, down, fitted.square.to_photo(np.zeros(2)) - low], axis=1).astype(np.float32)
    inverse = np.linalg.inv(affine[:, :2])
    region = jnp.asarray(photo[low[1]:high[1], low[0]:high[0]])
    reading = _reading(layers)
    rows = min(max(1, _STRIP // region.shape[1]), region.shape[0])
    for top in range(0, region.shape[0], rows):
        strip = _strip(region, reading, layers.matte, affine, inverse, top, rows=rows)
        image, mask = (np.asarray(a)[:region.shape[0] - top] for a in strip)  # the last one reaches below it
        part = (slice(low[1] + top, low[1] + top + len(mask)), slice(low[0], high[0]))
        changed[part] = mask
        out[part][mask] = np.round(image[mask] * 255.0).astype(np.uint8)
    return out, changed


@jax.jit
def _reading(layers: Layers) -> jax.Array:
    """[R, R, 15]: what a pixel of the result reads from the map, side by side, made once for all strips.

    Displacement (2) px, light less 1 (3), face (1), jumps (1), background (3), behind (1), painted (3), painting (1).
    """
    motion = layers.motion
    field = motion.source * GRID - pixel_grid(GRID)
    return jnp.concatenate([field, motion.light - 1.0, _inner(motion), _jumps(field), layers.background,
                            layers.behind[..., None], layers.painted, layers.painting[..., None]], axis=-1)


@partial(jax.jit, static_argnames="rows")
def _strip(image: Array, reading: Array, matte: Array, affine: Array, inverse: Array, top: Array, *,
           rows: int) -> tuple[jax.Array, jax.Array]:
    """`rows` of an image [H, W, 3] from `top` on: edited [rows, W, 3] in 0..1, and where they changed [rows, W]."""
    y, x = jnp.meshgrid(top + jnp.arange(rows) + 0.5, jnp.arange(image.shape[1]) + 0.5, indexing="ij")
    places = jnp.einsum("hwj,ij->hwi", jnp.stack([x - affine[0, 2], y - affine[1, 2]], axis=-1), inverse)
    edited, changes = _compose(image, reading, matte, places, jnp.asarray(affine))
    inside = jnp.all((places >= 0) & (places <= 1), axis=-1)
    return edited, changes & inside


def _compose(image: Array, reading: Array, matte: Array, places: Array,
             affine: Array) -> tuple[jax.Array, jax.Array]:
    """Pixels [h, w, 3] in 0..1 at `places` [h, w, 2] (0..1 of the portrait), and where they changed [h, w].

    image [H, W, 3] uint8; reading [R, R, 15] of `_reading`; matte [R, R] 0..1;
    affine [2, 3]: 0..1 of the portrait -> px of the image.
    """
    grid = places * GRID
    displacement, light, inner, jumps, background, behind, painted, painting = jnp.split(
        sample(reading, grid), (2, 5, 6, 7, 10, 11, 14), axis=-1)
    displacement = jnp.where(jumps > 0, nearest(reading[..., :2], grid), displacement)
    source = places + displacement / GRID
    person = to_linear(_pixels(image, _apply(affine, source)))
    own = _pixels(image, _apply(affine, places))
    alpha = jnp.maximum(sample(matte[..., None], source * GRID), inner)
    lit = jnp.where(jnp.abs(light) > _LIGHT_STEP, light, 0.0) * alpha
    far = jnp.linalg.norm(displacement, axis=-1, keepdims=True)
    moved = jnp.clip((far - _STILL_PX[0]) / (_STILL_PX[1] - _STILL_PX[0]), 0.0, 1.0)
    person = person + (painted - person) * painting
    moved = jnp.maximum(moved, painting)
    back = background * behind + to_linear(own) * (1.0 - behind)
    person = person * (1.0 + lit)
    layered = alpha * person + (1.0 - alpha) * back
    edited = moved * layered + (1.0 - moved) * to_linear(own) * (1.0 + lit)
    touched = moved * jnp.maximum(alpha, behind)  # what moves over the background, or away from it
    changes = (touched[..., 0] > 0) | (jnp.abs(lit).max(axis=-1) > 0)
    return jnp.where(changes[..., None], to_srgb(jnp.clip(edited, 0.0, 1.0)), own), changes


@jax.jit
def sources(layers: Layers) -> tuple[jax.Array, jax.Array]:
    """Shares [R, R] of a changed pixel that the photo shows, moved or relit, and that are filled in; else both 0."""
    motion = layers.motion
    displacement = motion.source * GRID - pixel_grid(GRID)
    moved = jnp.clip((jnp.linalg.norm(displacement, axis=-1) - _STILL_PX[0]) / (_STILL_PX[1] - _STILL_PX[0]), 0.0, 1.0)
    alpha = jnp.maximum(sample(layers.matte[..., None], motion.source * GRID)[..., 0], _inner(motion)[..., 0])
    lit = (jnp.abs(motion.light - 1.0).max(axis=-1) * alpha > _LIGHT_STEP).astype(moved.dtype)
    hidden = jnp.maximum(1.0 - motion.seen, jnp.maximum(layers.painting, motion.opened * motion.mouth))
    filled = moved * jnp.maximum(hidden, (1.0 - alpha) * layers.behind)
    moved = moved * jnp.maximum(alpha, layers.behind)
    return jnp.maximum(moved, lit) - filled, filled


def moved_matte(layers: Layers) -> np.ndarray:
    """The person's matte in the edited portrait, [GRID, GRID] uint8: for edits of an edit."""
    moved = sample(layers.matte[..., None], layers.motion.source * GRID)[..., 0]
    return np.round(np.asarray(moved) * 255.0).astype(np.uint8)


def _inner(motion: Motion) -> Array:
    """[R, R, 1]: the face that the photo shows, without a border on which the mesh and the person may not agree."""
    return narrowest((motion.face > 0) & (motion.seen > 0.5), _INNER).astype(motion.face.dtype)[..., None]


def _jumps(field: Array) -> Array:
    """[R, R, 1]: 1 where a displacement [R, R, 2] is another from a pixel to its neighbour, as where lids meet."""
    padded = jnp.pad(field, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    most = jnp.stack([jnp.abs(other - field).max(axis=-1) for other in around]).max(axis=0)
    return (most > _JUMP_PX).astype(field.dtype)[..., None]


def _apply(affine, places):
    return jnp.einsum("hwj,ij->hwi", places, affine[:, :2]) + affine[None, None, :, 2]


def _pixels(image, places):
    return sample(image, places) / 255.0


def to_linear(srgb: Array) -> jax.Array:
    """sRGB values in 0..1 as light (IEC 61966-2-1)."""
    return jnp.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Array) -> jax.Array:
    """Light in 0..1 as sRGB values."""
    safe = jnp.maximum(light, 1e-8)
    return jnp.where(light <= 0.0031308, light * 12.92, 1.055 * safe ** (1 / 2.4) - 0.055)
