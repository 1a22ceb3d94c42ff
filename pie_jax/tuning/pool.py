"""`python -m pie_jax.tuning.pool --pack DIR`: make the pool of v of a pack, once its networks are trained."""

from __future__ import annotations

import time

import jax

from pie_jax.cli import command
from pie_jax.cli.progress import Progress
from pie_jax.pack import find_pack, load_pack, update_part
from pie_jax.pack.sampling import SIZE, build_pool


@command.guarded_main
def main(argv: list[str]) -> None:
    parser = command.Parser(module="pie_jax.tuning.pool", description=__doc__)
    parser.add_argument("--pack", default="demo", metavar="DIR")
    parser.add_argument("--size", type=int, default=SIZE, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--batch", type=int, default=8, metavar="B")
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)

    command.configure("auto", autotune=arguments.autotune)
    folder = find_pack(arguments.pack)
    pack = load_pack(folder, parts=("generator", "regressor", "landmarks"))
    start = time.monotonic()
    with Progress() as progress:
        progress.start("pool", unit="image")
        pool = build_pool(jax.random.key(arguments.seed), pack, size=arguments.size, batch=arguments.batch,
                          progress=progress.update)
    recipe = f"python -m pie_jax.tuning.pool --size {arguments.size} --seed {arguments.seed}"
    update_part(folder, "pool", pool, record={"command": recipe, "seed": arguments.seed, "size": arguments.size,
                                              "seconds": round(time.monotonic() - start, 1)})


if __name__ == "__main__":
    raise SystemExit(main())
