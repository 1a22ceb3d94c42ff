"""`pie view [OUT | PHOTO...]`: portraits on the screen, with sliders that answer at once, on this machine only."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pie_jax.cli import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. JAX is imported only after the arguments are found good."""
    argv = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        from pie_jax.view.arguments import parse

        arguments = parse(argv)
        from pie_jax.view.run import run

        return run(arguments)

    return command.guarded(work, debug="--debug" in argv)
