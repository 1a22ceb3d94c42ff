"""Where every pixel of an edited photo comes from: the motion of the fitted face, carried on to the head around it.

The map is backward: for a pixel of the result it names the place in the photo.

- The face has the map of its mesh.
- The eyeballs move with the head, whatever the lids do.
- The inside of the mouth is stretched between the lips; what the photo does not show of it, `photo.mouth` paints.
- Lids close until they meet.
- Ears and hair turn with the head, as a rigid plane through its middle.
- Shoulders, background and frame stay.

A smooth field joins these parts. It is a screened Poisson problem, solved from coarse to fine.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.face3d import geometry, raster
from pie_jax.face3d.morphable import FaceParams, MorphableModel, landmark_model, shape, vertex_normals
from pie_jax.face3d.render import irradiance, project
from pie_jax.photo.windows import narrowest, widest, window_mean

HIDDEN = 0.02  # of the depth: a point farther behind what is drawn is not seen
_SHELL_DEPTH = -0.35  # model units: the plane of ears and hairline
_HEAD = (1.55, 1.75, 1.15)  # of the head about the face's middle: half widths, up, down, in the face's own
_COARSER = 4  # the smooth field's pixels, in pixels of the map
_SWEEPS = 12  # over each level of it
_SURE = 1e3  # how much the field holds to the mesh, and to the frame
_REACH = {"head": 0.1, "still": 0.1, "light": 0.3}  # in portraits: how far from the mesh the field goes over to the
# rigid head, to rest, and light to none
_TURNED = (0.5, 2.0)  # factors of light on what turns in the light that was there
_BORDER = 12  # px of the map: along the mesh's border its motion goes over to the smooth field
# The mesh on the photo's landmarks: how far one of them pulls, and how loosely the jaw's and the others are held.
_BEND_REACH, _BEND_LOOSE = 0.3, (0.5, 0.02)  # model units; none
# The mouth, by the 66 landmarks.
_CORNERS, _UPPER_LIP, _LOWER_LIP = (48, 54), (60, 61, 62), (65, 64, 63)
_CLOSED = 0.03  # distance of a closed mouth's fitted lips, in widths of the mouth
_OPENED = (1.2, 2.0)  # growth of the lips' distance at which the painting begins, and at which it is all
# The eyes, by the 66 landmarks: an upper point and the lower one that it meets.
_UPPER_LIDS, _LOWER_LIDS = (37, 38, 43, 44), (41, 40, 47, 46)
_CLOSING = ("blink", "squint")  # components of the model whose names begin so close the lids
_OVERLAP = -0.25  # gap of closed lids, in gaps of open ones
_BEHIND = 0.08  # model units: an eyeball lies so far behind its lids; the upper lid lies half of it before the lower
_LID = 5  # px of the map: the width of a lid's edge
_SHARES = (0.75, 0.5, 0.25, 0.0)  # of the stretched eye beside the rigid one, tried in this order


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """For each pixel of the edited portrait [..., R, R]; places in 0..1 of the portrait."""

    source: Array  # [..., R, R, 2] where it comes from: x, y
    seen: Array  # [..., R, R] 0..1: the photo shows it there
    light: Array  # [..., R, R, 3] factor of its light, linear
    face: Array  # [..., R, R] 0..1: mesh, eyes and mouth
    mouth: Array  # [..., R, R] 0..1: inside of the lips
    mouth_corners: Array  # [..., 2, 2] left and right
    opened: Array  # [...] 0..1: the mouth shows what it does not in the photo


@dataclasses.dataclass(frozen=True, eq=False)
class Holes:
    """The model's eyes and mouth: loops of vertices around what its mesh leaves open, and triangles that close them.

    One object a mesh (see `holes_of`), so it may be a static argument of a compiled function.
    """

    vertices: np.ndarray  # [N] of the mesh, one loop after the other
    triangles: np.ndarray  # [T, 3] of the mesh's vertices
    region: np.ndarray  # [T] 1 and 2: eyes, 3: mouth
    upper_lids: np.ndarray  # [N] vertices of the eyes' upper borders


def holes_of(model: MorphableModel) -> Holes:
    """Close the three loops inside the border of the mesh, once for each mesh. ValueError: it has other holes."""
    return _holes_of(*(np.asarray(a, kind).tobytes() for a, kind in (
        (model.triangles, np.int32), (model.mean_shape, np.float32))))


@functools.lru_cache(maxsize=8)
def _holes_of(triangle_bytes: bytes, place_bytes: bytes) -> Holes:
    triangles = np.frombuffer(triangle_bytes, np.int32).reshape(-1, 3)
    places = np.frombuffer(place_bytes, np.float32).reshape(-1, 3)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, first, counts = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    after = {int(a): int(b) for a, b in edges[first[counts == 1]]}  # along each border, against the mesh's own winding
    loops: list[list[int]] = []
    while after:
        start, loop = next(iter(after)), []
        here = start
        while here in after:
            loop.append(here)
            here = after.pop(here)
        loops.append(loop)
    loops = sorted(loops, key=len)[:-1]  # the longest is the outer border
    if len(loops) != 3:
        raise ValueError(f"model: expected holes for two eyes and a mouth, got {len(loops)} holes")
    loops.sort(key=lambda loop: (places[loop, 1].mean() < 0, places[loop, 0].mean()))
    fans, regions = [], []
    for region, loop in enumerate(loops, start=1):
        fan = _strip(loop, places)
        fans.append(fan)
        regions.append(np.full(len(fan), region))
    lids = np.concatenate([[v for v in loop if places[v, 1] > (places[loop, 1].max() + places[loop, 1].min()) / 2]
                           for loop in loops[:2]]).astype(np.int32)
    return Holes(np.concatenate(loops), np.concatenate(fans).astype(np.int32), np.concatenate(regions), lids)


def _strip(loop: list[int], places: np.ndarray) -> np.ndarray:
    """Triangles between the upper and the lower half of a loop, corner to corner."""
    left, right = (int(pick(places[loop, 0])) for pick in (np.argmin, np.argmax))
    ahead = loop[left:] + loop[:left]
    turn = (right - left) % len(loop)
    one, other = ahead[:turn + 1], [ahead[0], *ahead[:turn - 1:-1]]
    triangles, i, j = [], 0, 0
    while i < len(one) - 1 or j < len(other) - 1:
        if j == len(other) - 1 or (i < len(one) - 1 and places[one[i + 1], 0] <= places[other[j + 1], 0]):
            triangles.append((one[i], one[i + 1], other[j]))
            i += 1
        else:
            triangles.append((one[i], other[j + 1], other[j]))
            j += 1
    return np.array([t for t in triangles if len(set(t)) == 3])


def find_motion(model: MorphableModel, holes: Holes, source: FaceParams, target: FaceParams, camera: CameraConfig, *,
                resolution: int, landmarks: Array | None = None) -> Motion:
    """The motion from `source` to `target`, FaceParams [n] of one photo, on a grid of `resolution` px.

    landmarks [66, 2], 0..1 of the portrait: where the photo shows them. The mesh is bent on to them, before and after.
    """
    target = lids_met(model, source, target)
    own, wanted = (shape(model, p) for p in (source, target))
    rest = shape(model, dataclasses.replace(source, expression=jnp.zeros_like(source.expression)))
    px = {"own": project(own, source, camera, resolution=resolution),
          "wanted": project(wanted, target, camera, resolution=resolution),
          "rest_own": project(rest, source, camera, resolution=resolution),
          "rest_wanted": project(rest, target, camera, resolution=resolution)}
    if landmarks is not None:
        bend = _bend(model, landmarks * resolution - px["own"][model.landmark_vertices, :2])
        px = {name: places.at[:, :2].add(bend) for name, places in px.items()}
    within, closing = np.unique(holes.triangles, return_inverse=True)  # what closes a hole lies behind its border
    triangles = jnp.concatenate([jnp.asarray(model.triangles),
                                 jnp.asarray(closing.reshape(-1, 3) + len(model.mean_shape), jnp.int32)])
    region = jnp.concatenate([jnp.zeros(len(model.triangles), jnp.int32), jnp.asarray(holes.region, jnp.int32)])
    lids = jnp.asarray(holes.upper_lids)
    px = {name: places.at[lids, 2].add(-_BEHIND / 2) for name, places in px.items()}
    px = {name: jnp.concatenate([places, places[within] + jnp.asarray([[0.0, 0.0, _BEHIND]])])
          for name, places in px.items()}
    before = raster.rasterize(px["own"], triangles, height=resolution, width=resolution)
    after = raster.rasterize(px["wanted"], triangles, height=resolution, width=resolution)
    moved = (px["own"] - px["wanted"])[:, :2]
    rigid = (px["rest_own"] - px["rest_wanted"])[:, :2]
    irradiances = [jnp.concatenate([lit, lit[within]]) for lit in (
        irradiance(vertex_normals(geometry.rotate(v, p.rotation), model.triangles), p.illumination)
        for v, p in ((own, source), (wanted, target)))]
    drawn = raster.interpolate(after, triangles, jnp.concatenate(
        [moved, rigid, px["own"][:, 2:], *irradiances], axis=-1))
    hit = after.triangle_id >= 0
    part = jnp.where(hit, _region_of(after, region), -1)
    eye, mouth = (part == 1) | (part == 2), part == 3
    grid = pixel_grid(resolution)
    was_eye = (_region_of(before, region) == 1) | (_region_of(before, region) == 2)
    displacement = jnp.where(eye[..., None], _in_eye(was_eye, grid, drawn[..., 2:4], drawn[..., :2]),
                             drawn[..., :2])
    wide_open = nearest(_opened(was_eye), grid + displacement)
    closed = eye & ~_opened(eye) & wide_open  # what is left between lids that met
    displacement, eye = _filled_from_above(displacement, closed), eye & ~closed
    seen_depth = sample(before.depth[..., None], grid + displacement)[..., 0]
    visible = hit & ((drawn[..., 4] <= seen_depth * (1 + HIDDEN)) | mouth | eye)
    light = jnp.clip(drawn[..., 8:11] / jnp.maximum(drawn[..., 5:8], 1e-2), 0.2, 5.0)
    same = jnp.all(source.illumination == target.illumination)  # then what turns in it keeps its colour
    light = jnp.where(same, jnp.clip(light.mean(axis=-1, keepdims=True), *_TURNED), light)

    shell, head = _rigid_head((px["wanted"] + px["own"]) / 2, source, target, camera, grid, resolution)
    pull = {name: 1.0 / (reach * resolution) ** 2 for name, reach in _REACH.items()}
    trust = _inside(visible)
    sure = jnp.where(visible, _SURE * trust, jnp.where(hit, 0.0, pull["head"] * head + pull["still"] * (1 - head)))
    known = jnp.where(visible[..., None], displacement, jnp.where(hit[..., None], 0.0, shell * head[..., None]))
    smooth = smooth_field(known, sure)
    field = smooth + trust[..., None] * (jnp.where(visible[..., None], _softened(displacement, eye), smooth) - smooth)
    light = jnp.where(hit[..., None], light, 1.0 + smooth_field(
        jnp.where(hit[..., None], light - 1.0, 0.0), jnp.where(hit, _SURE, pull["light"])))
    lips = {name: px[name][model.landmark_vertices, :2] for name in ("own", "wanted")}
    opened = jnp.clip((_gap(lips["wanted"]) / (_gap(lips["own"]) + _CLOSED) - _OPENED[0])
                      / (_OPENED[1] - _OPENED[0]), 0.0, 1.0)
    return Motion(source=(grid + field) / resolution, seen=jnp.where(hit, visible, 1.0).astype(field.dtype),
                  light=light, face=hit.astype(field.dtype), mouth=mouth.astype(field.dtype),
                  mouth_corners=lips["wanted"][jnp.asarray(_CORNERS)] / resolution, opened=opened)


def _bend(model: MorphableModel, offsets):
    """Offsets [66, 2] of the landmarks -> offsets [V, 2] of the vertices: a smooth field over the mean face."""
    places = jnp.asarray(model.mean_shape)
    known = places[model.landmark_vertices]

    def kernel(a):
        squared = jnp.square(a[:, None] - known[None]).sum(axis=-1)
        return jnp.exp(-jnp.sqrt(squared + 1e-12) / _BEND_REACH)

    loose = jnp.where(jnp.arange(len(known)) < 17, _BEND_LOOSE[0], _BEND_LOOSE[1])  # the jaw slides
    return kernel(places) @ jnp.linalg.solve(kernel(known) + jnp.diag(loose), offsets)


def lids_met(model: MorphableModel, source: FaceParams, target: FaceParams) -> FaceParams:
    """`target` with lids that close until they meet and no further, by the model's components of that name."""
    names = model.expression_names
    closing = np.array([name.startswith(_CLOSING) for name in names]) if names else np.zeros(1, bool)
    if not closing.any():
        return target
    landmarks = landmark_model(model)
    upper, lower = (jnp.asarray(lid) for lid in (_UPPER_LIDS, _LOWER_LIDS))

    def gaps(expression):
        points = shape(landmarks, dataclasses.replace(target, expression=expression))
        return (points[upper, 1] - points[lower, 1]).reshape(2, 2).mean(axis=1)  # of each eye

    still = jnp.where(closing, source.expression, target.expression)
    open_, asked, least = gaps(still), gaps(target.expression), _OVERLAP * gaps(jnp.zeros_like(still))
    share = jnp.where(asked < least, (open_ - least) / jnp.maximum(open_ - asked, 1e-6), 1.0)
    share = jnp.clip(share, 0.0, 1.0).max()
    return dataclasses.replace(target, expression=still + share * (target.expression - still))


def _inside(mask):
    """[R, R] 0..1: how far within a mask [R, R] bool; 0 along its border and outside, 1 from `_BORDER` px on."""
    share = window_mean(mask.astype(jnp.float32), 2 * _BORDER + 1)
    return jnp.clip(2.0 * share - 1.0, 0.0, 1.0)


def _softened(displacement, eye):
    """`displacement` [R, R, 2] without its jump along the lids: there it goes over within `_LID` px."""
    lid = widest(eye, _LID) & ~narrowest(eye, _LID)
    return jnp.where(lid[..., None], window_mean(displacement, _LID), displacement)


def _filled_from_above(displacement, missing):
    """`displacement` [R, R, 2] where a mask is set: the place in the photo is that of the pixel above the mask."""
    size = missing.shape[0]
    row = jnp.broadcast_to(jnp.arange(size)[:, None], missing.shape)
    above = row
    for up in range(_LID, 0, -1):  # the nearest one is found last
        above = jnp.where(missing & ~jnp.roll(missing, up, axis=0), jnp.maximum(row - up, 0), above)
    flat = above * size + jnp.arange(size)[None]
    filled = displacement.reshape(-1, 2)[flat] - jnp.stack([jnp.zeros_like(row), row - above], axis=-1)
    return jnp.where(missing[..., None], filled, displacement)


def _opened(mask):
    """The parts of a mask that are at least `_LID` px wide and high."""
    return widest(narrowest(mask, _LID), _LID)


def _region_of(fragments, region):
    """[R, R] the region of what was drawn; that of triangle 0, the skin, where nothing was."""
    return region[jnp.maximum(fragments.triangle_id, 0)]


def _in_eye(was_eye, grid, rigid, stretched):
    """As little of `stretched` beside `rigid` as it takes to read the eyeball inside the photo's own lids."""
    found = stretched
    for share in _SHARES:
        mixed = rigid + share * (stretched - rigid)
        found = jnp.where(nearest(was_eye, grid + mixed)[..., None], mixed, found)
    return found


def _gap(landmarks):
    """How far the lips are apart, in widths of the mouth."""
    upper, lower = landmarks[jnp.asarray(_UPPER_LIP)], landmarks[jnp.asarray(_LOWER_LIP)]
    left, right = landmarks[jnp.asarray(_CORNERS)]
    return jnp.linalg.norm((lower - upper).mean(axis=0)) / jnp.linalg.norm(right - left)


def _rigid_head(middle_px, source: FaceParams, target: FaceParams, camera: CameraConfig, grid, resolution: int):
    """The displacement [R, R, 2] of a plane through the head that moves with it, and where the head is, 0..1."""
    corners = jnp.asarray([[-1, -1], [1, -1], [1, 1], [-1, 1]], jnp.float32) * 2.0
    plane = jnp.concatenate([corners, jnp.full((4, 1), _SHELL_DEPTH)], axis=1)
    a, b = (project(plane, p, camera, resolution=resolution)[:, :2] for p in (target, source))
    h = _homography(a, b)
    ones = jnp.ones((*grid.shape[:-1], 1))
    moved = jnp.einsum("hwj,ij->hwi", jnp.concatenate([grid, ones], axis=-1), h)
    displacement = moved[..., :2] / moved[..., 2:] - grid
    low, high = middle_px[:, :2].min(axis=0), middle_px[:, :2].max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    x, y = (grid[..., 0] - middle[0]) / half[0], (grid[..., 1] - middle[1]) / half[1]
    radius = jnp.sqrt((x / _HEAD[0]) ** 2 + jnp.where(y < 0, y / _HEAD[1], y / _HEAD[2]) ** 2)
    return displacement, 1 - jax.nn.sigmoid((radius - 1.0) * 10.0)


def _homography(a, b):
    """The 3x3 matrix that takes four points a [4, 2] to b."""
    rows = []
    for (x, y), (u, v) in zip(a, b, strict=True):
        rows.append(jnp.stack([x, y, jnp.ones(()), *jnp.zeros(3), -u * x, -u * y]))
        rows.append(jnp.stack([*jnp.zeros(3), x, y, jnp.ones(()), -v * x, -v * y]))
    found = jnp.linalg.solve(jnp.stack(rows), b.reshape(-1))
    return jnp.append(found, 1.0).reshape(3, 3)


def pixel_grid(resolution: int) -> jax.Array:
    """[R, R, 2] x and y of the pixels' centres, px."""
    y, x = jnp.meshgrid(jnp.arange(resolution) + 0.5, jnp.arange(resolution) + 0.5, indexing="ij")
    return jnp.stack([x, y], axis=-1)


def sample(image: Array, places: Array) -> jax.Array:
    """image [H, W, C] at places [..., 2] (x, y px, centres at .5), bilinear, the border repeated."""
    high = jnp.asarray([image.shape[1] - 1, image.shape[0] - 1]).reshape((1,) * (places.ndim - 1) + (2,))
    at = jnp.clip(places - 0.5, 0, high)
    corner = jnp.minimum(jnp.floor(at).astype(jnp.int32), jnp.maximum(high - 1, 0))
    share = at - corner
    flat, width = image.reshape(-1, image.shape[-1]), image.shape[1]
    first = corner[..., 1] * width + corner[..., 0]
    top = flat[first] * (1 - share[..., :1]) + flat[first + 1] * share[..., :1]
    bottom = flat[first + width] * (1 - share[..., :1]) + flat[first + width + 1] * share[..., :1]
    return top * (1 - share[..., 1:]) + bottom * share[..., 1:]


def nearest(values: Array, places: Array) -> jax.Array:
    """`values` [H, W, ...] of the pixels that hold `places` [..., 2] (x, y px), or beyond the border are nearest."""
    height, width = values.shape[:2]
    x = jnp.clip(places[..., 0].astype(jnp.int32), 0, width - 1)
    y = jnp.clip(places[..., 1].astype(jnp.int32), 0, height - 1)
    return values.reshape(height * width, *values.shape[2:])[y * width + x]


def smooth_field(known: Array, sure: Array) -> jax.Array:
    """The field [R, R, C] that is smooth, holds to `known` as `sure` [R, R] says, and is 0 along the frame.

    Least squares of its steps from pixel to pixel and of sure times its distance from known, found from coarse to fine;
    the finest level has `_COARSER` pixels of the map a side.
    """
    size, pairs = known.shape[0], (known * sure[..., None], sure)
    factor, levels = 1, []
    while pairs[1].shape[0] >= 8:
        if factor >= _COARSER:
            levels.append((pairs[0] * factor**2, pairs[1] * factor**2))
        if pairs[1].shape[0] % 2:
            break
        pairs, factor = (_halve(pairs[0]), _halve(pairs[1][..., None])[..., 0]), 2 * factor
    field = jnp.zeros_like(levels[-1][0])
    for weighted, weight in reversed(levels):
        if field.shape[0] != weight.shape[0]:
            field = jax.image.resize(field, (*weight.shape, field.shape[-1]), "linear")
        field = jax.lax.fori_loop(0, _SWEEPS, lambda _, f, a=weighted, w=weight: _sweep(f, a, w), field)
    return jax.image.resize(field, (size, size, field.shape[-1]), "linear")


def _halve(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean(axis=(1, 3))


def _sweep(field, weighted, weight):
    padded = jnp.pad(field, ((1, 1), (1, 1), (0, 0)))
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return (around + weighted) / (4.0 + weight[..., None])
