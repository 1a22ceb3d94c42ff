"""`python -m pie_jax.training.family_data`: render antithetic pairs of the demo family."""

from __future__ import annotations

import argparse
import pathlib

from pie_jax.training.data import family_data


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pie_jax.training.family_data",
                                     description=family_data.__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="pairs in all (default: %(default)s)")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--data", default="runs/family", metavar="DIR")
    parser.add_argument("--seed", type=int, default=family_data.TRAIN_SEED)
    arguments = parser.parse_args(argv)

    from pie_jax.runtime import configure

    configure()
    family_data.build(pathlib.Path(arguments.data), count=arguments.count, resolution=arguments.resolution,
                      seed=arguments.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
