"""The photo side of an edit: the whole photo with its edit in it, and what each pixel came from."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from PIL import Image

from pie_jax.errors import InputError
from pie_jax.io import read_json, save_picture, to_profile
from pie_jax.io.images import WithProfile
from pie_jax.photo.composite import edited_photo
from pie_jax.photo.fitted import FittedPhoto
from pie_jax.photo.layers import Layers, sources

# Of `--explain`: the photo moved or relit; the generator; stretched or painted, for the photo does not show it.
_COLOURS = {"photo": (0.0, 0.62, 0.45), "generator": (0.34, 0.71, 0.91), "fill": (0.84, 0.37, 0.0)}
_SAME = 0.55


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


def write_full(path: pathlib.Path, photo: WithProfile, fitted: FittedPhoto, layers: Layers, *, facts: dict) -> None:
    """The whole photo with its edit, as large as it is and in its own colour profile. ResourceError: no space."""
    image, own, profile = photo
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
    """How much of what the edit changes photo, generator and fill show; 0 each where nothing changes."""
    parts = _parts(layers)
    changed = max(sum(float(part.sum()) for part in parts.values()), 1e-9)
    return {name: round(float(part.sum()) / changed, 4) for name, part in parts.items()}


def explained(fitted: FittedPhoto, layers: Layers) -> np.ndarray:
    """[R, R, 3] the portrait in grey, coloured where it changes by what is shown there (`_COLOURS`)."""
    parts = {name: part[..., None] for name, part in _parts(layers).items()}
    side = layers.prepared.matte.shape[0]
    grey = np.asarray(fitted.portrait, np.float32).mean(axis=-1) / 255.0
    step = max(1, grey.shape[0] // side)
    small = grey[::step, ::step][:side, :side, None] if grey.shape[0] >= side else np.kron(
        grey, np.ones((side // grey.shape[0],) * 2))[..., None]
    same = 1.0 - sum(parts.values())
    return small * (_SAME * same + sum(part * np.array(_COLOURS[name]) for name, part in parts.items())) * 1.6


def _parts(layers: Layers) -> dict[str, np.ndarray]:
    return dict(zip(_COLOURS, map(np.asarray, sources(layers)), strict=True))
