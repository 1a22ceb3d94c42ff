"""Bits of a pack turned over at random: each must be refused, or change nothing that is read.

    python -m benchmarks.reliability.flips --flips 1000 --out benchmarks/results/reliability/flips.jsonl

Half of the bits are drawn evenly from all bytes, half from the bytes of an evenly drawn file. What changes nothing lies
in what Orbax keeps beside the arrays (times, the path of who wrote it, other spellings of the same JSON).
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import small_pack
from pie_jax.cli import command as cli
from pie_jax.errors import NumericsError, PackError
from pie_jax.pack import Pack, load_pack, save_pack

_LONGEST, _ANYWAY = 10.0, 60.0  # processor seconds and, on a busy machine, seconds for one load


def flip(folder: pathlib.Path, due: Pack, rng: np.random.Generator) -> tuple[str, str]:
    """Turn one bit over, load the pack, turn it back: (outcome, which file).

    outcome: "refused", "the same" (all that is read), or what is wrong.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = np.array([path.stat().st_size for path in files], float)
    file = files[rng.choice(len(files), p=sizes / sizes.sum() if rng.integers(2) else None)]
    whole = file.read_bytes()
    data = bytearray(whole)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)
    began, used = time.monotonic(), time.process_time()
    try:
        pack = load_pack(folder)
        outcome = "the same" if _equal(pack, due) else "accepted"
    except (PackError, NumericsError) as error:
        outcome = "refused" if "\n" not in str(error) else "more than one line"
    except Exception as error:
        outcome = f"unexpected {type(error).__name__}"
    finally:
        file.write_bytes(whole)
    if time.process_time() - used > _LONGEST or time.monotonic() - began > _ANYWAY:
        outcome = "slow"
    return outcome, str(file.relative_to(folder))


def _equal(pack: Pack, due: Pack) -> bool:
    ours, theirs = (jax.tree.leaves((p.weights, p.morphable, p.pool)) for p in (pack, due))
    return pack.manifest == due.manifest and len(ours) == len(theirs) and all(
        np.array_equal(a, b) for a, b in zip(ours, theirs))


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """Turn bits over; exit code 1 where one was accepted, or refused badly."""
    parser = parser_of("flips", description=__doc__)
    parser.add_argument("--flips", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    began, rng = time.monotonic(), np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="pie_jax_flips_") as place:
        folder = pathlib.Path(place) / "pack"
        save_pack(folder, small_pack())
        due = load_pack(folder)
        found = Counter()
        for _ in range(arguments.flips):
            outcome, file = flip(folder, due, rng)
            found[outcome] += 1
            if outcome not in ("refused", "the same"):
                print(f"{file}: {outcome}", file=sys.stderr)
    bad = arguments.flips - found["refused"] - found["the same"]
    row = {"flips": arguments.flips, "refused": found.pop("refused", 0), "same": found.pop("the same", 0),
           "problems": dict(found), **circumstances(began)}
    say(row, arguments.out)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
