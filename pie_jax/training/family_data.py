"""`python -m pie_jax.training.family_data`: render antithetic pairs of the demo family."""

from __future__ import annotations

import pathlib

from pie_jax.cli import command
from pie_jax.training.data import family_data


@command.guarded_main
def main(argv: list[str]) -> None:
    parser = command.Parser(module="pie_jax.training.family_data", description=family_data.__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="pairs in all (default: %(default)s)")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--data", default="runs/family", metavar="DIR")
    parser.add_argument("--seed", type=int, default=family_data.TRAIN_SEED)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)
    command.configure("auto")

    family_data.build(pathlib.Path(arguments.data), count=arguments.count, resolution=arguments.resolution,
                      seed=arguments.seed)


if __name__ == "__main__":
    raise SystemExit(main())
