"""`pie drive PHOTO --by VIDEO|FOLDER|OTHER`: a photo that moves as another person does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pie_jax.cli import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. JAX is imported only after the arguments are found good."""
    argv = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        from pie_jax.drive.arguments import parse

        arguments = parse(argv)
        from pie_jax.drive.run import run

        return run(arguments)

    return command.guarded(work, debug="--debug" in argv)
