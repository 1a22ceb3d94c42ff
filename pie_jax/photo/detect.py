"""Which faces a photo shows, and 478 points of each. Any size of photo and face, also turned by quarters of a circle.

A detector reads the whole photo and, while it finds none, smaller and smaller windows of it; the mesh network then says
whether there is a face, and where its points are. Pixels are counted from the top left corner, in pixels of the photo.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from pie_jax.arrays import Array, Weights
from pie_jax.config import GraphConfig
from pie_jax.nn.face_mesh import landmarks_of, mesh_points
from pie_jax.nn.graph import Graph
from pie_jax.nn.layers import apply
from pie_jax.pack import Pack
from pie_jax.photo.squares import Square, SquareReader
from pie_jax.programs import kept

SCORE, PRESENCE = 0.5, 0.5  # below them a window holds no face
# A face is one that the detector finds again in the square of its mesh, upright and mirrored, with its eyes, nose and
# mouth where the mesh has them: textures deceive one of the networks, not both.
AGAIN, AGREEMENT = 0.68, 0.13  # least score, largest distance in sides of that square
SMALLEST_WINDOW = 240  # px
_SHRINKS = (3.0, 4.0)  # a window shows faces from an eighth of its side to a half: what the next level's are smaller by
_MAX_FACES = 16
_BATCH = 4  # pictures in one program: the whole photo in each quarter turn, two looks at each of two faces
_GRIDS = ((16, 2), (8, 6))  # cells a side, anchors a cell
_MESH_MARGIN = 1.5  # side of the square that the mesh reads, in sides of the face's box
_OVERLAP = 0.3  # of two boxes: one face
_NEAR = 0.35  # of their sides: two squares of one face
_LEFT_EYE, _RIGHT_EYE = 33, 263  # outer corners, in the image
_FEATURES = ((33, 133), (362, 263), (1,), (13, 14))  # both eyes, nose, mouth: what the detector names, by mesh points
_MIRRORED = [1, 0, 2, 3]
_SECOND_LOOK = 1.4  # sides of the mesh's square


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """One face of a photo."""

    points: np.ndarray  # [478, 3] px of the photo; z in the same unit, less is nearer
    score: float  # of the mesh: 0..1

    @property
    def landmarks(self) -> np.ndarray:
        """The project's 66 points [66, 2], px."""
        return landmarks_of(self.points)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of all points, px."""
        low, high = self.points[:, :2].min(axis=0), self.points[:, :2].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def size(self) -> float:
        """The longer side of the box, px."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


def find_faces(pack: Pack, photo: Image.Image) -> list[Face]:
    """The faces of an RGB photo, the largest first; [] where there is none. PackError: no detector or no mesh."""
    pack.require("face_detector", "face_mesh")
    reader = SquareReader(photo)
    faces: list[Face] = []
    for windows in _windows(reader.size):
        squares = _candidates(pack, reader, windows)
        faces = _apart(faces + _meshes(pack, reader, squares))
        if faces:
            break
    return sorted(faces, key=lambda face: -face.size)


def follow_face(pack: Pack, photos: Sequence[Image.Image], last: Face) -> list[Face | None]:
    """The face `last` in the next pictures of a film, near where it was; None where it is not seen there.

    Quicker than `find_faces`: the mesh alone is read, of several pictures at once.
    """
    found: list[Face | None] = []
    for start in range(0, len(photos), _BATCH):
        readers = [SquareReader(photo) for photo in photos[start:start + _BATCH]]
        points, scores = _read_meshes(pack, readers, [_square_of(last.points)] * len(readers))
        found += [Face(points=points[i], score=float(scores[i])) if scores[i] >= PRESENCE else None
                  for i in range(len(readers))]
        last = next((face for face in reversed(found) if face is not None), last)
    return found


def _windows(size: tuple[int, int]):
    """Lists of squares, level by level: the whole photo, then windows that half overlap.

    Faces that are turned by quarters of a circle are looked for in the whole photo only.
    """
    side = float(max(size))
    yield [Square(x=size[0] / 2, y=size[1] / 2, side=side, angle=quarter * np.pi / 2) for quarter in range(4)]
    for shrink in itertools.chain(_SHRINKS[:1], itertools.repeat(_SHRINKS[1])):
        side /= shrink
        if side < SMALLEST_WINDOW:
            return
        places = [_along(length, side) for length in size]
        yield [Square(x=x, y=y, side=side) for y in places[1] for x in places[0]]


def _along(length: float, side: float) -> np.ndarray:
    """Middles of windows that half overlap and cover a length."""
    if side >= length:
        return np.array([length / 2])
    return np.linspace(side / 2, length - side / 2, int(np.ceil((length - side) / (side / 2))) + 1)


def _candidates(pack: Pack, reader: SquareReader, windows: list[Square]) -> list[Square]:
    """Squares where the detector sees a face in a window, as the mesh reads them."""
    config, found = pack.configs.of("face_detector"), []
    for start in range(0, len(windows), _BATCH):
        part = windows[start:start + _BATCH]
        images = np.zeros((_BATCH, config.resolution, config.resolution, 3), np.float32)
        images[:len(part)] = [reader.read(window, config.resolution) for window in part]
        scores, boxes = (np.asarray(a) for a in _detect(pack.weights["face_detector"], images, config=config))
        for i, window in enumerate(part):
            for k in np.flatnonzero(scores[i] >= SCORE):
                box = window.to_photo(boxes[i, k])
                middle, across = box[:2].mean(axis=0), box[3] - box[2]  # from eye to eye
                side = window.side * float(np.max(boxes[i, k, 1] - boxes[i, k, 0]))
                square = Square(x=middle[0], y=middle[1], side=side, angle=float(np.arctan2(across[1], across[0])))
                found.append((float(scores[i, k]), square))
    taken: list[Square] = []
    for _, one in sorted(found, key=lambda f: -f[0]):
        if all(max(abs(one.x - o.x), abs(one.y - o.y)) > _NEAR * max(one.side, o.side) for o in taken):
            taken.append(one)
    return [square.grown(_MESH_MARGIN) for square in taken[:_MAX_FACES]]


@kept(static_argnames="config")
def _detect(weights: Weights, images: Array, *, config: GraphConfig) -> tuple[jax.Array, jax.Array]:
    """images [B, R, R, 3] in 0..1 -> scores [B, 896], and box corners, eyes, nose, mouth [B, 896, 6, 2] in 0..1."""
    raw, logits = apply(Graph(config), weights, images * (config.high - config.low) + config.low)
    places = raw.reshape(*raw.shape[:2], -1, 2) / config.resolution
    middle, size = places[:, :, 0] + anchors()[None], places[:, :, 1]
    features = places[:, :, 2:6] + anchors()[None, :, None]
    corners = jnp.stack([middle - size / 2, middle + size / 2], axis=2)
    return jax.nn.sigmoid(logits[..., 0]), jnp.concatenate([corners, features], axis=2)


def anchors() -> np.ndarray:
    """[896, 2] middles of the detector's anchors, 0..1."""
    rows = []
    for cells, each in _GRIDS:
        middle = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(middle, middle, indexing="ij")
        rows.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), each, axis=0))
    return np.concatenate(rows)


def _meshes(pack: Pack, reader: SquareReader, squares: list[Square]) -> list[Face]:
    """The faces in squares: read twice, the second time in the square that the points of the first give."""
    faces = []
    for start in range(0, len(squares), _BATCH):
        part = squares[start:start + _BATCH]
        points, scores = _read_meshes(pack, [reader] * len(part), part)
        faces += [Face(points=points[i], score=float(scores[i])) for i in range(len(part)) if scores[i] >= PRESENCE]
    return _confirmed(pack, reader, faces)


def _read_meshes(pack: Pack, readers: Sequence[SquareReader],
                 squares: Sequence[Square]) -> tuple[np.ndarray, np.ndarray]:
    """Points [_BATCH, 478, 3] px and scores of the meshes in at most so many squares, one a reader."""
    config = pack.configs.of("face_mesh")
    for _ in range(2):
        crops = np.zeros((_BATCH, config.resolution, config.resolution, 3), np.float32)
        crops[:len(squares)] = [reader.read(square, config.resolution) for reader, square in zip(readers, squares)]
        points, logits = (np.array(a) for a in _mesh(pack.weights["face_mesh"], crops, config=config))
        for i, square in enumerate(squares):
            points[i, :, :2] = square.to_photo(points[i, :, :2])
            points[i, :, 2] *= square.side
        squares = [_square_of(points[i]) for i in range(len(squares))]
    return points, 1.0 / (1.0 + np.exp(-logits.reshape(-1)))


def _confirmed(pack: Pack, reader: SquareReader, faces: list[Face]) -> list[Face]:
    """Those of `faces` that the detector finds too, where the mesh has them."""
    config, sure, half = pack.configs.of("face_detector"), [], _BATCH // 2
    for start in range(0, len(faces), half):
        part = faces[start:start + half]
        images = np.zeros((_BATCH, config.resolution, config.resolution, 3), np.float32)
        expected = np.zeros((_BATCH, len(_FEATURES), 2), np.float32)
        for i, face in enumerate(part):
            square = _square_of(face.points).grown(_SECOND_LOOK)
            images[i] = reader.read(square, config.resolution)
            expected[i] = square.from_photo(
                np.array([face.points[list(some), :2].mean(axis=0) for some in _FEATURES]))
            images[half + i], expected[half + i] = images[i][:, ::-1], expected[i][_MIRRORED] * (-1, 1) + (1, 0)
        scores, boxes = (np.asarray(a) for a in _detect(pack.weights["face_detector"], images, config=config))
        best = scores.argmax(axis=1)
        seen = boxes[np.arange(_BATCH), best, 2:]
        apart = np.abs(seen - expected).max(axis=(1, 2))
        for i, face in enumerate(part):
            both = [i, half + i]
            if scores[both, best[both]].mean() >= AGAIN and apart[both].max() <= AGREEMENT:
                sure.append(face)
    return sure


@kept(static_argnames="config")
def _mesh(weights: Weights, crops: Array, *, config: GraphConfig) -> tuple[jax.Array, jax.Array]:
    return mesh_points(config, weights, crops)


def _square_of(points: np.ndarray) -> Square:
    """The upright square that a mesh is read in."""
    across = points[_RIGHT_EYE, :2] - points[_LEFT_EYE, :2]
    upright = Square(x=0.0, y=0.0, side=1.0, angle=float(np.arctan2(across[1], across[0])))
    turned = upright.from_photo(points[:, :2])
    low, high = turned.min(axis=0), turned.max(axis=0)
    middle = upright.to_photo((low + high) / 2)
    return dataclasses.replace(upright, x=float(middle[0]), y=float(middle[1]),
                               side=_MESH_MARGIN * float(np.max(high - low)))


def _apart(faces: list[Face]) -> list[Face]:
    """Without those that another one covers."""
    taken: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_overlap(face.box, other.box) < _OVERLAP for other in taken):
            taken.append(face)
    return taken


def _overlap(a, b) -> float:
    """Shared area over the smaller one."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(wide, 0.0) * max(high, 0.0) / max(smaller, 1e-9)
