"""`python -m pie_jax.training.studio_data`: render studio portraits with their truth (`training.data.studio_data`)."""

from __future__ import annotations

import argparse

from pie_jax.training.core import command
from pie_jax.training.data import studio_data


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pie_jax.training.studio_data",
                                     description=studio_data.__doc__.split("\n")[0])
    studio_data.add_data_arguments(parser)
    parser.add_argument("--count", type=int, default=12_000, help="portraits in all (default: %(default)s)")
    parser.add_argument("--views", type=int, default=6, help="portraits of a person (default: %(default)s)")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--debug", action="store_true")
    arguments = parser.parse_args(argv)

    def work():
        studio_data.build(arguments.data, count=arguments.count, views=arguments.views, resolution=arguments.resolution,
              seed=arguments.seed)

    return command.guarded(work, debug=arguments.debug)


if __name__ == "__main__":
    raise SystemExit(main())
