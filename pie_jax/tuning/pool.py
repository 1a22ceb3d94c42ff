"""`python -m pie_jax.tuning.pool --pack DIR`: make the pool of v of a pack, once its networks are trained."""

from __future__ import annotations

import argparse
import sys
import time

import jax

from pie_jax.pack import find_pack, load_pack, update_part
from pie_jax.pack.sampling import SIZE, build_pool
from pie_jax.training.core import command


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pie_jax.tuning.pool", description=__doc__)
    parser.add_argument("--pack", default="demo", metavar="DIR")
    parser.add_argument("--size", type=int, default=SIZE, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--batch", type=int, default=8, metavar="B")
    parser.add_argument("--debug", action="store_true")
    arguments = parser.parse_args(argv)

    def work():
        folder = find_pack(arguments.pack)
        pack = load_pack(folder, parts=("generator", "regressor", "landmarks"))
        start = time.monotonic()

        def tell(done, size):
            if done == size or done % (32 * arguments.batch) == 0:
                print(f"pool {done}/{size} {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

        pool = build_pool(jax.random.key(arguments.seed), pack, size=arguments.size, batch=arguments.batch,
                          progress=tell)
        command = f"python -m pie_jax.tuning.pool --size {arguments.size} --seed {arguments.seed}"
        update_part(folder, "pool", pool, record={"command": command, "seed": arguments.seed, "size": arguments.size,
                                                  "seconds": round(time.monotonic() - start, 1)})

    return command.guarded(work, debug=arguments.debug)


if __name__ == "__main__":
    raise SystemExit(main())
