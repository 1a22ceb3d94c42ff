"""Films: frames as GIF, WebP, animated PNG or H.264 (by PyAV, extra `video`), or as numbered PNG files in a folder."""

from __future__ import annotations

import fractions
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from pie_jax.errors import PackError, UsageError
from pie_jax.io.atomic import replace_file

PILLOW_FILMS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}
FILMS = (*PILLOW_FILMS, ".mp4")
_WEBP: dict[str, Any] = {"quality": 88, "method": 2, "minimize_size": False}
_CRF = "17"  # of H.264: visually lossless


def write_film(path: pathlib.Path, frames: Iterable[np.ndarray], *, rate: float, loop: bool = True) -> None:
    """Write frames, uint8 [H, W, 3], into a file by its ending; nothing is left of one that fails.

    Raises:
      UsageError: no such ending, or no frames. PackError: MP4 without PyAV. ResourceError: it cannot be written.
    """
    replace_file(path, film_bytes(frames, suffix=path.suffix.lower(), rate=rate, loop=loop))


def film_bytes(frames: Iterable[np.ndarray], *, suffix: str, rate: float, loop: bool = True) -> bytes:
    """The bytes of a film; arguments and errors as in `write_film`. loop: begin again at the end, where a kind can."""
    if suffix not in FILMS:
        raise UsageError(f"film {suffix}: expected one of {', '.join(FILMS)}")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UsageError("film: there are no frames")
    every = itertools.chain([first], frames)
    buffer = io.BytesIO()
    if suffix == ".mp4":
        _write_h264(buffer, every, rate)
    else:
        _write_pillow(buffer, every, PILLOW_FILMS[suffix], rate, loop)
    return buffer.getvalue()


def _write_pillow(buffer: io.BytesIO, frames: Iterator[np.ndarray], kind: str, rate: float, loop: bool) -> None:
    pictures = (Image.fromarray(frame) for frame in frames)
    if kind == "GIF":  # its own colours for each frame, so that skin shows no bands
        pictures = (picture.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
                    for picture in pictures)
    options: dict[str, Any] = {"save_all": True, "duration": max(1, round(1000.0 / rate)),
                               **(_WEBP if kind == "WEBP" else {})}
    if loop or kind != "GIF":
        options["loop"] = 0 if loop else 1
    first = next(pictures)
    rest = list(pictures) if kind == "PNG" else pictures  # Pillow goes through those of a PNG twice
    first.save(buffer, kind, append_images=rest, **options)


def _write_h264(buffer: io.BytesIO, frames: Iterator[np.ndarray], rate: float) -> None:
    try:
        import av
    except ImportError:
        raise PackError("films as .mp4 need PyAV; install it with: pip install 'pie_jax[video]', or choose .webp or "
                        ".gif") from None
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = None
        for frame in frames:
            height, width = (side - side % 2 for side in frame.shape[:2])  # H.264's colours are halved
            if stream is None:
                stream = container.add_stream("libx264", rate=fractions.Fraction(rate).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": _CRF, "preset": "fast"}
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
