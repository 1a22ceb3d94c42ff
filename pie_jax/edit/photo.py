"""The photo side of an edit: the whole photo with its edit in it, and what each pixel came from."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from PIL import Image

from pie_jax.errors import InputError
from pie_jax.io import load_with_profile, read_json, save_picture, to_profile
from pie_jax.photo.composite import edited_photo
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import Layers, sources

# Colours of `--explain`: the photo moved or relit, stretched or filled in because the photo does not show it.
_PHOTO, _FILLED, _SAME = (0.0, 0.62, 0.45), (0.84, 0.37, 0.0), 0.55


def photo_file(embedding: str) -> pathlib.Path | None:
    """The photo beside an embedding (its folder or file), if it is there."""
    given = pathlib.Path(embedding)
    folder = given if given.is_dir() else given.parent
    photo = read_json(folder / "report.json").get("photo")
    name = photo.get("file") if isinstance(photo, dict) else None
    if not isinstance(name, str) or pathlib.PurePath(name).name != name:
        return None
    return folder / name if (folder / name).is_file() else None


def full_name(path: pathlib.Path) -> pathlib.Path:
    """edit.png -> edit_full.png."""
    return path.with_name(f"{path.stem}_full{path.suffix}")


def write_full(path: pathlib.Path, photo: pathlib.Path, fitted: FittedPhoto, layers: Layers, *, facts: dict) -> None:
    """The whole photo with its edit, as large as it is and in its own colour profile.

    InputError: it cannot be read. ResourceError: no space.
    """
    image, own, profile = load_with_profile(photo)
    edited, changed = edited_photo(np.array(image), fitted, layers)
    if own is not None and profile is not None:
        try:
            kept = np.array(own)
            kept[changed] = np.asarray(to_profile(Image.fromarray(edited[changed][None]), profile))[0]
            edited = kept
        except InputError as error:
            profile = None
            print(f"note: {error}: the whole photo is written in sRGB", file=sys.stderr)
    save_picture(path, edited, metadata=facts, profile=profile)


def shares(layers: Layers) -> dict[str, float]:
    """How much of what the edit changes the photo shows, and how much is filled in; 0 and 0 where nothing changes."""
    photo, filled = (np.asarray(part) for part in sources(layers))
    changed = max(float(photo.sum() + filled.sum()), 1e-9)
    return {"photo": round(float(photo.sum()) / changed, 4), "fill": round(float(filled.sum()) / changed, 4),
            "generator": 0.0}


def explained(fitted: FittedPhoto, layers: Layers) -> np.ndarray:
    """[R, R, 3] the portrait: grey where it stays, green where the photo is moved or relit, orange where filled."""
    photo, filled = (np.asarray(part)[..., None] for part in sources(layers))
    side = photo.shape[0]
    grey = np.asarray(fitted.portrait, np.float32).mean(axis=-1) / 255.0
    step = max(1, grey.shape[0] // side)
    small = grey[::step, ::step][:side, :side, None] if grey.shape[0] >= side else np.kron(
        grey, np.ones((side // grey.shape[0],) * 2))[..., None]
    return small * (_SAME * (1 - photo - filled) + photo * np.array(_PHOTO) + filled * np.array(_FILLED)) * 1.6
