"""Photographs of which nothing but the face's points is known: found, fitted, and still the same person when edited."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks.photo.measure import found_landmarks, psnr, to_image
from pie_jax.arrays import Array, Weights
from pie_jax.errors import NoFaceError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.io import is_picture, load_photo
from pie_jax.pack import Pack, PackConfigs
from pie_jax.pack.inference import regress
from pie_jax.photo.composite import edited_photo, edited_portrait
from pie_jax.photo.detect import find_faces
from pie_jax.photo.fit import fit_photos
from pie_jax.photo.fitted import FittedPhoto, frame_photo, open_photo
from pie_jax.photo.layers import Layers, moved_matte
from pie_jax.portrait import PhotoEditor
from pie_jax.portrait.face_points import fit_face
from pie_jax.portrait.request import AXES, expression_names
from pie_jax.training.losses.face_losses import portrait_to_crop, projected_landmarks

REQUESTS = {"yaw15": {"yaw": 15.0}, "smile": {"expression": {"smile": 1.5}},
            "jaw_open": {"expression": {"jaw_open": 1.5}}, "light": {"light": (60.0, 20.0, 0.65)}}
_EYES = (33, 263)  # outer corners, of the 478 points
_TIMED = 11


def pictures(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """`count` pictures of a folder, evenly spread over their names."""
    found = sorted(path for path in folder.iterdir() if is_picture(path))
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).astype(int))]


def detect(pack: Pack, folder: pathlib.Path, count: int) -> Iterator[dict]:
    """A row for each picture: whether its face is found, and how far its 478 points are from the known ones."""
    known = np.load(folder / "points.npz", allow_pickle=False)
    for path in pictures(folder, count):
        if path.stem not in known.files or not np.isfinite(known[path.stem]).all():
            continue
        photo = load_photo(path, notice=lambda text: None)
        truth = known[path.stem][:, :2] * photo.size
        eyes = np.linalg.norm(truth[_EYES[1]] - truth[_EYES[0]])
        apart = [float(np.linalg.norm(face.points[:, :2] - truth, axis=-1).mean() / eyes)
                 for face in find_faces(pack, photo)]
        found = [a for a in apart if a < 0.5]
        yield {"kind": "detect", "folder": folder.name, "picture": path.stem, "found": bool(found),
               "points_of_eyes": min(found) if found else None}


def guesses(pack: Pack, folder: pathlib.Path, count: int) -> Iterator[dict]:
    """A row for each picture whose face is found: how far the points of the regressor's first guess are from its own.

    Mean distance of the 66 points that the face mesh finds, px of a 224 px face crop, before any fit; and by whose
    points the photo is then fitted.
    """
    for path in pictures(folder, count):
        image = load_photo(path, notice=lambda text: None)
        try:
            square, landmarks = frame_photo(pack, image)
        except NoFaceError:
            continue
        photo, camera = fit_face(pack, image, square, landmarks), pack.configs.camera
        vector = _read(pack.weights["regressor"], photo.portrait[None], pack.configs)
        points = projected_landmarks(pack.morphable, FaceParams.from_vector(vector), camera)[0]
        truth = portrait_to_crop(square.from_photo(landmarks), camera)
        yield {"kind": "guess", "folder": folder.name, "picture": path.stem, "landmarks_by": photo.landmarks_by,
               "guess_px224": 224.0 * float(np.linalg.norm(np.asarray(points) - truth, axis=-1).mean())}


@functools.partial(jax.jit, static_argnums=2)
def _read(weights: Weights, portraits: Array, configs: PackConfigs) -> jax.Array:
    return regress(configs, {"regressor": weights}, portraits.astype(jnp.float32) / 255.0)


def edits(pack: Pack, path: pathlib.Path, judge: Callable[[np.ndarray], np.ndarray]) -> dict:
    """How an edited portrait differs from its photo: identity of each request, there and back, what lies outside."""
    photo = open_photo(pack, path)
    editor = PhotoEditor(pack, photo)
    before = photo.portrait / 255.0
    own = judge(before)
    row: dict = {"kind": "edits", "picture": path.stem, "fit_px224": photo.residual_px}
    for name, request in REQUESTS.items():
        row[f"identity_{name}"] = float(judge(editor.edit(**request) / 255.0) @ own)
    target = turned(photo.params, 15.0)
    layers = editor.layers(target)
    moved = edited_portrait(layers) / 255.0
    row["there_and_back_db"] = there_and_back(pack, photo, target, layers, moved)
    full = np.asarray(load_photo(path, notice=lambda text: None))
    edited, changed = edited_photo(full, photo, layers)
    row["outside_changed"] = int(np.any(edited != full, axis=-1)[~changed].sum())
    return row


def turned(params: FaceParams, degrees: float) -> FaceParams:
    """`params` with `degrees` more of yaw."""
    rotation = np.array(params.rotation, np.float32)
    rotation[AXES.index("yaw")] += np.radians(degrees)
    return dataclasses.replace(params, rotation=rotation)


def there_and_back(pack: Pack, photo: FittedPhoto, target: FaceParams, layers: Layers, moved: np.ndarray) -> float:
    """PSNR of the photo's portrait and the one that is edited to `target`, and then back from there."""
    points = found_landmarks(pack, moved)
    again = dataclasses.replace(
        photo, portrait=np.asarray(to_image(moved)), params=target, matte=moved_matte(layers),
        landmarks=photo.landmarks if points is None else points.astype(np.float32))
    back = edited_portrait(PhotoEditor(pack, again).layers(photo.params))
    return psnr(back / 255.0, photo.portrait / 255.0)


def seconds_of_fit(pack: Pack, photos: list[FittedPhoto]) -> tuple[float, float]:
    """Seconds for one photo, and for each of a batch of 16, both compiled."""
    seconds = []
    for batch in (1, 16):
        some = [photos[i % len(photos)] for i in range(batch)]
        portraits = np.stack([np.asarray(Image.fromarray(p.portrait).resize((512, 512)), np.float32) for p in some])
        portraits, points = portraits / 255.0, np.stack([p.landmarks for p in some])
        fit_photos(pack, portraits, points)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            fit_photos(pack, portraits, points)
            times.append(time.perf_counter() - began)
        seconds.append(float(np.median(times)) / batch)
    return seconds[0], seconds[1]


def milliseconds_of_edit(pack: Pack, photo: FittedPhoto, resolution: int) -> float:
    """Median time of one edit of an opened photo with all values new, at this size of the portrait, compiled."""
    sized = dataclasses.replace(photo, portrait=np.asarray(Image.fromarray(photo.portrait).resize((resolution,) * 2)))
    editor = PhotoEditor(pack, sized)
    smile = expression_names(pack).index("smile")
    times = []
    for i in range(_TIMED + 1):
        began = time.perf_counter()
        editor.edit(yaw=5.0 + i, expression={expression_names(pack)[smile]: 0.1 * i})
        times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times[1:]))


def seconds_of_use(photo: np.ndarray, pack_name: str) -> dict:
    """Embed and edit a photo [H, W, 3] uint8 as a user does, in two processes, with the caches as they are."""
    import subprocess
    import sys

    with tempfile.TemporaryDirectory() as folder:
        path, out = pathlib.Path(folder) / "me.jpg", pathlib.Path(folder) / "out"
        Image.fromarray(photo).save(path, quality=92)
        commands = {"embed_seconds": ["pie_jax.embed", str(path), "-o", str(out), "--pack", pack_name],
                    "edit_seconds": ["pie_jax.edit", str(out / "me"), "--yaw", "12", "-o", f"{folder}/turned.png"]}
        row: dict = {"kind": "use", "megapixels": photo.shape[0] * photo.shape[1] / 1e6}
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
            row[name] = time.perf_counter() - began
        with Image.open(f"{folder}/turned_full.png") as full:
            row["full_megapixels"] = full.size[0] * full.size[1] / 1e6
    return row


