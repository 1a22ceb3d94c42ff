"""The paper's ablation, with the truth at hand: every term of the energy left out, and its schedule in other orders.

    python -m benchmarks.ablation --pack demo --preset fast --count 6 --out benchmarks/results/ablation

Studio portraits the pack never saw are embedded by every variant of `variants`, all with the same number of steps, and
each embedding is edited twice: by the rig alone, as the paper does (on an Image2StyleGAN embedding this is the direct
rig that the paper compares with), and through the pack's measured response. `ablation.jsonl` has a row for each
portrait and variant of a pack and preset; those that exist are skipped, so a run can be stopped, continued and shared.
The table's last part says what becomes of the paper's claims: paired differences over portraits, their spread, how
many agree. The last line of stdout is one JSON object of all figures.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from benchmarks.ablation.variants import NAMES, VARIANTS
from benchmarks.quality.embeddings import add_arguments, embedded, label_of, stages_of
from pie_jax.cli import command


def parser() -> argparse.ArgumentParser:
    result = command.Parser(module="benchmarks.ablation", description=__doc__)
    command.add_debug(result)
    add_arguments(result, preset="search", count=6)
    result.add_argument("--variants", nargs="+", choices=NAMES, default=NAMES, metavar="NAME",
                        help=f"some of {', '.join(NAMES)} (default: all)")
    result.add_argument("--out", default="runs/ablation", metavar="DIR")
    return result


@command.guarded_main
def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    from benchmarks import chart
    from benchmarks.ablation import report
    from benchmarks.ablation.claims import claims
    from benchmarks.ablation.measures import ASKED, MODES, edits_of, row_of
    from benchmarks.quality.portraits import photograph, true_edits
    from benchmarks.quality.rows import add, key_of, rounded, rows
    from pie_jax.pack import load_pack
    from pie_jax.runtime import configure
    from pie_jax.studio.head import build_head

    stages, label = stages_of(arguments), label_of(arguments)
    configure()
    pack, head, folder = load_pack(arguments.pack), build_head(), pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    key = key_of(pack, label)
    kept, lines = folder / "embeddings" / f"{key['pack']}_{label}", folder / "ablation.jsonl"
    chosen = [variant for variant in VARIANTS if variant.name in arguments.variants]

    def embedding_of(variant, portrait):
        return embedded(pack, [portrait], variant.config(pack.configs.energy, stages), kept / variant.name)[0]

    def portrait_of(seed):
        portrait = photograph(head, seed, resolution=pack.configs.generator.resolution)
        return portrait, true_edits(head, portrait, ASKED)

    for seed in range(arguments.seed, arguments.seed + arguments.count):
        done = {row["variant"] for row in rows(lines, **key, seed=seed)}
        missing = [variant for variant in chosen if variant.name not in done]
        if missing:
            portrait, truths = portrait_of(seed)
        for variant in missing:
            embedding = embedding_of(variant, portrait)
            row = key | {"variant": variant.name, "seed": seed, "seconds": embedding.report["seconds_per_portrait"]}
            row |= row_of(pack, embedding, portrait, truths)
            add(lines, row)
            print(f"portrait {seed} {variant.name}: {row['psnr_db']:.2f} dB, {row['seconds']:.0f} s", file=sys.stderr,
                  flush=True)
    every = rows(lines, **key)
    found, said = report.figures(every), claims(every)
    for mode in MODES:
        chart.save(report.gains_chart(found, mode), folder / f"gains_{mode}.png")
    portrait, truths = portrait_of(arguments.seed)
    edited = {variant.name: edits_of(pack, embedding_of(variant, portrait), "rig") for variant in chosen}
    report.strip(portrait, truths, edited).save(folder / f"{portrait.seed:06d}.png")
    people = len({row["seed"] for row in every})
    title = (f"Pack {pack.name} ({key['pack']}, calibration {key['calibration']}), preset {label}: ablation of the "
             f"energy on {people} unseen people")
    print(report.table(found, said, title=title))
    print(json.dumps(rounded(key | {"variants": found, "claims": said})))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
