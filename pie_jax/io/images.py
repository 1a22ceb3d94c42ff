"""Reading photos that nobody vouches for, and writing pictures that are never half there. No JAX here.

Only JPEG, PNG and WebP are decoded; everything else is named and refused. A file is read whole, its size
is checked before any pixel is decoded, and a file that ends early is an error, never a grey half image.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pathlib
import re
import stat
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from pie_jax.errors import InputError
from pie_jax.io.atomic import replace_file
from pie_jax.io.png import large_png
from pie_jax.io.text import cause_of, shown

_EXTRA = {"AVIF": (".avif",), "HEIF": (".heic", ".heif")}  # read where Pillow, or the extra `heif`, reads them
FORMATS = ("JPEG", "PNG", "WEBP", *_EXTRA)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", *(suffix for suffixes in _EXTRA.values() for suffix in suffixes))
MAX_PIXELS = 64_000_000
MAX_SIDE = 16_384
MIN_SIDE = 32
MAX_BYTES = 256 * 2**20
ALPHA_BACKGROUND = (255, 255, 255)  # transparent pixels are composed on white

Notice = Callable[[str], None]

_PNG_END = b"IEND\xaeB`\x82"  # the last chunk's name and its checksum, always the same
_MOST_SCANS, _MOST_TEXTS = 200, 2000
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a scan; all others are data or restarts
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 4 * 2**20, 16 * 2**20  # metadata is left alone
_LARGE = 500_000  # px: pictures of so many are photographs, which runs alone make as small, and sooner
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")
_OTHER_KINDS = (
    (b"GIF8", "a GIF"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"8BPS", "a Photoshop file"),
    (b"%!PS", "an EPS or PostScript file"),
    (b"%PDF", "a PDF"),
    (b"BM", "a BMP"),
    (b"SIMPLE", "a FITS file"),
    (b"PK\x03\x04", "a zip archive"),
)


def is_picture(path: pathlib.Path) -> bool:
    """Whether a name in a folder is that of a picture: one of `SUFFIXES`, not hidden, no folder."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def load_portrait(path: str | os.PathLike, *, resolution: int, notice: Notice | None = None) -> np.ndarray:
    """One photo as a square sRGB array.

    EXIF orientation is applied, an ICC profile is converted to sRGB, alpha is composed on white, 16-bit
    greys keep their depth, a picture that is not square is cropped to its centre square.

    Args:
      path: a JPEG, PNG or WebP file.
      resolution: R, side of the result in pixels (Lanczos when it shrinks, bicubic when it grows).
      notice: called with one line for each thing the user should know (cropped, enlarged, broken
        profile, several frames); without it these become `UserWarning`s.

    Returns:
      [R, R, 3] float32 in 0..1.

    Raises:
      InputError: missing, not a file, empty, not an image, another format, truncated, damaged, too large
        or too small. One line with file, cause and next step.
    """
    path = pathlib.Path(path)
    tell = notice or (lambda text: warnings.warn(text, stacklevel=3))
    image = _decode(path, _read_bytes(path), tell)
    side = min(image.size)
    if image.width != image.height:
        tell(f"{shown(path)}: {image.width} x {image.height} is not square, took the centre {side} x {side}; "
             "the face should be framed as FFHQ frames it")
    if side < resolution:
        tell(f"{shown(path)}: {side} px is less than the pack's {resolution} px, enlarged; fine detail is missing")
    return _square_01(image, resolution)


WithProfile = tuple[Image.Image, Image.Image | None, bytes | None]  # what `load_with_profile` returns


def load_with_profile(path: str | os.PathLike) -> WithProfile:
    """A photo as `load_photo` gives it; where it has an RGB colour profile, its pixels in that and the profile too."""
    path, silent = pathlib.Path(path), lambda text: None
    photo = load_photo(path, notice=silent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = _read_bytes(path)
        with Image.open(io.BytesIO(data), formats=_readable(data)) as image:
            profile = image.info.get("icc_profile")
            if not profile or image.mode != "RGB" or "transparency" in image.info:
                return photo, None, None
            own = _upright(path, image, silent)
    return (photo, own, profile) if _is_rgb_profile(profile) else (photo, None, None)


def _is_rgb_profile(profile: bytes) -> bool:
    try:
        return getattr(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile, "xcolor_space").strip() == "RGB"  # noqa: B009
    except Exception:  # a broken one is not kept
        return False


def to_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """An sRGB image in the colours of another RGB profile. InputError: the profile only describes what is shown."""
    try:
        converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"),
                                              ImageCms.ImageCmsProfile(io.BytesIO(profile)), outputMode="RGB",
                                              renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
        return image if converted is None else converted
    except Exception as error:
        raise InputError(f"the photo's colour profile cannot be written ({cause_of(error)})") from error


def load_photo(path: str | os.PathLike, *, notice: Notice | None = None) -> Image.Image:
    """A whole photo, upright, in sRGB, mode RGB; arguments and errors as in `load_portrait`."""
    path = pathlib.Path(path)
    tell = notice or (lambda text: warnings.warn(text, stacklevel=3))
    image = _decode(path, _read_bytes(path), tell)
    if image.mode == "F":
        image = Image.fromarray(np.round(np.asarray(image) * 255.0).astype(np.uint8))
    return _in_mode(image, "RGB")


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{shown(path)}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)}: cannot be opened ({cause_of(error)}); check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{shown(path)}: is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{shown(path)}: is not a regular file; give a JPEG, PNG or WebP file")
    if status.st_size == 0:
        raise InputError(f"{shown(path)}: is empty (0 bytes); copy or download it again")
    if status.st_size > MAX_BYTES:
        raise InputError(f"{shown(path)}: has {status.st_size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20} MiB; "
                         "save a smaller copy")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({cause_of(error)}); check its permissions") from None


def _decode(path: pathlib.Path, data: bytes, tell: Notice) -> Image.Image:
    """Decoded pixels, upright, in sRGB: mode RGB, or F (0..1) for greys of more than 8 bits."""
    _check_structure(path, data)
    truncated_allowed, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_readable(data)) as image:
                _check_size(path, image.size)
                if image.format == "PNG":
                    if _PNG_END not in data:
                        raise EOFError("the end of the file is missing")
                    with Image.open(io.BytesIO(data), formats=("PNG",)) as twin:
                        twin.verify()  # every chunk's checksum, which plain decoding does not look at
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    tell(f"{shown(path)}: has {frames} frames, took the first")
                image.load()
                return _to_srgb(path, _upright(path, image, tell), tell)
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(f"{shown(path)}: {_kind(data)}; give a JPEG, PNG or WebP file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{shown(path)}: has more than the limit of {MAX_PIXELS // 10**6} megapixels; "
                         "save a smaller copy") from None
    except Exception as error:  # a decoder fed hostile bytes may raise nearly anything
        raise InputError(f"{shown(path)}: is damaged or ends early ({cause_of(error)}); copy or download it "
                         "again") from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated_allowed


def _check_structure(path: pathlib.Path, data: bytes) -> None:
    """InputError: a JPEG of so many scans, or a PNG of so many texts, that reading it would take minutes."""
    if data.startswith(b"\xff\xd8") and _more_than(_MOST_SCANS, _scans(data)):
        raise InputError(f"{shown(path)}: is a progressive JPEG of more than {_MOST_SCANS} scans; save it again")
    if data.startswith(b"\x89PNG") and _more_than(_MOST_TEXTS, _texts(data)):
        raise InputError(f"{shown(path)}: holds more than {_MOST_TEXTS} texts of metadata; save it again")


def _more_than(count: int, found: Iterator[int]) -> bool:
    return next(itertools.islice(found, count, None), None) is not None


def _scans(data: bytes) -> Iterator[int]:
    """Where the scans of a JPEG begin, up to its end: a phone's film behind it is not looked at."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        if data[at + 1] == 0xFF:  # markers may stand behind any number of these
            at += 1
            continue
        scan = data[at + 1] == 0xDA
        if scan:
            yield at
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
        if scan:
            found = _JPEG_MARKER.search(data, at)
            if found is None:
                return
            at = found.start()


def _texts(data: bytes) -> Iterator[int]:
    """Where the chunks of text of a PNG begin."""
    at = 8
    while at + 8 <= len(data):
        if data[at + 4:at + 8] in (b"tEXt", b"zTXt", b"iTXt"):
            yield at
        at += 12 + int.from_bytes(data[at:at + 4], "big")


def _readable(data: bytes) -> tuple[str, ...]:
    """Those of FORMATS that this Pillow reads; its plugin for HEIF is asked for when it is needed."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(path: pathlib.Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise InputError(f"{shown(path)}: {width} x {height} is more than the limit of {MAX_PIXELS // 10**6} "
                         f"megapixels or {MAX_SIDE} px a side; save a smaller copy")
    if min(size) < MIN_SIDE:
        raise InputError(f"{shown(path)}: {width} x {height} is too small for a portrait, at least {MIN_SIDE} px a "
                         "side are needed; give a larger picture")


def _upright(path: pathlib.Path, image: Image.Image, tell: Notice) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # the tag block is user data too
        tell(f"{shown(path)}: its EXIF block is broken ({cause_of(error)}), orientation ignored")
        return image.copy()


def _to_srgb(path: pathlib.Path, image: Image.Image, tell: Notice) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _grey_float(image)  # a profile of a 16-bit grey is ignored: LCMS would round it to 8 bits
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        image = image.convert("RGBA")
    elif image.mode in ("P", "PA", "La", "RGBa"):
        image = image.convert("RGBA" if image.mode != "P" else "RGB")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colour = _in_mode(image, {"LA": "L", "RGBA": "RGB", "1": "L"}.get(image.mode, image.mode))
    if profile:
        colour = _apply_profile(path, colour, profile, tell)
    colour = _in_mode(colour, "RGB")
    if alpha is not None:
        colour = Image.composite(colour, Image.new("RGB", colour.size, ALPHA_BACKGROUND), alpha)
    return colour


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image itself where it has the mode: `convert` copies it, which takes its time with a large one."""
    return image if image.mode == mode else image.convert(mode)


def _apply_profile(path: pathlib.Path, colour: Image.Image, profile: bytes, tell: Notice) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = getattr(source.profile, "xcolor_space").strip()  # noqa: B009 - Pillow does not declare it
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space]
        if mode == "CMYK" and colour.mode != "CMYK":
            raise ValueError(f"profile for CMYK, pixels are {colour.mode}")
        converted = ImageCms.profileToProfile(
            _in_mode(colour, mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
        return colour if converted is None else converted  # None: only where it works in place
    except Exception as error:  # broken profiles are common and say nothing about the pixels
        tell(f"{shown(path)}: its colour profile cannot be used ({cause_of(error)}), taken as sRGB")
        return colour


def _grey_float(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as mode F in 0..1."""
    values = np.asarray(image)
    if image.mode == "F":
        scale = 1.0 if values.size and np.nanmax(values) <= 1.0 else 255.0
    else:
        scale = 65535.0
    values = np.nan_to_num(values.astype(np.float32) / scale)
    return Image.fromarray(np.clip(values, 0.0, 1.0))


def _square_01(image: Image.Image, resolution: int) -> np.ndarray:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if side == resolution:
        image = image.crop((left, top, left + side, top + side))
    else:
        kind = Image.Resampling.LANCZOS if side > resolution else Image.Resampling.BICUBIC
        image = image.resize((resolution, resolution), kind, box=(left, top, left + side, top + side))
    values = np.asarray(image, dtype=np.float32)
    if values.ndim == 2:
        return np.repeat(np.clip(values, 0.0, 1.0)[..., None], 3, axis=-1)
    return values / np.float32(255.0)


def _kind(data: bytes) -> str:
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<script")):
        return "is a web page, not an image (a download that failed?)"
    for magic, name in _OTHER_KINDS:
        if data.startswith(magic):
            return f"is {name}, which is not read"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "is a HEIF picture, which is read with pip install 'pie_jax[heif]'"
    if data[4:8] == b"ftyp":
        return "is a video, or an AVIF file that this Pillow does not read"
    return "is not an image, or is damaged"


def encode_png(image: np.ndarray | Image.Image, *, metadata: dict | None = None,
               profile: bytes | None = None, effort: int | None = None) -> bytes:
    """PNG bytes with a provenance note and nothing of the input's own tags.

    Args:
      image: [H, W, 3] in 0..1 (clipped) or a Pillow image.
      metadata: JSON-able facts stored in the text chunk `pie_jax`.
      profile: the ICC profile that its colours are in; None: sRGB.
      effort: of compression, 0..9; default 6, and for large pictures runs of equal bytes alone.
    """
    image = _as_picture(image)
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Software", "pie_jax")
    notes.add_text("Comment", "Synthetic picture of a face, made by pie_jax")
    if metadata:
        notes.add_itxt("pie_jax", json.dumps(metadata, sort_keys=True))
    if effort is None and image.mode == "RGB" and image.width * image.height >= _LARGE:
        return large_png(np.asarray(image), notes=notes, profile=profile)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=notes, icc_profile=profile, compress_level=6 if effort is None else effort)
    return buffer.getvalue()


def _as_picture(image: np.ndarray | Image.Image) -> Image.Image:
    """[H, W, 3] in 0..1 (clipped), or uint8, as 8 bits."""
    if isinstance(image, Image.Image):
        return image
    if image.dtype == np.uint8:
        return Image.fromarray(image)
    return Image.fromarray(to_uint8(image))


def to_uint8(image: np.ndarray) -> np.ndarray:
    """A picture in 0..1 (clipped; 0 for NaN), of any shape, as 8 bits."""
    values = np.clip(np.nan_to_num(np.asarray(image, np.float32)), 0.0, 1.0)
    return np.round(values * 255.0).astype(np.uint8)


def save_picture(path: str | os.PathLike, image: np.ndarray | Image.Image, *, metadata: dict | None = None,
                 profile: bytes | None = None) -> None:
    """Write PNG or, by the name's ending, JPEG; knobs as in `encode_png` (metadata of a JPEG: a comment).

    Raises ResourceError: it cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        replace_file(path, encode_png(image, metadata=metadata, profile=profile))
        return
    buffer = io.BytesIO()
    note = json.dumps({"made_by": "pie_jax", **(metadata or {})}, sort_keys=True)
    _as_picture(image).save(buffer, "JPEG", quality=95, subsampling=0, comment=note.encode(), icc_profile=profile)
    replace_file(path, buffer.getvalue())


def save_png(path: str | os.PathLike, image: np.ndarray | Image.Image, *, metadata: dict | None = None) -> None:
    """`encode_png` into `path`, whole or not at all. Raises ResourceError."""
    replace_file(path, encode_png(image, metadata=metadata))
