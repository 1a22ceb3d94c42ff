"""Embeddings in bfloat16 beside float32, on studio portraits the pack never saw.

    python -m benchmarks.precision --count 16 --preset search --out benchmarks/results/precision

Each portrait is embedded with every policy of `pie_jax.config.PRECISIONS`, one after the other, and both embeddings are
edited and compared with the *true* edited portraits. `embeddings.jsonl` has a row for each portrait and policy; those
that exist are skipped, so a run can be stopped and continued. `networks.jsonl` has what bfloat16 in each network alone
does to the energy and its gradient, and their milliseconds, timed in turn. The table also goes to `table.txt`. The last
line of stdout is one JSON object:

    float32, bfloat16                 medians over portraits: psnr_db, truth_error, ms_step
    psnr_change, truth_error_change   of the medians, bfloat16 against float32, relative
    psnr_db_worst                     the portrait that loses most, dB (negative: worse in bfloat16)
    largest_change, within_2_percent  the larger of the two changes, and whether it is at most 0.02
    ms_ratio                          of an energy with its gradient, bfloat16 over float32
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

from benchmarks.quality.embeddings import add_arguments, embedded, label_of, stages_of
from pie_jax.cli import command
from pie_jax.config import PRECISIONS, EmbedConfig

ASKED = ("yaw-15", "yaw+15", "smile+2")
FIGURES = ("psnr_db", "truth_error", "ms_step")
LIMIT = 0.02
_NETWORKS_ON = 4  # portraits on which each network alone is looked at


def parser() -> argparse.ArgumentParser:
    result = command.Parser(module="benchmarks.precision", description=__doc__)
    command.add_debug(result)
    add_arguments(result, preset="search", count=16)
    result.add_argument("--out", default="runs/precision", metavar="DIR")
    return result


def row_of(pack, embedding, truths: Mapping) -> dict:
    """PSNR of the synthesis, root mean square difference (of 0..1) of each edit to its truth and their mean, ms."""
    from benchmarks.quality.edits import EDITS
    from benchmarks.quality.measure import decibels, edit_all

    edits = [edit for edit in EDITS if edit.name in ASKED]
    images = edit_all(pack, embedding, edits).images
    errors = {name: 10 ** (-decibels(image, truths[name].image) / 20) for name, image in images.items()}
    return {"psnr_db": embedding.report["metrics"]["psnr_db"], "truth_error": sum(errors.values()) / len(errors),
            "errors": errors, "ms_step": 1e3 / embedding.report["steps_per_second"],
            "outcome": embedding.report["outcome"]}


def summary(rows: Sequence[dict], networks: Sequence[dict]) -> dict:
    """The figures of the last line, from the rows of portraits that have one of each policy."""
    import numpy as np

    of = {name: {row["seed"]: row for row in rows if row["precision"] == name} for name in PRECISIONS}
    seeds = sorted(set.intersection(*(set(found) for found in of.values())))
    out: dict = {"count": len(seeds)} | {name: {figure: float(np.median([found[seed][figure] for seed in seeds]))
                                                for figure in FIGURES} for name, found in of.items()}
    changes = {figure: out["bfloat16"][figure] / out["float32"][figure] - 1 for figure in FIGURES[:2]}
    out |= {"psnr_change": changes["psnr_db"], "truth_error_change": changes["truth_error"]}
    out["psnr_db_worst"] = min(of["bfloat16"][seed]["psnr_db"] - of["float32"][seed]["psnr_db"] for seed in seeds)
    out["largest_change"] = max(map(abs, changes.values()))
    out["within_2_percent"] = out["largest_change"] <= LIMIT
    ms = {row["policy"]: row["ms"] for row in networks}
    return out | {"ms_ratio": ms["bfloat16"] / ms["float32"]}


def table(figures: dict, networks: Sequence[dict], *, title: str) -> str:
    """Both precisions, and what each network does alone."""
    from benchmarks.quality.table import columns, number

    rows = [["", "PSNR dB", "truth error", "ms a step"]]
    rows += [[name, number(figures[name]["psnr_db"]), number(figures[name]["truth_error"], ".4f"),
              number(figures[name]["ms_step"], ".0f")] for name in PRECISIONS]
    parts = [title, "", *columns(rows),
             f"bfloat16 against float32: PSNR {figures['psnr_change']:+.2%} (worst portrait "
             f"{figures['psnr_db_worst']:+.2f} dB), truth error {figures['truth_error_change']:+.2%}; "
             f"{'within' if figures['within_2_percent'] else 'NOT within'} {LIMIT:.0%}", "",
             f"bfloat16 in some networks, worst of {networks[0]['portraits']} portraits: relative difference of the "
             "energy, cosine and length of its gradient"]
    rows = [["in bfloat16", "energy", "cosine", "length", "embedded: energy", "cosine", "length", "ms"]]
    for row in networks:
        cells = [number(row[place][key], form) for place in ("w_mean", "embedded")
                 for key, form in (("energy", ".5f"), ("cosine", ".5f"), ("length", ".3f"))]
        rows.append([row["policy"], *cells, number(row["ms"], ".1f")])
    return "\n".join(parts + columns(rows))


@command.guarded_main
def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    from benchmarks import harness
    from benchmarks.precision.networks import network_rows
    from benchmarks.quality.edits import EDITS
    from benchmarks.quality.portraits import photograph, true_edits
    from benchmarks.quality.rows import add, key_of, rounded, rows
    from pie_jax.pack import load_pack
    from pie_jax.runtime import configure
    from pie_jax.studio.head import build_head

    stages, label = stages_of(arguments), label_of(arguments)
    configure()
    pack, head, folder = load_pack(arguments.pack), build_head(), pathlib.Path(arguments.out)
    key = key_of(pack, label)
    kept, lines = folder / "embeddings" / f"{key['pack']}_{label}", folder / "embeddings.jsonl"
    store = folder / "networks.jsonl"
    seeds = range(arguments.seed, arguments.seed + arguments.count)

    def portrait_of(seed):
        return photograph(head, seed, resolution=pack.configs.generator.resolution)

    def embedding_of(portrait, precision):
        config = EmbedConfig(energy=pack.configs.energy, stages=stages, precision=precision)
        return embedded(pack, [portrait], config, kept / precision)[0]

    for seed in seeds:
        missing = [name for name in PRECISIONS if not rows(lines, **key, seed=seed, precision=name)]
        if not missing:
            continue
        portrait = portrait_of(seed)
        truths = true_edits(head, portrait, [edit for edit in EDITS if edit.name in ASKED])
        for name in missing:
            row = row_of(pack, embedding_of(portrait, name), truths)
            add(lines, key | {"seed": seed, "precision": name} | row | harness.describe_machine())
            print(f"portrait {seed} {name}: {row['psnr_db']:.2f} dB, truth error {row['truth_error']:.4f}, "
                  f"{row['ms_step']:.0f} ms a step", file=sys.stderr, flush=True)
    if not rows(store, **key):
        looked_at = [portrait_of(seed) for seed in seeds[:_NETWORKS_ON]]
        codes = [embedding_of(portrait, "float32").w_plus for portrait in looked_at]
        for row in network_rows(pack, looked_at, codes):
            add(store, key | row | harness.describe_machine())
    networks = rows(store, **key)
    figures = rounded(summary(rows(lines, **key), networks))
    said = table(figures, networks, title=f"Pack {pack.name} ({key['pack']}), preset {label}: {figures['count']} "
                 f"unseen people embedded in both precisions, {networks[0]['device']}")
    (folder / "table.txt").write_text(said + "\n")
    print(said)
    print(json.dumps(key | figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
