"""The edited photo put together: moved, and the person relit, in the portrait or in the whole photo.

    edited = (1 + A * (light - 1)) * warp(photo)       in linear light

A is the person's matte, moved with the person. The motion fades out around the head, so hair keeps its edges and what
is behind it comes with it. Where nothing moves and no light changes, every pixel stays what it was.
Each program below is one that XLA:CPU turns into loops it can vectorise: joined they take several times as long.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent, Array
from pie_jax.imaging import to_linear, to_srgb
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import LIGHT_STEP, Layers, inner_face, share_moved, sources
from pie_jax.photo.maps import doubled, nearest, pack_image, sample, sample_packed, unpack_image, unpacked
from pie_jax.photo.mouth import Painting
from pie_jax.photo.windows import widest
from pie_jax.programs import kept

_TILE = 512  # px of the whole photo a side that are made at a time
_JUMP_PX = 3.0  # px of the map: the field is not read between pixels that differ by more


def edited_portrait(layers: Layers) -> np.ndarray:
    """The edited portrait, uint8 [S, S, 3]."""
    return unpack_image(np.asarray(packed_portrait(layers)))


def packed_portrait(layers: Layers) -> jax.Array:
    """The edited portrait [S, S], packed (see `photo.maps`): for `jax.vmap` over edits."""
    size = layers.prepared.portrait.shape[0]
    to_image = np.array([[size, 0.0, 0.0], [0.0, size, 0.0]], np.float32)
    to_places = np.array([[1 / size, 0.0, 0.0], [0.0, 1 / size, 0.0]], np.float32)
    edited, _ = _composed(layers.prepared.portrait, layers.prepared.matte, _whole(_reading(layers), size=size),
                          _painted(layers.painting, to_places, height=size, width=size), to_image, to_places, (0, 0))
    return edited


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
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    region, reading = jnp.asarray(pack_image(photo[part])), _reading(layers)
    touched = np.asarray(_touched(layers))
    height, width = (min(_TILE, side) for side in region.shape)
    for top in _starts(region.shape[0], height):
        for left in _starts(region.shape[1], width):
            if not _touches(touched, inverse, affine[:, 2], left, top, width, height):
                continue
            to_places = np.column_stack([inverse, inverse @ (np.array([left, top]) - affine[:, 2])]).astype(np.float32)
            painted = _painted(layers.painting, to_places, height=height, width=width)
            planes = _tile(reading, to_places, height=height, width=width)
            tile, mask = (np.asarray(a) for a in _composed(region, layers.prepared.matte, planes, painted, affine,
                                                           to_places, (left, top)))
            here = (slice(low[1] + top, low[1] + top + height), slice(low[0] + left, low[0] + left + width))
            changed[here] = mask
            out[here][mask] = unpack_image(tile)[mask]
    return out, changed


@kept(level=3)
def _touched(layers: Layers) -> jax.Array:
    """[R, R] bool: the pixels of the map that an edit changes, and those near them."""
    photo, filled = sources(layers)
    return widest(photo + filled > 0, 5)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` begin that cover a length; the last one ends with it."""
    return sorted({min(start, length - side) for start in range(0, length, side)})


def _touches(touched, inverse, origin, left, top, width, height) -> bool:
    """Whether an edit that touches pixels [R, R] of the map may change a tile of the photo."""
    corners = np.array([[left, top], [left + width, top], [left, top + height], [left + width, top + height]])
    places = (corners - origin) @ inverse.T * len(touched)
    (x0, y0), (x1, y1) = (np.clip(edge, 0, len(touched)).astype(int) for edge in (
        np.floor(places.min(axis=0)), np.ceil(places.max(axis=0))))
    return bool(touched[y0:y1, x0:x1].any())


@kept(level=3)
def _reading(layers: Layers) -> jax.Array:
    """[7, R, R]: what a pixel of the photo reads from the maps.

    Displacement (2) px of the map, light less 1 (3), face (1), jumps (1).
    """
    motion = layers.motion
    return jnp.concatenate([motion.displacement, motion.light - 1.0, inner_face(motion)[None],
                            _jumps(motion.displacement)[None]])


@kept(static_argnames="size", level=3)
def _whole(reading, *, size: int) -> jax.Array:
    """What each pixel of a portrait of `size` px reads from the maps: [6, size, size]."""
    if size == reading.shape[-1]:
        return reading[:6]
    read = doubled(reading[:6])  # no portrait is larger than twice its map
    repeated = jnp.repeat(jnp.repeat(jnp.stack([*reading[:2], reading[6]]), 2, axis=1), 2, axis=2)
    return read.at[:2].set(jnp.where(repeated[2:] > 0, repeated[:2], read[:2]))


@kept(static_argnames=("height", "width"), level=3)
def _tile(reading, to_places, *, height: int, width: int) -> jax.Array:
    """What each pixel of a tile reads from the maps: [6, height, width]."""
    x, y = (place * reading.shape[-1] for place in _places(to_places, height, width))
    read = sample(reading, x, y)
    return read[:6].at[:2].set(jnp.where(read[6:] > 0, nearest(reading[:2], x, y), read[:2]))


@kept(static_argnames=("height", "width"), level=3)
def _painted(painting: Painting | Absent, to_places, *, height: int, width: int) -> jax.Array | Absent:
    """[height, width] packed: the painting at the places that `to_places` [2, 3] makes of pixels."""
    if painting is None:
        return None
    colours, share = painting.at(*_places(to_places, height, width))
    return _packed([255.0 * plane for plane in (*colours, share)])


@kept(level=3)
def _composed(image, matte, planes, painted, to_image, to_places, corner) -> tuple[jax.Array, jax.Array]:
    """A tile of a packed image [H, W], edited, from `corner` (x, y) on: [h, w] packed, and where it changed.

    planes [6, h, w]: of `_whole` or `_tile`; painted [h, w]: of `_painted`; to_image [2, 3]: 0..1 of the portrait
    -> px of the image; to_places [2, 3]: px of the tile -> 0..1 of the portrait.
    """
    height, width = planes.shape[1:]
    resolution = matte.shape[0]
    x, y = _places(to_places, height, width)
    displacement, light, inner = planes[:2], planes[2:5], planes[5]
    from_x, from_y = x + displacement[0] / resolution, y + displacement[1] / resolution
    read = sample_packed(image, *(to_image[i, 0] * from_x + to_image[i, 1] * from_y + to_image[i, 2]
                                  for i in range(2)))[:3]
    tile = jax.lax.dynamic_slice(image, corner[::-1], (height, width))
    own = [unpacked(tile, i) for i in range(3)]
    alpha = jnp.maximum(sample(matte, from_x * resolution, from_y * resolution), inner)
    moved = share_moved(displacement, resolution)
    here, there = ([to_linear(plane / 255.0) for plane in planes] for planes in (own, read))
    if painted is not None:
        painting = unpacked(painted, 3) / 255.0
        there = [plane + (to_linear(unpacked(painted, i) / 255.0) - plane) * painting for i, plane in enumerate(there)]
        moved = jnp.maximum(moved, painting)
    lit = [jnp.where(jnp.abs(factor) > LIGHT_STEP, factor, 0.0) * alpha for factor in light]
    changes = (moved > 0) | (lit[0] != 0) | (lit[1] != 0) | (lit[2] != 0)
    colours = []
    for i in range(3):
        mixed = (here[i] + moved * (there[i] - here[i])) * (1.0 + lit[i])
        colours.append(jnp.where(changes, 255.0 * to_srgb(jnp.clip(mixed, 0.0, 1.0)), own[i]))
    return _packed(colours), changes & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)


def _places(to_places, height: int, width: int):
    """x and y [height, width] in 0..1 of the portrait of a tile's pixels."""
    across, down = jnp.arange(width)[None, :] + 0.5, jnp.arange(height)[:, None] + 0.5
    return [to_places[i, 0] * across + to_places[i, 1] * down + to_places[i, 2] for i in range(2)]


def _packed(planes):
    """Three or four planes in 0..255 as packed pixels; a fourth value that is not there is 255."""
    values = [jnp.round(plane).astype(jnp.uint32) << (8 * i) for i, plane in enumerate(planes)]
    return functools.reduce(jnp.bitwise_or, values, jnp.uint32(0xFF000000 if len(planes) == 3 else 0))


def _jumps(field: Array) -> Array:
    """[R, R]: 1 where a displacement [2, R, R] is another from a pixel to its neighbour, as where lids meet."""
    padded = jnp.pad(field, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    most = jnp.zeros(field.shape[1:])
    for other in around:
        most = jnp.maximum(most, jnp.maximum(jnp.abs(other[0] - field[0]), jnp.abs(other[1] - field[1])))
    return (most > _JUMP_PX).astype(field.dtype)
