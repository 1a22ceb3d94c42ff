"""`python -m pie_jax.training.studio_data`: render studio portraits with their truth (`training.data.studio_data`)."""

from __future__ import annotations

from pie_jax.cli import command
from pie_jax.training.data import studio_data


@command.guarded_main
def main(argv: list[str]) -> None:
    parser = command.Parser(module="pie_jax.training.studio_data", description=studio_data.__doc__)
    studio_data.add_data_arguments(parser)
    parser.add_argument("--count", type=int, default=12_000, help="portraits in all (default: %(default)s)")
    parser.add_argument("--views", type=int, default=6, help="portraits of a person (default: %(default)s)")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--seed", type=int, default=5)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)
    command.configure("auto")
    studio_data.build(arguments.data, count=arguments.count, views=arguments.views, resolution=arguments.resolution,
          seed=arguments.seed)


if __name__ == "__main__":
    raise SystemExit(main())
