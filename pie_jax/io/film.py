"""Films: frames as GIF, WebP, animated PNG or H.264 (by PyAV, extra `video`), or as numbered PNG files in a folder."""

from __future__ import annotations

import contextlib
import fractions
import io
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pie_jax.errors import PackError, ResourceError, UsageError
from pie_jax.io.atomic import replace_file
from pie_jax.io.text import shown

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
    with _pyav().open(buffer, "w", format="mp4") as container:
        stream: Any = None
        for frame in frames:
            stream = stream or _h264_stream(container, frame, rate)
            _encode(container, stream, frame)
        for packet in stream.encode():
            container.mux(packet)


class H264:
    """An MP4 file that grows frame by frame and is there only once it is whole."""

    def __init__(self, path: pathlib.Path, *, rate: float):
        self.path, self.rate = path, rate
        self._unfinished = path.with_name(f".{path.name}.part")
        self._stream: Any = None

    def __enter__(self) -> H264:
        try:
            self._container = _pyav().open(str(self._unfinished), "w", format="mp4")
        except OSError as error:
            raise ResourceError(f"{shown(self.path)}: cannot be written ({error.strerror}); choose another "
                                "place") from None
        return self

    def add(self, frame: np.ndarray) -> None:
        """One more frame, uint8 [H, W, 3]."""
        self._stream = self._stream or _h264_stream(self._container, frame, self.rate)
        _encode(self._container, self._stream, frame)

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            for packet in self._stream.encode() if self._stream is not None else ():
                self._container.mux(packet)
        self._container.close()
        if kind is None:
            os.replace(self._unfinished, self.path)
        else:
            self._unfinished.unlink(missing_ok=True)


def join_h264(parts: Sequence[pathlib.Path], path: pathlib.Path, *, sound: pathlib.Path | None = None) -> None:
    """Write MP4 files of one kind one after the other, without encoding them again, with the sound of another file.

    Raises PackError: no PyAV. ResourceError: it cannot be written.
    """
    av = _pyav()
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with contextlib.ExitStack() as open_files:
            target = open_files.enter_context(av.open(str(unfinished), "w", format="mp4"))
            video: Any = None
            heard = open_files.enter_context(av.open(str(sound))) if sound is not None else None
            spoken: Any = heard.streams.audio[0] if heard is not None and heard.streams.audio else None
            said: Any = None
            shift = 0
            for part in parts:
                with av.open(str(part)) as piece:
                    stream = piece.streams.video[0]
                    if video is None:
                        video = target.add_stream_from_template(stream)
                        said = target.add_stream_from_template(spoken) if spoken is not None else None
                    end = shift
                    for packet in piece.demux(stream):
                        if packet.dts is None:
                            continue
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        end = max(end, packet.pts + (packet.duration or 0))
                        packet.stream = video
                        target.mux(packet)
                    shift = end
            if video is None:
                raise UsageError("film: there are no frames")
            length = float(shift * video.time_base)
            if heard is not None and spoken is not None:
                unit = float(spoken.time_base)
                for packet in heard.demux(spoken):
                    if packet.dts is not None and packet.dts * unit <= length:
                        packet.stream = said
                        target.mux(packet)
        os.replace(unfinished, path)
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be written ({error.strerror or error}); choose another "
                            "place") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise PackError("films as .mp4 need PyAV; install it with: pip install 'pie_jax[video]', or choose .webp or "
                        ".gif") from None
    return av


def _h264_stream(container: Any, frame: np.ndarray, rate: float) -> Any:
    stream = container.add_stream("libx264", rate=fractions.Fraction(rate).limit_denominator(1001))
    stream.height, stream.width = (side - side % 2 for side in frame.shape[:2])  # H.264's colours are halved
    stream.pix_fmt, stream.options = "yuv420p", {"crf": _CRF, "preset": "fast"}
    return stream


def _encode(container: Any, stream: Any, frame: np.ndarray) -> None:
    picture = _pyav().VideoFrame.from_ndarray(np.ascontiguousarray(frame[:stream.height, :stream.width]),
                                              format="rgb24")
    for packet in stream.encode(picture):
        container.mux(packet)
