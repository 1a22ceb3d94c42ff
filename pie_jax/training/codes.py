"""`python -m pie_jax.training.codes`: make the pool of codes that DFR and rigs are trained on."""

from __future__ import annotations

import argparse
import pathlib

from pie_jax.pack import load_pack
from pie_jax.training.core import command
from pie_jax.training.data import codes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pie_jax.training.codes", description=codes.__doc__.split("\n")[0])
    parser.add_argument("--pack", default="demo", metavar="DIR")
    codes.add_code_arguments(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--debug", action="store_true")
    arguments = parser.parse_args(argv)

    def work():
        codes.open_codes(pathlib.Path(arguments.codes), load_pack(arguments.pack, parts=codes.PARTS),
                         count=arguments.count, seed=arguments.seed)

    return command.guarded(work, debug=arguments.debug)


if __name__ == "__main__":
    raise SystemExit(main())
