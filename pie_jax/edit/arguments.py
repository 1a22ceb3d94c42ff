"""The command line of `python -m pie_jax.edit`. Imports no JAX."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from pie_jax.cli import command
from pie_jax.config import CONTROLS
from pie_jax.edit.animation import LOOPS
from pie_jax.errors import UsageError

ANGLES = ("yaw", "pitch", "roll")
LIGHT = ("azimuth", "elevation", "intensity", "ambient")
PICTURES = (".png", ".jpg", ".jpeg")
FILMS = (".gif", ".webp")
MAX_FRAMES = 200

_EPILOG = """\
All values are absolute: what is asked replaces what the photo has, what is not asked stays. Controls go through their
rigs one after the other, in the order of --order.
examples:
  python -m pie_jax.edit out/face --yaw 15 --expression jaw_open=2 -o turned.png
  python -m pie_jax.edit out/face --like other.jpg --control illumination --grid
  python -m pie_jax.edit out/face --sweep yaw=-25:25:48 --save turning.mp4
  python -m pie_jax.edit out/face --keyframes moves.json --save moves.webp
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """`count` values from `first` to `last` of one number: an angle, a part of the light, or a component."""

    name: str
    first: float
    last: float
    count: int

    def values(self) -> list[float]:
        step = (self.last - self.first) / max(self.count - 1, 1)
        return [self.first + i * step for i in range(self.count)]


def parser() -> command.Parser:
    """All flags with their defaults."""
    p = command.Parser(module="pie_jax.edit", description="Change pose, expression or light of an embedded portrait.",
                       epilog=_EPILOG)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("embedding", metavar="EMBEDDING", help="folder that pie_jax.embed made (OUT/<name>), or its .npz")
    p.add_argument("-o", "--out", metavar="FILE",
                   help="picture to write, .png or .jpg (default: edit.png in that folder); with --sweep .gif, .webp")
    for angle, way in (("yaw", "to the image's right"), ("pitch", "down"), ("roll", "anticlockwise")):
        p.add_argument(f"--{angle}", metavar="DEGREES", help=f"{angle} of the face, + {way}")
    p.add_argument("--expression", action="append", default=[], metavar="NAME=VALUE",
                   help="a component in standard deviations (repeatable); --components lists the names")
    p.add_argument("--light", metavar="AZIMUTH,ELEVATION,INTENSITY[,AMBIENT]",
                   help="direction it comes from in degrees (+ the image's right, + above) and strength, 0.7 is usual; "
                   "ambient light, by default the photo's own")
    p.add_argument("--like", metavar="OTHER", help="take --control from another photo or embedding")
    p.add_argument("--control", action="append", metavar="NAME", help=f"what --like takes: {', '.join(CONTROLS)}")
    p.add_argument("--order", action="append", metavar="NAMES",
                   help=f"order of the rigs (default: {','.join(CONTROLS)})")
    p.add_argument("--sweep", metavar="NAME=FROM:TO:COUNT",
                   help="a row of edits, or a film; NAME: yaw, pitch, roll, azimuth, elevation, intensity, a component")
    p.add_argument("--keyframes", metavar="FILE", help="an animation: several numbers at several times, .json or .csv")
    p.add_argument("--save", metavar="FILM",
                   help="write --sweep or --keyframes as a film, .mp4 .gif .webp .png, or as frames into a folder")
    p.add_argument("--rate", default="24", metavar="FPS", help="frames a second of --save")
    p.add_argument("--size", metavar="PX", help="size of the frames of --save, 256, 512 or 1024; default: 512 at most")
    p.add_argument("--loop", choices=LOOPS,
                   help="what a film of --save does at its end (default: sweeps go back, keyframes repeat)")
    p.add_argument("--detail", metavar="X", 
                   help="how much of the picture is the photo's own pixels, moved and relit, 0 to 1 (0: the generator "
                   "alone); default: 1 for photographs that the generator cannot give back")
    p.add_argument("--explain", action="store_true", 
                   help="also write which pixels the photo shows and which are filled in")
    p.add_argument("--no-full", dest="full", action="store_false", 
                   help="do not write the whole photo, as large as it is")
    p.add_argument("--grid", action="store_true", help="put the unedited synthesis and the rendering beside the edit")
    p.add_argument("--raw", action="store_true", help="do not make up for the measured weakness of the rigs")
    p.add_argument("--components", action="store_true", help="list the names of the expression components and stop")
    command.add_common(p)
    p.set_defaults(pack=None)
    return p


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; UsageError (or SystemExit after --help and --version)."""
    arguments = parser().parse_args(_join(argv))
    for angle in ANGLES:
        text = getattr(arguments, angle)
        setattr(arguments, angle, None if text is None else command.number(f"--{angle}", text))
    arguments.detail = None if arguments.detail is None else command.number("--detail", arguments.detail)
    if arguments.detail is not None and not 0.0 <= arguments.detail <= 1.0:
        raise UsageError(f"--detail: expected 0 to 1, got {arguments.detail:g}")
    arguments.expression = dict(command.assignment("--expression", text) for text in arguments.expression)
    arguments.light = _light(arguments.light)
    arguments.control = command.list_of("--control", arguments.control, CONTROLS)
    order = command.list_of("--order", arguments.order, CONTROLS) or CONTROLS
    arguments.order = (*order, *(c for c in CONTROLS if c not in order))
    if (arguments.like is None) != (arguments.control is None):
        raise UsageError("--like and --control go together: --like OTHER --control pose")
    arguments.sweep = _sweep(arguments.sweep)
    _check_film(arguments)
    if arguments.sweep and arguments.sweep.name in LIGHT and arguments.light is None:
        arguments.light = (0.0, 20.0, 0.7)
    if arguments.out is not None:
        suffix, allowed = pathlib.Path(arguments.out).suffix.lower(), PICTURES + (FILMS if arguments.sweep else ())
        if suffix not in allowed:
            raise UsageError(f"-o {arguments.out}: expected a name that ends in {' or '.join(allowed)}")
    return arguments


def _check_film(arguments: argparse.Namespace) -> None:
    """What --save, --rate, --size and --loop go with; UsageError."""
    arguments.rate = command.number("--rate", arguments.rate)
    if not 1.0 <= arguments.rate <= 120.0:
        raise UsageError(f"--rate: expected 1 to 120, got {arguments.rate:g}")
    if arguments.size is not None:
        if arguments.size not in ("256", "512", "1024"):
            raise UsageError(f"--size: expected 256, 512 or 1024, got {arguments.size!r}")
        arguments.size = int(arguments.size)
    if arguments.keyframes is not None and arguments.sweep is not None:
        raise UsageError("--keyframes and --sweep: give one of them")
    if arguments.keyframes is not None and arguments.save is None:
        raise UsageError("--keyframes: name the film with --save, for example --save out.mp4")
    if arguments.save is not None:
        if arguments.keyframes is None and arguments.sweep is None:
            raise UsageError("--save: is for --sweep or --keyframes; -o writes a picture")
        suffix = pathlib.Path(arguments.save).suffix.lower()
        if suffix and suffix not in (*FILMS, ".png", ".mp4"):
            raise UsageError(f"--save {arguments.save}: expected .mp4, .gif, .webp, .png, or a folder")


def _join(argv: Sequence[str]) -> list[str]:
    """'--light' '-30,20,1' as '--light=-30,20,1': argparse takes a value with a leading minus for an option."""
    takes = {f"--{name}" for name in (*ANGLES, "light", "sweep", "expression")}
    joined: list[str] = []
    for text in argv:
        if joined and joined[-1] in takes and text.startswith("-") and not text.startswith("--"):
            joined[-1] += "=" + text
        else:
            joined.append(text)
    return joined


def _light(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) not in (3, 4):
        raise UsageError(f"--light: expected AZIMUTH,ELEVATION,INTENSITY[,AMBIENT], got {text!r}")
    light = tuple(command.number(f"--light {name}", part) for name, part in zip(LIGHT, parts))
    if abs(light[0]) > 180 or abs(light[1]) > 90 or min(light[2:]) < 0:
        raise UsageError("--light: expected azimuth in -180..180, elevation in -90..90, intensity and ambient >= 0, "
                         f"got {text!r}")
    return light


def _sweep(text: str | None) -> Sweep | None:
    if text is None:
        return None
    name, equals, values = text.partition("=")
    parts = values.split(":")
    if not equals or len(parts) != 3 or not parts[2].isdecimal():
        raise UsageError(f"--sweep: expected NAME=FROM:TO:COUNT, for example yaw=-25:25:11, got {text!r}")
    first, last = (command.number("--sweep", part) for part in parts[:2])
    count = int(parts[2])
    if not 2 <= count <= MAX_FRAMES:
        raise UsageError(f"--sweep: expected a count of 2 to {MAX_FRAMES}, got {count}")
    return Sweep(name=name.strip(), first=first, last=last, count=count)
