"""Where every pixel of an edited photo comes from: the motion of the fitted face, carried on to the head around it.

The map is backward: for a pixel of the result it names the place in the photo.

- The face has the map of its mesh.
- The eyeballs move with the head, whatever the lids do.
- The inside of the mouth is stretched between the lips; what the photo does not show of it, `photo.mouth` paints.
- Lids close until they meet.
- A smooth field carries the motion on to what is around the face (`photo.surroundings`).
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Absent, Array
from pie_jax.config import CameraConfig
from pie_jax.face3d import geometry, raster
from pie_jax.face3d.morphable import FaceParams, MorphableModel, landmark_model, normalise, shape, vertex_normals
from pie_jax.face3d.render import irradiance, project
from pie_jax.photo.holes import Holes
from pie_jax.photo.maps import centres, nearest, once, sample, smooth_field
from pie_jax.photo.surroundings import COARSER, carried_on, framed
from pie_jax.photo.windows import narrowest, odd, widest, window_mean, within

HIDDEN = 0.02  # of the depth: a point farther behind what is drawn is not seen
_GRAZING = 0.15  # cosine between the skin's normal and the line of sight: with less the photo does not show it
_SURE = 1e3  # how much the light around the mesh holds to the mesh's
_REACH = 0.3  # portraits: how far from the mesh its light goes over to none
_COARSER = 8  # the pixels of that light, in pixels of the map
_DISPLAY = 2.2  # a factor of irradiance multiplies sRGB values, as in renderings; linear light, its power of this
_DARK = 1e-2  # the least irradiance
_FACTORS = (0.1, 5.0)  # bounds of the factor of linear light where the light changes
_TURNED = (0.5, 2.0)  # the same where skin turns in the photo's own light; photographs want no power there
_TEAR = 1.5  # px of the map: a larger step of the motion between neighbouring pixels shows as a seam
_SLOPE = 16 / 512  # portraits: the width of the slope that such a step is made
_BORDER = 12  # px of the map: along the mesh's border its motion goes over to the smooth field
# The mesh on the photo's landmarks: how far one of them pulls, and how loosely the jaw's and the others are held.
_BEND_REACH, _BEND_LOOSE = 0.3, (0.5, 0.02)  # model units; none
# The mouth, by the 66 landmarks.
_CORNERS, _UPPER_LIP, _LOWER_LIP = (48, 54), (60, 61, 62), (65, 64, 63)
_CLOSED = 0.03  # distance of a closed mouth's fitted lips, in widths of the mouth
_OPENED = (1.2, 2.0)  # growth of the lips' distance at which the painting begins, and at which it is all
_SHOWN = (0.3, 0.5)  # distance of the photo's lips from which on it shows a mouth's inside, and at which it shows all
# The eyes, by the 66 landmarks: an upper point and the lower one that it meets.
_UPPER_LIDS, _LOWER_LIDS = (37, 38, 43, 44), (41, 40, 47, 46)
_CLOSING = ("blink", "squint")  # components of the model whose names begin so close the lids
_OVERLAP = -0.25  # gap of closed lids, in gaps of open ones
_BEHIND = 0.08  # model units: an eyeball lies so far behind its lids; the upper lid lies half of it before the lower
_LID = 5  # px of the map: the width of a lid's edge
_SHARES = (0.75, 0.5, 0.25, 0.0)  # of the stretched eye beside the rigid one, tried in this order
_LIDS = (0.09, 0.05)  # portraits: half the width and height about the middle of an eye in which its lids move
_WINDOW = 0.25  # portraits: the side of the window around an eye in which its pixels are looked at


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFace:
    """A photo's own face on a map of R px: what its motions start from, found once (see `source_face_of`).

    V vertices of the mesh and, after them, those that close its holes.
    """

    params: FaceParams  # fields [n]
    vertices: Array  # [V, 3] px, px, depth
    rest: Array  # [V, 2] px: with a neutral expression
    bend: Array  # [V, 2] px: from the model to the photo's landmarks
    irradiance: Array  # [V, 3]
    own_depth: Array  # [V] depth of each point; more where the photo shows it almost edge-on
    depth: Array  # [R, R] of what is drawn
    eyes: Array  # [R, R] bool
    wide_eyes: Array  # [R, R] bool: at least as high as a lid is
    gap: Array  # [] between the lips, in widths of the mouth


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """For each pixel of the edited portrait, on a map of R px."""

    displacement: Array  # [2, R, R] px of the map: from it to where it comes from, x and y
    seen: Array  # [R, R] 0..1: the photo shows it there
    light: Array  # [3, R, R] factor of its light, linear
    face: Array  # [R, R] 0..1: mesh, eyes and mouth
    mouth: Array  # [R, R] 0..1: inside of the lips
    mouth_corners: Array  # [2, 2] left and right; x and y in 0..1 of the portrait
    gap: Array  # [] between the lips, in widths of the mouth
    opened: Array  # [] 0..1: the mouth shows what it does not in the photo

    def sources(self) -> tuple[jax.Array, jax.Array]:
        """x and y [R, R] px of the map: where each pixel comes from."""
        x, y = centres(self.face.shape[-1])
        return x + self.displacement[0], y + self.displacement[1]


def source_face_of(model: MorphableModel, holes: Holes, params: FaceParams, camera: CameraConfig, *, resolution: int,
                   landmarks: Array | None = None) -> SourceFace:
    """The face of `params`, FaceParams [n], as a photo shows it, on a map of `resolution` px.

    landmarks [66, 2], 0..1 of the portrait: where the photo shows them. The mesh is bent on to them, before every edit
    and after it.
    """
    own = shape(model, params)
    vertices = project(own, params, camera, resolution=resolution)
    bend = holes.carry(jnp.zeros((len(vertices), 2)))
    if landmarks is not None:
        bend = holes.carry(_bend(model, landmarks * resolution - vertices[model.landmark_vertices, :2]))
    triangles, region = _closed_mesh(model, holes)
    vertices = _placed(holes, vertices, bend)
    before = raster.rasterize(vertices, triangles, height=resolution, width=resolution)
    part = region[jnp.maximum(before.triangle_id, 0)]
    eyes = (part == 1) | (part == 2)
    return SourceFace(params=params, vertices=vertices, bend=bend,
                      rest=_placed(holes, project(_neutral(model, params), params, camera, resolution=resolution),
                                   bend)[:, :2],
                      irradiance=holes.carry(_lit(model, own, params)), depth=before.depth, eyes=eyes,
                      own_depth=_own_depth(model, holes, vertices, own, params, camera),
                      wide_eyes=_opened(eyes), gap=_gap(vertices[model.landmark_vertices, :2]))


def find_motion(model: MorphableModel, holes: Holes, source_face: SourceFace, target: FaceParams,
                camera: CameraConfig, *, border: Array | Absent = None) -> Motion:
    """The motion from a photo's face to the `target`, FaceParams [n].

    border [R, R]: how far each pixel is from the photo's border, px of the map; None: that is the frame.
    """
    resolution, source = source_face.depth.shape[-1], source_face.params
    target = lids_met(model, source, target)
    wanted = shape(model, target)
    vertices = _placed(holes, project(wanted, target, camera, resolution=resolution), source_face.bend)
    rest = _placed(holes, project(_neutral(model, dataclasses.replace(target, identity=source.identity)), target,
                                  camera, resolution=resolution), source_face.bend)[:, :2]
    triangles, region = _closed_mesh(model, holes)
    after = raster.rasterize(vertices, triangles, height=resolution, width=resolution)
    light = _light(model, holes, source_face, wanted, target)
    moved = source_face.vertices - vertices
    drawn = jnp.moveaxis(raster.interpolate(after, triangles, jnp.concatenate(
        [moved[:, :2], source_face.rest - rest, source_face.own_depth[:, None], light], axis=-1)), -1, 0)
    displacement, rigid, own_depth, light = once((drawn[:2], drawn[2:4], drawn[4], drawn[5:]))
    hit = after.triangle_id >= 0
    part = jnp.where(hit, region[jnp.maximum(after.triangle_id, 0)], -1)
    x, y = centres(resolution)
    spared = part == 3  # where steps of the motion are meant: in the mouth, and where lids meet
    for eye, at in enumerate(_eye_windows(holes, vertices, resolution), start=1):
        middle = (at + _WINDOW * resolution / 2) / resolution
        spared |= (jnp.abs(x / resolution - middle[1]) < _LIDS[0]) & (jnp.abs(y / resolution - middle[0]) < _LIDS[1])
        displacement, part = _eye(source_face, displacement, rigid, part, at, region=eye)
    eyes, mouth = (part == 1) | (part == 2), part == 3
    shown_depth = sample(source_face.depth, x + displacement[0], y + displacement[1])
    visible = once(hit & ((own_depth <= shown_depth * (1 + HIDDEN)) | mouth | eyes))

    around = carried_on(*_half_way(model, holes, source_face, vertices, wanted, target, camera, after.depth),
                        source, target, camera, border=border)
    trust = once(within(visible, _BORDER))
    known = jnp.where(visible[None], displacement, around.displacement)
    field = once(around.displacement + trust[None] * (known - around.displacement))
    field = framed(_untorn(field, spared=spared), around)
    sure = jnp.where(hit, _SURE, 1.0 / (_REACH * resolution) ** 2)
    added = once(smooth_field(jnp.where(hit[None], light - 1.0, 0.0), sure, coarser=_COARSER))
    light = jnp.where(hit[None], light, 1.0 + added)
    lips = vertices[model.landmark_vertices, :2]
    gap, own_gap = _gap(lips), source_face.gap
    opened = _share(gap / (own_gap + _CLOSED), _OPENED) * (1.0 - _share(own_gap, _SHOWN))
    return Motion(displacement=field, seen=jnp.where(hit, visible, 1.0).astype(field.dtype), light=light,
                  face=hit.astype(field.dtype), mouth=mouth.astype(field.dtype),
                  mouth_corners=lips[jnp.asarray(_CORNERS)] / resolution, gap=gap, opened=opened)


def _half_way(model: MorphableModel, holes: Holes, source_face: SourceFace, vertices, wanted, target: FaceParams,
              camera: CameraConfig, depth) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What `carried_on` needs of the mesh half-way between the photo's and the result's `vertices` [V, 3] px, depth.

    wanted [V, 3] in the model; depth [R, R] of what is drawn of the result.
    """
    size = depth.shape[-1] // COARSER
    triangles, region = _closed_mesh(model, holes)
    middle = (source_face.vertices + vertices) / 2 / jnp.asarray([[COARSER, COARSER, 1.0]])
    there = raster.rasterize(middle, triangles, height=size, width=size)
    own_depth = _own_depth(model, holes, vertices, wanted, target, camera)
    moved, own_before, own_after = jnp.split(jnp.moveaxis(raster.interpolate(there, triangles, jnp.concatenate(
        [(source_face.vertices - vertices)[:, :2], source_face.own_depth[:, None], own_depth[:, None]], axis=-1)),
        -1, 0), [2, 3])
    drawn = there.triangle_id >= 0
    visible = drawn & (region[jnp.maximum(there.triangle_id, 0)] > 0)  # eyes and mouth are
    x, y = (COARSER * along for along in centres(size))
    shown = [own[0] <= sample(surface, x + way * moved[0], y + way * moved[1]) * (1 + HIDDEN) for own, surface, way in
             ((own_before, source_face.depth, 0.5), (own_after, depth, -0.5))]
    return moved, visible | (drawn & shown[0] & shown[1]), drawn, middle[:, :2]


def _own_depth(model: MorphableModel, holes: Holes, placed, vertices, params: FaceParams, camera: CameraConfig):
    """[V]: the depth of each point `placed` [V, 3] px, px, depth; more where it is seen almost edge-on."""
    grazing = jnp.maximum(_GRAZING - _facing(model, vertices, params, camera), 0.0) / _GRAZING
    return placed[:, 2] * (1.0 + holes.carry(grazing[:, None])[:, 0])


def _light(model: MorphableModel, holes: Holes, source_face: SourceFace, wanted, target: FaceParams) -> jax.Array:
    """[V, 3]: factors of the linear light at the target's vertices `wanted` [V, 3], RGB.

    One for skin that turns in the photo's own light, without its colour; one for the photo's light made the target's.
    """
    turned = dataclasses.replace(target, illumination=source_face.params.illumination)
    before, after = (jnp.maximum(holes.carry(_lit(model, wanted, params)), _DARK) for params in (turned, target))
    turning = (before / jnp.maximum(source_face.irradiance, _DARK)).mean(axis=-1, keepdims=True)
    return jnp.clip(turning, *_TURNED) * jnp.clip((after / before) ** _DISPLAY, *_FACTORS)


def _closed_mesh(model: MorphableModel, holes: Holes) -> tuple[jax.Array, jax.Array]:
    """Triangles [T, 3] of the mesh with its holes closed, and their regions [T]; 0 is the skin."""
    skin = jnp.zeros(len(model.triangles), jnp.int32)
    return (jnp.concatenate([jnp.asarray(model.triangles), jnp.asarray(holes.closing(len(model.mean_shape)))]),
            jnp.concatenate([skin, jnp.asarray(holes.region, jnp.int32)]))


def _neutral(model: MorphableModel, params: FaceParams) -> jax.Array:
    return shape(model, dataclasses.replace(params, expression=jnp.zeros_like(params.expression)))


def _lit(model: MorphableModel, vertices, params: FaceParams) -> jax.Array:
    return irradiance(vertex_normals(geometry.rotate(vertices, params.rotation), model.triangles), params.illumination)


def _facing(model: MorphableModel, vertices, params: FaceParams, camera: CameraConfig):
    """[V]: the cosine between the normal of each of the vertices [V, 3] and the line to the camera."""
    normals = vertex_normals(geometry.rotate(vertices, params.rotation), model.triangles)
    world = geometry.world_from_model(vertices, params.rotation, params.translation)
    return (normals * normalise(jnp.asarray([[0.0, 0.0, camera.distance]]) - world)).sum(axis=-1)


def _placed(holes: Holes, vertices, bend):
    """Projected vertices [V, 3] of the mesh, bent, with upper lids in front and, behind, those that close its holes."""
    before = jnp.zeros(len(vertices)).at[jnp.asarray(holes.upper_lids)].set(-_BEHIND / 2)
    placed = holes.carry(vertices.at[:, 2].add(before))
    behind = jnp.where(jnp.arange(len(placed)) < len(vertices), 0.0, _BEHIND)
    return jnp.concatenate([placed[:, :2] + bend, placed[:, 2:] + behind[:, None]], axis=1)


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


def _eye_windows(holes: Holes, vertices, resolution: int):
    """The top left pixel (y, x) of a window around each eye."""
    side = int(_WINDOW * resolution)
    for eye in (1, 2):
        middle = vertices[np.unique(holes.triangles[holes.region == eye]), :2].mean(axis=0)
        yield jnp.clip(middle[::-1].astype(jnp.int32) - side // 2, 0, resolution - side)


def _eye(source_face: SourceFace, displacement, rigid, part, at, *, region: int):
    """`displacement` [2, R, R] and `part` [R, R] with what concerns one eye set right, in its window from `at` on."""
    side = int(_WINDOW * part.shape[-1])
    moved, still = (jax.lax.dynamic_slice(a, (0, *at), (2, side, side)) for a in (displacement, rigid))
    own = jax.lax.dynamic_slice(part, tuple(at), (side, side))
    eye = own == region
    x, y = centres(side)
    x, y = x + at[1], y + at[0]
    found = moved  # as little of it beside the rigid motion as it takes to read the eyeball inside the photo's lids
    for share in _SHARES:
        mixed = still + share * (moved - still)
        found = jnp.where(nearest(source_face.eyes, x + mixed[0], y + mixed[1])[None], mixed, found)
    found = jnp.where(eye[None], found, moved)
    was_wide = nearest(source_face.wide_eyes, x + found[0], y + found[1])
    closed = eye & ~_opened(eye) & was_wide  # what is left between lids that met
    found, eye = _filled_from_above(found, closed), eye & ~closed
    lid = widest(eye, _LID) & ~narrowest(eye, _LID)
    found = jnp.where(lid[None], jnp.moveaxis(window_mean(jnp.moveaxis(found, 0, -1), _LID), -1, 0), found)
    return (jax.lax.dynamic_update_slice(displacement, found, (0, *at)),
            jax.lax.dynamic_update_slice(part, jnp.where(closed, 0, own), tuple(at)))


def _untorn(field, *, spared):
    """`field` [2, R, R] with its steps made slopes, but for those where `spared` [R, R] bool is near."""
    width = odd(_SLOPE * field.shape[-1])
    down, across = (functools.reduce(jnp.maximum, jnp.abs(jnp.diff(field, axis=axis))) > _TEAR for axis in (-2, -1))
    down, across = once((down, across))
    torn = jnp.pad(down, ((0, 1), (0, 0))) | jnp.pad(across, ((0, 0), (0, 1)))
    torn = (torn & ~widest(spared, width)).astype(field.dtype)
    share = jnp.clip(window_mean(torn, width) * width, 0.0, 1.0)
    sloped = jnp.stack([window_mean(plane, width) for plane in field])
    return field + share[None] * (sloped - field)


def _filled_from_above(displacement, missing):
    """`displacement` [2, R, R] where a mask is set: the place in the photo is that of the pixel above the mask."""
    row = jnp.arange(missing.shape[0])[:, None]
    found = displacement
    for up in range(_LID, 0, -1):  # the nearest one is found last
        here = missing & ~jnp.roll(missing, up, axis=0) & (row >= up)
        above = jnp.roll(displacement, up, axis=1) - jnp.asarray([0.0, up])[:, None, None]
        found = jnp.where(here[None], above, found)
    return found


def _opened(mask):
    """The parts of a mask that are at least `_LID` px wide and high."""
    return widest(narrowest(mask, _LID), _LID)


def _share(value, between):
    """How far a value is on its way between two others, 0..1."""
    return jnp.clip((value - between[0]) / (between[1] - between[0]), 0.0, 1.0)


def _gap(landmarks):
    """How far the lips are apart, in widths of the mouth."""
    upper, lower = landmarks[jnp.asarray(_UPPER_LIP)], landmarks[jnp.asarray(_LOWER_LIP)]
    left, right = landmarks[jnp.asarray(_CORNERS)]
    return jnp.linalg.norm((lower - upper).mean(axis=0)) / jnp.linalg.norm(right - left)
