"""Photographs of faces as framed portraits: found, measured, sorted out, told apart from near-duplicates, and split.

A folder of them holds `pictures/HASH.json` with all that is known of a picture and `pictures/HASH.png`, its portrait;
HASH is that of the file's bytes. A picture that is there is not read again, so that an interrupted call goes on.
`photographs.json` then says which are kept and which of those are held out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pie_jax.cli.progress import Progress
from pie_jax.errors import InputError, PieError
from pie_jax.io import encode_png, is_picture, load_photo, read_json, replace_file, shown, write_json
from pie_jax.pack import Pack
from pie_jax.photo.align import framing, whole
from pie_jax.photo.detect import find_faces
from pie_jax.photo.squares import SquareReader
from pie_jax.training.data.fitness import WORKING, Limits, measure, reason

SPLIT = "photographs.json"
ALIKE = 0.95  # least correlation of near-duplicates; different people before one backdrop reach 0.90
_LOOK = 32  # px
FEWEST = 16  # pictures that are trained on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photographs:
    """N portraits that are kept."""

    images: np.ndarray  # [N, R, R, 3] uint8
    held_out: np.ndarray  # [N] bool
    names: tuple[str, ...]  # of the files they come from
    sha256: str  # of the list of pictures and its split

    @property
    def training(self) -> np.ndarray:
        """[N', R, R, 3] uint8: those that are trained on."""
        return self.images[~self.held_out]

    @classmethod
    def open(cls, folder: pathlib.Path, *, resolution: int) -> Photographs:
        """What `python -m pie_jax.training.photographs` left in `folder`, at `resolution` px.

        InputError: there is nothing of that kind, or the portraits are smaller.
        """
        split = _split(folder)
        if split["resolution"] < resolution:
            raise InputError(f"{shown(folder)}: its portraits have {split['resolution']} px, {resolution} are needed; "
                             f"make them again with --resolution {resolution}")
        kept = split["kept"]
        images = np.stack([_read(_portrait_path(folder, each["hash"], split["format"]), resolution) for each in kept])
        told = "".join(f"{each['hash']}{each['held_out']:d}" for each in kept)
        return cls(images=images, held_out=np.array([each["held_out"] for each in kept]),
                   names=tuple(each["name"] for each in kept), sha256=hashlib.sha256(told.encode()).hexdigest())


def training_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of the portraits that are trained on, of a folder that `prepare` made."""
    return _kept_paths(folder, held_out=False)


def held_out_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of those that are not. InputError: the folder is no such one."""
    return _kept_paths(folder, held_out=True)


def _kept_paths(folder: pathlib.Path, *, held_out: bool) -> list[pathlib.Path]:
    split = _split(folder)
    return [_portrait_path(folder, each["hash"], split["format"]) for each in split["kept"]
            if each["held_out"] == held_out]


def _split(folder: pathlib.Path) -> dict:
    split = read_json(folder / SPLIT)
    if not split.get("kept"):
        raise InputError(f"{shown(folder)}: holds no framed photographs; make them with "
                         f"python -m pie_jax.training.photographs --photos FOLDER -o {folder}")
    return split


def prepare(pack: Pack, folders: Sequence[pathlib.Path], out: pathlib.Path, *, resolution: int, held_out: int,
            limits: Limits | None = None, jpeg: int = 0, progress: Progress | None = None) -> list[dict]:
    """Frame and sort all pictures of `folders`; the split is written to `out`. Returns a row for each picture.

    A row has name, folder, hash, held_out, reason ("" where it is kept), and the measures of `fitness.measure`.

    Args:
      pack: has the parts face_detector and face_mesh.
      resolution: R of the portraits, px.
      held_out: so many of the first folder's kept pictures are never trained on: those whose hashes come first.
      limits: what is unfit; the defaults when None.
      jpeg: > 0 keeps portraits as JPEGs of this quality, which need a fifth of the space.

    Raises:
      InputError: a folder holds no pictures. PieError: too few are fit.
    """
    limits, progress = limits or Limits(), progress or Progress(quiet=True)
    kind = "jpg" if jpeg else "png"
    described = {"resolution": resolution, "format": kind, "jpeg": jpeg}
    before = read_json(out / "settings.json")
    if before and before != described:
        raise PieError(f"{shown(out)}: holds portraits of {before['resolution']} px ({before['format']}), now "
                       f"{resolution} px ({kind}) are asked for; give another -o, or remove it")
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    write_json(out / "settings.json", described)
    paths = [(folder, path) for folder in folders for path in _pictures(folder)]
    progress.start("photographs", unit="photo")
    rows = []
    for i, (folder, path) in enumerate(paths):
        rows.append(_one(pack, path, out, resolution, kind, jpeg) | {"name": path.name, "folder": folder.name})
        progress.update(i + 1, len(paths))
    progress.clear()
    for row in rows:
        row["reason"] = row.pop("unread", "") or reason(row, resolution=resolution, limits=limits)
    _name_duplicates(rows, out, kind)
    kept = [row for row in rows if not row["reason"]]
    if len(kept) < FEWEST + held_out:
        raise PieError(f"--photos: only {len(kept)} of {len(rows)} pictures are fit, {FEWEST + held_out} are the "
                       f"least; give more portraits")
    first = sorted(row["hash"] for row in kept if row["folder"] == folders[0].name)[:held_out]
    for row in rows:
        row["held_out"] = not row["reason"] and row["hash"] in first
    write_json(out / SPLIT, described | {"limits": dataclasses.asdict(limits), "alike": ALIKE, "kept": [
        {"name": row["name"], "folder": row["folder"], "hash": row["hash"], "held_out": row["held_out"]}
        for row in kept]})
    return rows


def _pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    found = sorted(path for path in folder.iterdir() if is_picture(path)) if folder.is_dir() else []
    if not found:
        raise InputError(f"{shown(folder)}: holds no JPEG, PNG or WebP images; give a folder of portraits with "
                         "--photos")
    return found


def _portrait_path(out: pathlib.Path, name: str, kind: str) -> pathlib.Path:
    return out / "pictures" / f"{name}.{kind}"


def _one(pack: Pack, path: pathlib.Path, out: pathlib.Path, resolution: int, kind: str, jpeg: int) -> dict:
    """What is known of one picture: read from `out`, or found and left there, the portrait first."""
    try:
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:20]
    except OSError as error:
        return {"hash": "", "unread": f"unreadable: {error.strerror}"}
    record = out / "pictures" / f"{name}.json"
    known = read_json(record)
    if known:
        return known
    try:
        photo = load_photo(path, notice=lambda text: None)
    except InputError as error:
        return {"hash": name, "unread": "unreadable: " + str(error).split(": ", 1)[-1]}
    faces, reader = find_faces(pack, photo), SquareReader(photo)
    square = framing(faces[0].landmarks) if faces else whole(photo.size)
    portrait = reader.read(square, 2 * resolution, mirror=True)
    portrait = portrait.reshape(resolution, 2, resolution, 2, 3).mean(axis=(1, 3))
    found: dict = {"hash": name}
    if faces:
        found |= measure(faces[0], square, photo.size, reader.read(square, WORKING, mirror=True))
        found["faces"] = len(faces)
    else:
        found["unread"] = "no face"
    replace_file(_portrait_path(out, name, kind), _encoded(portrait, jpeg))
    write_json(record, found)
    return found


def _encoded(portrait: np.ndarray, jpeg: int) -> bytes:
    if not jpeg:
        return encode_png(portrait)
    buffer = io.BytesIO()
    Image.fromarray(np.round(np.clip(portrait, 0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=jpeg)
    return buffer.getvalue()


def _read(path: pathlib.Path, resolution: int) -> np.ndarray:
    """[resolution, resolution, 3] uint8 of a portrait, by the mean over the pixels that each covers."""
    with Image.open(path) as image:
        if image.width == resolution:
            return np.asarray(image.convert("RGB"))
        return np.asarray(image.convert("RGB").resize((resolution, resolution), Image.Resampling.BOX))


def _name_duplicates(rows: list[dict], out: pathlib.Path, kind: str) -> None:
    """Give the reason to all but the first of pictures that look alike, one of them perhaps mirrored.

    Compared by the correlation of their small grey portraits. (Perceptual hashes of 63 bits do not tell framed
    portraits of different men before one backdrop apart.)
    """
    able = [row for row in rows if not row["reason"]]
    grey = np.stack([_read(_portrait_path(out, row["hash"], kind), _LOOK) for row in able]).mean(axis=-1)
    looks, mirrored = _normal(grey), _normal(grey[:, :, ::-1])
    for i, row in enumerate(able[1:], 1):
        alike = np.maximum(looks[:i] @ looks[i], mirrored[:i] @ looks[i])
        alike[[bool(other["reason"]) for other in able[:i]]] = 0.0
        if alike.max() >= ALIKE:
            row["reason"] = f"like {able[int(alike.argmax())]['name']}"


def _normal(images: np.ndarray) -> np.ndarray:
    """[N, F] of length 1 and mean 0, of images [N, H, W]."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
