"""The command line of `pie drive`. Imports no JAX."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from pie_jax.cli import command
from pie_jax.config import CONTROLS
from pie_jax.errors import UsageError

_EPILOG = """\
A stopped run goes on where it was when the same command is given again.
examples:
  pie drive me.jpg --by friend.mp4 -o me_talking.mp4
  pie drive out/me --by frames/ --rate 25 --relative pose -o me.mp4
"""


def parser() -> command.Parser:
    """All flags with their defaults."""
    p = command.Parser(module="pie_jax.drive", description="Move a photo as the person of a video moves.",
                       epilog=_EPILOG)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("photo", metavar="PHOTO", help="a photo, or a folder that pie embed made of one")
    p.add_argument("--by", required=True, metavar="VIDEO|FOLDER|PHOTO", help="whose motion is taken")
    p.add_argument("-o", "--out", required=True, metavar="FILM", help=".mp4, or a folder for frames; of a photo: .png")
    p.add_argument("--control", action="append", metavar="NAME",
                   help=f"what is taken, of {', '.join(CONTROLS)} (default: pose,expression)")
    p.add_argument("--relative", action="append", metavar="NAME",
                   help="controls whose changes since the first frame are taken, not their values (default: none)")
    p.add_argument("--smooth", default="5", metavar="FRAMES",
                   help="frames over which the motion is smoothed, 1 (not at all) to 31")
    p.add_argument("--rate", metavar="FPS", help="frames a second (default: the video's; of a folder 24)")
    p.add_argument("--size", default="512", choices=("256", "512", "1024"), help="px of the frames")
    command.add_common(p)
    return p


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; UsageError (or SystemExit after --help and --version)."""
    arguments = parser().parse_args(argv)
    arguments.control = command.list_of("--control", arguments.control, CONTROLS) or ("pose", "expression")
    arguments.relative = command.list_of("--relative", arguments.relative, CONTROLS) or ()
    smooth = command.number("--smooth", arguments.smooth)
    if smooth != int(smooth) or not 1 <= smooth <= 31:
        raise UsageError(f"--smooth: expected 1 to 31 frames, got {arguments.smooth}")
    arguments.smooth, arguments.size = int(smooth), int(arguments.size)
    if arguments.rate is not None:
        arguments.rate = command.number("--rate", arguments.rate)
        if not 1.0 <= arguments.rate <= 120.0:
            raise UsageError(f"--rate: expected 1 to 120, got {arguments.rate:g}")
    suffix = pathlib.Path(arguments.out).suffix.lower()
    if suffix not in ("", ".mp4", ".png"):
        raise UsageError(f"-o {arguments.out}: expected .mp4, a folder for frames, or .png where --by is a photo")
    return arguments
