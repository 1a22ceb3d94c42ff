"""`python -m pie_jax.training.codes`: make the pool of codes that DFR and rigs are trained on."""

from __future__ import annotations

import pathlib

from pie_jax.cli import command
from pie_jax.pack import load_pack
from pie_jax.training.data import codes


@command.guarded_main
def main(argv: list[str]) -> None:
    parser = command.Parser(module="pie_jax.training.codes", description=codes.__doc__)
    parser.add_argument("--pack", default="demo", metavar="DIR")
    codes.add_code_arguments(parser)
    parser.add_argument("--seed", type=int, default=0)
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)
    command.configure("auto", autotune=arguments.autotune)
    codes.open_codes(pathlib.Path(arguments.codes), load_pack(arguments.pack, parts=codes.PARTS),
                     count=arguments.count, seed=arguments.seed)


if __name__ == "__main__":
    raise SystemExit(main())
