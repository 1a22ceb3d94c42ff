"""NaN and infinity put into each network and each array of a pack: named, rolled back, reported, never a traceback.

    python -m benchmarks.reliability.numbers --out benchmarks/results/reliability/numbers.jsonl

All terms of the energy are computed. One element of one array is replaced in memory, as by a fault after loading; of
the pool one of every row, since a step draws some rows only and is good where it draws others.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reliability.report import circumstances, parser_of, say
from benchmarks.reliability.world import small_pack
from pie_jax.cli import command as cli
from pie_jax.config import EmbedConfig, EnergyConfig, StageConfig
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, embed_portraits

VALUES = (float("nan"), float("inf"), float("-inf"))
STAGES = (StageConfig(space="w", steps=3, chunk=4), StageConfig(space="w_plus", steps=2, chunk=4))


def poisoned(pack: Pack, value: float) -> Iterator[tuple[str, Pack]]:
    """(what, the pack with one element of it replaced): of each network's largest array, of each other array."""
    for name, weights in pack.weights.items():
        leaves, tree = jax.tree.flatten(weights)
        largest = max(range(len(leaves)), key=lambda i: leaves[i].size)
        yield name, dataclasses.replace(pack, weights=pack.weights | {name: tree.unflatten(
            [_with(leaf, value) if i == largest else leaf for i, leaf in enumerate(leaves)])})
    for part in ("morphable", "pool"):
        whole = getattr(pack, part)
        for field in dataclasses.fields(whole) if whole is not None else ():
            array = getattr(whole, field.name)
            if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jnp.floating):
                bad = jax.vmap(lambda row: _with(row, value))(array) if part == "pool" else _with(array, value)
                changed = dataclasses.replace(whole, **{field.name: bad})
                yield f"{part}.{field.name}", dataclasses.replace(pack, **{part: changed})


def _with(array: jax.Array, value: float) -> jax.Array:
    return array.ravel().at[array.size // 2].set(value).reshape(array.shape)


def verdict(embedding: Embedding, start: np.ndarray) -> str:
    """"named", "no effect", or what is wrong. start: [L, D], the code that the search began with."""
    report = embedding.report
    if not np.isfinite(embedding.w_plus).all():
        return "a code that is not finite"
    if report["outcome"] == "finished":
        values = np.concatenate([v[np.isfinite(v)] for v in embedding.trace.values()])
        return "no effect" if values.size else "finished without a finite value"
    terms = [incident["term"] for incident in report["incidents"]]
    if not terms or not all(terms):
        return "no name"
    return "named" if np.array_equal(embedding.w_plus, start) else "not rolled back"


@cli.guarded_main
def main(argv: Sequence[str]) -> int:
    """Every array and every value; exit code 1 where one is not as it should be."""
    parser = parser_of("numbers", description=__doc__)
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    pack = small_pack(full=True)
    config = EmbedConfig(energy=dataclasses.replace(pack.configs.energy, terms=EnergyConfig().terms), stages=STAGES)
    portrait = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    still = dataclasses.replace(config, stages=tuple(dataclasses.replace(s, steps=0) for s in STAGES))
    start = embed_portraits(pack, portrait, config=still)[0].w_plus
    found: dict[str, int] = {}
    named: dict[str, set[str]] = {}
    for value in VALUES:
        for what, changed in poisoned(pack, value):
            embedding = embed_portraits(changed, portrait, config=config)[0]
            outcome = verdict(embedding, start)
            found[outcome] = found.get(outcome, 0) + 1
            named.setdefault(what, set()).update(i["term"] for i in embedding.report["incidents"])
            if outcome not in ("named", "no effect"):
                print(f"{what}, {value}: {outcome}", file=sys.stderr)
    count = sum(found.values())
    row = {"faults": count, "named": found.pop("named", 0), "no_effect": found.pop("no effect", 0), "problems": found,
           "terms": {what: sorted(terms) for what, terms in named.items()},
           **circumstances(began)}
    say(row, arguments.out)
    return int(bool(row["problems"]))


if __name__ == "__main__":
    sys.exit(main())
