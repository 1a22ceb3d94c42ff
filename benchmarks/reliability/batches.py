"""How far a portrait's result depends on the size of its batch: rounding, and what an optimisation makes of it.

    python -m benchmarks.reliability.batches --out benchmarks/results/reliability/batches.jsonl

Portraits of one batch share no number: with the same size and place a portrait comes out the same bit for bit, whoever
its neighbours are. But XLA compiles another program for each size, which adds in another order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import small_pack
from pie_jax.cli import command as cli
from pie_jax.config import PRESETS, EmbedConfig, StageConfig
from pie_jax.pack import Pack
from pie_jax.portrait import embed_portraits

SIZES = (1, 2, 3, 4)


def differences(pack: Pack, portraits: np.ndarray, *, sizes: Sequence[int] = SIZES,
                stages: tuple[StageConfig, ...]) -> dict:
    """The largest differences between batches of these sizes, over the portraits [B, H, W, 3].

    first_energy: relative, of the first step. psnr_db, w_plus: of the end.
    """
    config = EmbedConfig(energy=pack.configs.energy, stages=stages)
    runs = [embed_portraits(pack, portraits, config=config, batch=size) for size in sizes]
    first = np.array([[e.trace["energy"][0] for e in run] for run in runs])
    psnr = np.array([[e.report["metrics"]["psnr_db"] for e in run] for run in runs])
    codes = np.array([[e.w_plus for e in run] for run in runs])
    return {"portraits": len(portraits), "sizes": list(sizes), "steps": sum(stage.steps for stage in stages),
            "first_energy": float(np.ptp(first, axis=0).max() / first.min()),
            "psnr_db": round(float(np.ptp(psnr, axis=0).max()), 4),
            "w_plus": float(np.ptp(codes, axis=0).max())}


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """Measure; the row says how it was."""
    parser = parser_of("batches", description=__doc__)
    parser.add_argument("--portraits", type=int, default=4)
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    rng = np.random.default_rng(0)
    portraits = np.kron(rng.uniform(size=(arguments.portraits, 8, 8, 3)), np.ones((1, 4, 4, 1))).astype(np.float32)
    row = {**differences(small_pack(), portraits, stages=PRESETS["fast"]),
           **circumstances(began)}
    say(row, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
