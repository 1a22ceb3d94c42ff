"""The command line of `pie view`. Imports no JAX."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pie_jax.cli import command
from pie_jax.errors import PackError, UsageError

_EPILOG = """\
The page is this machine's alone and opens in the browser; photos can be dropped on it. Nothing leaves the machine.
examples:
  pie view out                 every portrait that pie embed has left there
  pie view me.jpg you.jpg      photos, edited at once
"""


def parser() -> command.Parser:
    """All flags with their defaults."""
    p = command.Parser(module="pie_jax.view", description="Edit portraits on the screen, with sliders.", epilog=_EPILOG)
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("items", nargs="*", metavar="OUT|PHOTO",
                   help="folders that pie embed made, and photos (default: out, if it is there)")
    p.add_argument("-o", "--out", default="out", metavar="DIR", help="where photos embedded on the page go")
    p.add_argument("--port", default="0", metavar="N", help="port on the loopback address (default: any free one)")
    p.add_argument("--no-browser", dest="browser", action="store_false",
                   help="do not open a browser, only print the address")
    p.add_argument("--stay", action="store_true", help="go on when the last page is closed")
    command.add_common(p)
    return p


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; UsageError (or SystemExit after --help and --version), PackError without the extra `view`."""
    arguments = parser().parse_args(argv)
    port = command.number("--port", arguments.port)
    if port != int(port) or not 0 <= port <= 65535:
        raise UsageError(f"--port: expected 0 to 65535, got {arguments.port}")
    arguments.port = int(port)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise PackError(f"pie view needs {error.name}; install it with: pip install 'pie_jax[view]'") from None
    return arguments
