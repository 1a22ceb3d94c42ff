"""Pictures of edits for a page: quick and small while a slider moves, as large as the photo when it is let go."""

from __future__ import annotations

import io
import json
import pathlib
import struct
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from PIL import Image

from pie_jax import __version__
from pie_jax.config import CONTROLS
from pie_jax.edit.photo import write_full
from pie_jax.errors import UsageError
from pie_jax.face3d.morphable import FaceParams
from pie_jax.io import load_with_profile, save_picture, to_uint8
from pie_jax.io.film import film_bytes
from pie_jax.photo.composite import edited_portrait
from pie_jax.photo.fitted import LARGEST
from pie_jax.portrait import edit_portrait
from pie_jax.portrait.calibration import FEEDBACK_ROUNDS
from pie_jax.view.edits import applied, values_of
from pie_jax.view.gallery import FAST, Gallery, Portrait

_QUALITY = {"fast": 82, "full": 93}
_FILM = (512, 24, 24.0)  # px, frames one way, frames a second


def rendered(gallery: Gallery, portrait: Portrait, params: FaceParams, *, size: int) -> np.ndarray:
    """The portrait with other FaceParams [n], uint8, about `size` px; without corrections at the size `FAST`."""
    if portrait.fitted is not None:
        return edited_portrait(gallery.editor(portrait, size=size).layers(params))
    assert portrait.embedding is not None
    corrections = 0 if size == FAST else FEEDBACK_ROUNDS
    image = edit_portrait(gallery.pack, portrait.embedding, like=(params, CONTROLS), detail=0.0,
                          corrections=corrections)
    return to_uint8(image)


def answer(gallery: Gallery, message: dict[str, Any]) -> bytes:
    """The picture that a message asks for, behind what the page needs to know of it (see `framed`)."""
    began = time.perf_counter()
    portrait = gallery.of(message.get("portrait"))
    params = applied(gallery, portrait, message.get("edits"))
    quality = "full" if message.get("quality") == "full" else "fast"
    image = rendered(gallery, portrait, params, size=LARGEST if quality == "full" else FAST)
    picture = jpeg(image, quality=_QUALITY[quality])
    return framed({"type": "picture", "seq": message.get("seq"), "portrait": portrait.key, "quality": quality,
                   "size": image.shape[0], "values": values_of(gallery, params),
                   "ms": round(1e3 * (time.perf_counter() - began), 1)}, data=picture)


def framed(header: dict[str, Any], *, data: bytes = b"") -> bytes:
    """Length of the header (4 bytes), the header as JSON, the data."""
    head = json.dumps(header, allow_nan=False).encode()
    return struct.pack("<I", len(head)) + head + data


def jpeg(image: np.ndarray | Image.Image, *, quality: int = 90) -> bytes:
    """JPEG bytes of a picture."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def whole_photo(gallery: Gallery, portrait: Portrait, edits: object, *, suffix: str) -> bytes:
    """The whole photo with its edits, as large as it is (".png" or ".jpg"); of a made portrait, the portrait."""
    params = applied(gallery, portrait, edits)
    facts = {"version": __version__, "kind": "edit", "edits": edits}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"edit{suffix}"
        if portrait.fitted is not None and portrait.photo_path is not None:
            layers = gallery.editor(portrait, size=LARGEST).layers(params)
            write_full(path, load_with_profile(portrait.photo_path), portrait.fitted, layers, facts=facts)
        else:
            save_picture(path, rendered(gallery, portrait, params, size=LARGEST), metadata=facts)
        return path.read_bytes()


def animation(gallery: Gallery, portrait: Portrait, edits: object, *, suffix: str) -> bytes:
    """From the portrait as it is to its edits and back, as a film that loops."""
    size, count, rate = _FILM
    start, end = gallery.start(portrait), applied(gallery, portrait, edits)

    def frames() -> Iterator[np.ndarray]:
        for share in [*np.linspace(0, 1, count), *np.linspace(1, 0, count)[1:-1]]:
            eased = share * share * (3 - 2 * share)
            params = jax.tree.map(lambda a, b, s=eased: np.asarray(a + s * (b - a), np.float32), start, end)
            yield rendered(gallery, portrait, params, size=size)

    if suffix not in (".gif", ".webp", ".mp4"):
        raise UsageError(f"animation: expected gif, webp or mp4, got {suffix!r:.20}")
    return film_bytes(frames(), suffix=suffix, rate=rate)
