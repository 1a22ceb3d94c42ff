"""What an edit does to a portrait, as layers: the moved photo, the light on the person, the painted mouth.

What does not depend on the edit is made once for a photo (`prepare_photo`).
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from pie_jax.arrays import Absent, Array, Weights
from pie_jax.config import CameraConfig, MouthConfig
from pie_jax.face3d.morphable import FaceParams, MorphableModel
from pie_jax.pack import Pack
from pie_jax.photo.fitted import FittedPhoto, border_distance, nearest_in_photo
from pie_jax.photo.holes import Holes, holes_of
from pie_jax.photo.maps import centres, is_grey, pack_image, sample, unpacked, without_colour
from pie_jax.photo.motion import Motion, SourceFace, find_motion, source_face_of
from pie_jax.photo.mouth import Painting, paint_mouth
from pie_jax.photo.windows import narrowest, odd, widest
from pie_jax.programs import kept

GRID = 512  # px a side: no map is finer
LIGHT_STEP = 2e-3  # a factor of light nearer to 1 changes nothing
_GAP = 21 / 512  # portraits: a gap in the matte narrower than that is the person's
_INNER = 41 / 512  # portraits: so far inside the face a pixel is the person whatever the matte says
_BEYOND = 0.5  # px of the map: a pixel farther from the nearest one of the photo is not in it
_FRAME = 8 / 512  # portraits: so far beyond the photo's border an edit fades out
_STILL = (0.15 / 512, 0.6 / 512)  # portraits: less is no motion, more is one


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedPhoto:
    """A photo ready for edits: all that does not depend on them. Maps have R px, the portrait S; light is linear."""

    source_face: SourceFace
    portrait: Array  # [S, S] packed sRGB
    small: Array  # [3, R, R] sRGB in 0..1
    grey: Array  # [] bool: the photo has no colour
    matte: Array  # [R, R] 0..1: the person
    within: Array  # [R, R] 0..1: in the photo, not beyond its border
    border: Array  # [R, R] px of the map: to the photo's border


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Correction:
    """What the generator's edit adds to the moved and relit photo (see `photo.correction`)."""

    planes: Array  # [3, R, R] added to sRGB in 0..1
    share: Array  # [R, R] 0..1: how far the generator is trusted there


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """What an edit does to a portrait."""

    prepared: PreparedPhoto
    motion: Motion
    painting: Painting | Absent  # None: the pack has no part `mouth`, lips are stretched over an opening mouth
    correction: Correction | Absent = None  # None: the generator does not know the photo


def prepare_photo(pack: Pack, fitted: FittedPhoto, *, size: int | None = None) -> PreparedPhoto:
    """Prepare a photo for edits of its portrait at `size` px (a power of two up to its own size, the default)."""
    own = fitted.portrait.shape[0]
    shown = min(size or own, own)
    resolution = min(shown, GRID)
    portrait, small = (_shrunk(fitted.portrait, side) for side in (shown, resolution))
    return _prepared(pack.morphable, jax.tree.map(np.asarray, fitted.params), np.asarray(fitted.landmarks),
                     pack_image(portrait), pack_image(small), np.asarray(fitted.matte),
                     nearest_in_photo(fitted, resolution), border_distance(fitted, resolution),
                     holes=holes_of(pack.morphable), camera=pack.configs.camera)


def _shrunk(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[0] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


@kept(static_argnames=("holes", "camera"), level=0)
def _prepared(model: MorphableModel, params: FaceParams, landmarks, portrait, small, matte, nearest, border, *,
              holes: Holes, camera: CameraConfig) -> PreparedPhoto:
    resolution = small.shape[0]
    source_face = source_face_of(model, holes, params, camera, resolution=resolution, landmarks=landmarks)
    small = jnp.stack([unpacked(small, i) for i in range(3)]) / 255.0
    away = jnp.hypot(*(there - here for there, here in zip(nearest, centres(resolution), strict=True)))
    matte = jax.image.resize(matte / 255.0, (resolution, resolution), "linear")
    matte = jnp.where(away > _BEYOND, sample(matte, *nearest), matte)  # of a reflection it tells nothing
    matte = -widest(-widest(matte, odd(_GAP * resolution)), odd(_GAP * resolution))
    return PreparedPhoto(source_face=source_face, portrait=portrait, small=small, grey=is_grey(small), matte=matte,
                         border=border, within=jnp.clip(1.0 - (away - _BEYOND) / (_FRAME * resolution), 0.0, 1.0))


def edit_layers(pack: Pack, prepared: PreparedPhoto, target: FaceParams) -> Layers:
    """The layers of an edit to `target` [n]."""
    mouth = pack.weights.get("mouth")
    target = jax.tree.map(lambda a: a if isinstance(a, jax.Array) else np.asarray(a, np.float32), target)
    motion, painting = _layers(pack.morphable, mouth, prepared.source_face, prepared.small, prepared.grey,
                               prepared.within, prepared.border, target, holes=holes_of(pack.morphable),
                               camera=pack.configs.camera, mouth=None if mouth is None else pack.configs.of("mouth"))
    return Layers(prepared=prepared, motion=motion, painting=painting)


@kept(static_argnames=("camera", "holes", "mouth"), level=3)
def _layers(model: MorphableModel, mouth_weights: Weights | Absent, source_face: SourceFace, small, grey,
            within, border, target, *, holes: Holes, camera: CameraConfig,
            mouth: MouthConfig | Absent) -> tuple[Motion, Painting | Absent]:
    motion = find_motion(model, holes, source_face, target, camera, border=border)
    motion = dataclasses.replace(motion, displacement=motion.displacement * within[None],
                                 light=1.0 + without_colour(motion.light - 1.0, grey) * within[None])
    return motion, None if mouth is None else paint_mouth(mouth, mouth_weights, small, grey, motion)


@kept(level=3)
def sources(layers: Layers) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Shares [R, R] of a changed pixel: the photo's, moved or relit; the generator's; what is filled in. Else 0."""
    motion, prepared = layers.motion, layers.prepared
    resolution = prepared.matte.shape[0]
    moved = share_moved(motion.displacement, resolution)
    alpha = jnp.maximum(sample(prepared.matte, *motion.sources()), inner_face(motion))
    lit = (functools.reduce(jnp.maximum, jnp.abs(motion.light - 1.0)) * alpha > LIGHT_STEP).astype(moved.dtype)
    painting = painted_part(layers)
    hidden = jnp.maximum(1.0 - motion.seen, jnp.maximum(painting, motion.opened * motion.mouth))
    filled = jnp.maximum(moved, painting) * hidden
    shown = jnp.maximum(jnp.maximum(moved, lit) - filled, 0.0)
    if layers.correction is None:
        return shown, jnp.zeros_like(filled), filled
    corrected = jnp.abs(layers.correction.planes).max(axis=0) > 0
    instead = filled * layers.correction.share * (1.0 - motion.seen)
    return shown, instead + jnp.where(corrected, 1.0 - filled - shown, 0.0), filled - instead


def painted_part(layers: Layers) -> jax.Array:
    """[R, R] 0..1: where the edited portrait shows what is painted."""
    resolution = layers.prepared.matte.shape[0]
    if layers.painting is None:
        return jnp.zeros((resolution, resolution))
    x, y = centres(resolution)
    return layers.painting.at(x / resolution, y / resolution)[1]


def moved_matte(layers: Layers) -> np.ndarray:
    """The person's matte in the edited portrait, [R, R] uint8: for edits of an edit."""
    moved = sample(layers.prepared.matte, *layers.motion.sources())
    return np.round(np.asarray(moved) * 255.0).astype(np.uint8)


def share_moved(displacement: Array, resolution: int) -> jax.Array:
    """0..1: how far a displacement, two planes in px of a map of `resolution` px, is a motion and no rounding."""
    far = jnp.sqrt(displacement[0] ** 2 + displacement[1] ** 2) / resolution
    return jnp.clip((far - _STILL[0]) / (_STILL[1] - _STILL[0]), 0.0, 1.0)


def inner_face(motion: Motion) -> Array:
    """[R, R]: the face that the photo shows, without a border on which the mesh and the person may not agree."""
    inner = narrowest((motion.face > 0) & (motion.seen > 0.5), odd(_INNER * motion.face.shape[-1]))
    return inner.astype(motion.face.dtype)
