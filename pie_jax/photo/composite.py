"""The edited photo put together: moved, and the person relit, in the portrait or in the whole photo.

    edited = (1 + A * (light - 1)) * warp(photo)       in linear light

A is the person's matte, moved with the person. Where the generator gives the photo back, its correction is added, in
sRGB (see `photo.correction`). The motion fades out around the head, so hair keeps its edges and what is behind it comes
with it. Where nothing moves and no light changes, every pixel stays what it was.
Each program below is one that XLA:CPU turns into loops it can vectorise: joined they take several times as long.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent, Array
from pie_jax.imaging import to_linear, to_srgb
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import LIGHT_STEP, Correction, Layers, inner_face, share_moved, sources
from pie_jax.photo.maps import doubled, nearest, pack_image, sample, sample_packed, unpack_image, unpacked
from pie_jax.photo.mouth import Painting
from pie_jax.photo.windows import widest
from pie_jax.programs import kept

_TILE = 512  # px of the whole photo a side that are made at a time
_WINDOW = 1024  # px a side of what they are made of, at least
_SHOULDER = 0.5  # linear: light that is added makes nothing brighter than this without easing off
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
                          _painted(layers.painting, to_places, height=size, width=size),
                          _added(layers.correction, to_places, height=size, width=size), to_image, to_places, (0, 0))
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
    affine = np.stack([across, down, fitted.square.to_photo(np.zeros(2)) - low], axis=1)
    inverse = np.linalg.inv(affine[:, :2])
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    region, reading = pack_image(photo[part]), _reading(layers)
    touched, field = np.asarray(_touched(layers)), np.asarray(reading[:2]) / reading.shape[-1]

    def make(top: int, left: int) -> None:
        to_places = np.column_stack([inverse, inverse @ (np.array([left, top]) - affine[:, 2])])
        if not _touches(touched, to_places):
            return
        x, y, side = _window_of(field, affine, to_places, left, top, region.shape)
        to_window = affine - [[0.0, 0.0, x], [0.0, 0.0, y]]
        places = to_places.astype(np.float32)
        tile, mask = _composed(_cut(region, x, y, side), layers.prepared.matte,
                               _tile(reading, places, height=_TILE, width=_TILE),
                               _painted(layers.painting, places, height=_TILE, width=_TILE),
                               _added(layers.correction, places, height=_TILE, width=_TILE),
                               to_window.astype(np.float32), places, np.array([left - x, top - y], np.int32))
        height, width = (min(_TILE, length) for length in region.shape)
        here = (slice(low[1] + top, low[1] + top + height), slice(low[0] + left, low[0] + left + width))
        changed[here] = np.asarray(mask)[:height, :width]
        out[here] = unpack_image(np.asarray(tile))[:height, :width]

    starts = [(top, left) for top in _starts(region.shape[0]) for left in _starts(region.shape[1])]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # one tile is cut and unpacked while another is computed
        for tile in [pool.submit(contextvars.copy_context().run, make, *start) for start in starts]:
            tile.result()
    return out, changed


@kept(level=3)
def _touched(layers: Layers) -> jax.Array:
    """[R, R] bool: the pixels of the map that an edit changes, and those near them."""
    return widest(functools.reduce(jnp.add, sources(layers)) > 0, 5)


def _starts(length: int) -> list[int]:
    """Where tiles begin that cover a length; the last one ends with it, if it is as long as a tile."""
    return sorted({max(min(start, length - _TILE), 0) for start in range(0, length, _TILE)})


def _box(to_places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest x and y, in 0..1 of the portrait, of a tile."""
    corners = np.array([[0, 0, 1], [_TILE, 0, 1], [0, _TILE, 1], [_TILE, _TILE, 1]]) @ to_places.T
    return corners.min(axis=0), corners.max(axis=0)


def _touches(touched: np.ndarray, to_places: np.ndarray) -> bool:
    """Whether an edit that touches pixels [R, R] of the map may change a tile of the photo."""
    low, high = _box(to_places)
    (x0, y0), (x1, y1) = (np.clip(edge, 0, len(touched)).astype(int) for edge in (
        np.floor(low * len(touched)), np.ceil(high * len(touched))))
    return bool(touched[y0:y1, x0:x1].any())


def _window_of(field, affine, to_places, left: int, top: int, shape: tuple[int, int]) -> tuple[int, int, int]:
    """x, y and side of the square of a region [H, W] that a tile at left and top is made of.

    field [2, R, R]: the displacement, in portraits. Sides are powers of two, so that photos share their programs.
    """
    low, high = _box(to_places)
    resolution = field.shape[-1]
    (x0, y0), (x1, y1) = (np.clip(edge, 0, resolution - 1).astype(int) for edge in (
        np.floor(low * resolution) - 2, np.ceil(high * resolution) + 2))
    near = field[:, y0:y1 + 1, x0:x1 + 1].reshape(2, -1)
    (x0, y0), (x1, y1) = low + near.min(axis=1), high + near.max(axis=1)
    read = np.array([[x0, y0, 1], [x1, y0, 1], [x0, y1, 1], [x1, y1, 1]]) @ affine.T
    length = np.array(shape[::-1])
    first = np.clip(np.minimum(np.floor(read.min(axis=0)) - 2, (left, top)), 0, None).astype(int)
    last = np.minimum(np.maximum(np.ceil(read.max(axis=0)) + 2, (left + _TILE, top + _TILE)), length).astype(int)
    last = np.maximum(last, (left + _TILE, top + _TILE))
    side = max(_WINDOW, 1 << int((last - first).max() - 1).bit_length())
    x, y = np.maximum(np.minimum(first, length - side), last - side)
    return int(x), int(y), side


def _cut(region: np.ndarray, x: int, y: int, side: int) -> np.ndarray:
    """A square of a region [H, W] from (x, y) on, the region's border repeated beyond it."""
    rows, columns = (np.clip(np.arange(start, start + side), 0, length - 1)
                     for start, length in zip((y, x), region.shape, strict=True))
    if rows[-1] - rows[0] == columns[-1] - columns[0] == side - 1:
        return region[y:y + side, x:x + side]
    return region[np.ix_(rows, columns)]


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


@kept(static_argnames=("height", "width"), level=3)
def _added(correction: Correction | Absent, to_places, *, height: int, width: int) -> jax.Array | Absent:
    """[3, height, width]: the generator's correction at the places that `to_places` [2, 3] makes of pixels."""
    if correction is None:
        return None
    size = correction.planes.shape[-1]
    return sample(correction.planes, *(size * place for place in _places(to_places, height, width)))


@kept(level=3)
def _composed(image, matte, planes, painted, added, to_image, to_places, corner) -> tuple[jax.Array, jax.Array]:
    """A tile of a packed image [H, W], edited, from `corner` (x, y) on: [h, w] packed, and where it changed.

    planes [6, h, w]: of `_whole` or `_tile`; painted [h, w]: of `_painted`; added [3, h, w]: of `_added`;
    to_image [2, 3]: 0..1 of the portrait -> px of the image; to_places [2, 3]: px of the tile -> 0..1 of the portrait.
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
    surely = alpha * alpha * alpha  # where the matte covers some background, a brighter rim would show
    lit = [jnp.where(jnp.abs(factor) > LIGHT_STEP, factor * jnp.where(factor > 0, surely, alpha), 0.0)
           for factor in light]
    changes = (moved > 0) | (lit[0] != 0) | (lit[1] != 0) | (lit[2] != 0)
    colours = [here[i] + moved * (there[i] - here[i]) for i in range(3)]
    colours = [to_srgb(jnp.clip(_lit(colour, factor), 0.0, 1.0)) for colour, factor in zip(colours, lit, strict=True)]
    if added is not None:
        colours = [jnp.clip(colour + plane, 0.0, 1.0) for colour, plane in zip(colours, added, strict=True)]
        changes |= (added[0] != 0) | (added[1] != 0) | (added[2] != 0)
    changes &= (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    return jnp.where(changes, _packed([255.0 * colour for colour in colours]), tile), changes


def _lit(colour, factor):
    """A plane of linear light times 1 + `factor`; what would come out brighter than `_SHOULDER` eases off towards 1."""
    bright = colour * (1.0 + factor)
    start = jnp.clip(jnp.maximum(colour, _SHOULDER), 0.0, 1.0)
    over = bright - start
    return jnp.where(over > 0, start + (1.0 - start) * over / jnp.maximum(1.0 - start + over, 1e-6), bright)


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
