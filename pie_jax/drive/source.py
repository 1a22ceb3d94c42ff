"""The pictures that a photo is driven by, one after the other: of a video, of a folder, or one photo."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

from PIL import Image

from pie_jax.errors import InputError, PackError
from pie_jax.io import is_picture, load_photo, shown

_FOLDER_RATE = 24.0


@dataclasses.dataclass(frozen=True)
class Source:
    """Where pictures come from. `video` is None where they are files."""

    path: pathlib.Path
    rate: float
    video: pathlib.Path | None
    files: tuple[pathlib.Path, ...] = ()
    count: int = 0  # of pictures; 0: a video does not say

    @property
    def still(self) -> bool:
        """It is one photo."""
        return self.video is None and len(self.files) == 1

    def pictures(self, *, start: int = 0) -> Iterator[Image.Image]:
        """RGB pictures from number `start` on. InputError: one cannot be read."""
        if self.video is None:
            yield from (load_photo(path, notice=lambda text: None) for path in self.files[start:])
            return
        av = _av(self.video)
        with _opened(av, self.video) as container:
            try:
                for number, frame in enumerate(container.decode(video=0)):
                    if number >= start:
                        yield frame.to_image()
            except av.error.FFmpegError as error:
                raise InputError(f"{shown(self.video)}: damaged after some frames ({error.strerror}); cut it before "
                                 "them") from None


def open_source(path: pathlib.Path) -> Source:
    """What a name leads to. InputError: it leads nowhere, or to no pictures. PackError: a video without PyAV."""
    if path.is_dir():
        files = tuple(sorted(each for each in path.iterdir() if is_picture(each)))
        if not files:
            raise InputError(f"{shown(path)}: holds no picture; name a folder of frames, a video or a photo")
        return Source(path, _FOLDER_RATE, None, files, len(files))
    if not path.is_file():
        raise InputError(f"{shown(path)}: no such file; name a video, a folder of frames or a photo")
    if is_picture(path):
        return Source(path, _FOLDER_RATE, None, (path,), 1)
    av = _av(path)
    with _opened(av, path) as container:
        stream = container.streams.video[0] if container.streams.video else None
        rate = stream.average_rate or stream.guessed_rate if stream is not None else None
        if stream is None or not rate:
            raise InputError(f"{shown(path)}: holds no video; name another file")
        return Source(path, float(rate), path, count=int(stream.frames))


@contextlib.contextmanager
def _opened(av, path: pathlib.Path):
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown(path)}: is no video that FFmpeg reads ({cause}); convert it to MP4") from None
    with container:
        yield container


def _av(path: pathlib.Path):
    try:
        import av
        import av.error
    except ImportError:
        raise PackError(f"{shown(path)}: videos need PyAV; install it with: pip install 'pie_jax[video]', or name a "
                        "folder of frames") from None
    return av
