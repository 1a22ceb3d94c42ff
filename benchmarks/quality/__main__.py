"""Edits against the truth: studio portraits the pack never saw, embedded and edited, beside what the studio renders.

    python -m benchmarks.quality --pack demo --count 16 --preset paper --out benchmarks/results/quality
    python -m benchmarks.quality PHOTO_FOLDER --out runs/photos          # no truth: what can be measured without one

Each portrait gives one row in `portraits.jsonl`: fidelity, what a regressor reads from every edit beside what was
asked, who the `judge` (a recognition network outside the energy) sees in it, what moved unasked, and for studio
portraits the distance to the *true* edited portrait of the edited and of the unedited synthesis (whole image, face,
the region that the edit moves, mouth, landmarks), because a whole image hardly feels an expression. A row belongs to
its pack (with its calibration), preset and source: portraits that have one are skipped, so a run can be stopped,
continued and shared between processes, and rows of others in the same file are left alone. Embeddings are kept in
`embeddings/`, so new measures need no new embedding. The figures go to a table, to `summary.json` and to charts; the
last line of stdout is one JSON object of them all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys

from benchmarks.quality.embeddings import add_arguments, embedded, label_of, stages_of
from pie_jax.cli import command

SHOWN = ("yaw-15", "yaw+15", "azimuth-45", "azimuth+45", "jaw_open+2", "smile+2", "blink+2", "brow_raise+2")


def parser() -> argparse.ArgumentParser:
    from pie_jax.config import CONTROLS

    result = command.Parser(module="benchmarks.quality", description=__doc__)
    command.add_debug(result)
    result.add_argument("photos", nargs="?", metavar="FOLDER", help="portraits without truth, instead of the studio's")
    add_arguments(result, preset="paper", count=16)
    result.add_argument("--controls", nargs="+", choices=CONTROLS, help="that the energy trains for (default: all)")
    result.add_argument("--batch", type=int, default=1, help="portraits embedded at once (default: %(default)s)")
    result.add_argument("--out", default="runs/quality", metavar="DIR")
    return result


def strip(portrait, edited, truths):
    """One portrait, its synthesis and some edits, each beside the truth where there is one."""
    from pie_jax.cli.figures import Tile, grid

    tiles = [Tile(image=portrait.image, label="portrait"), Tile(image=edited.synthesis, label="synthesis")]
    for name in SHOWN:
        tiles.append(Tile(image=edited.images[name], label=name))
        tiles += [Tile(image=truths[name].image, label="truth")] if truths else []
    return grid(tiles, columns=6, side=192)


@command.guarded_main
def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    from benchmarks.quality import judge, portraits
    from benchmarks.quality.charts import draw
    from benchmarks.quality.edits import EDITS
    from benchmarks.quality.measure import edit_all, measure
    from benchmarks.quality.response import generator_response, knows_the_family
    from benchmarks.quality.rows import add, key_of, rounded, rows
    from benchmarks.quality.summary import summary
    from benchmarks.quality.table import table
    from pie_jax.config import EmbedConfig
    from pie_jax.pack import load_pack
    from pie_jax.runtime import configure

    if not 0 <= arguments.seed <= portraits.TRAINED_FROM - arguments.count:
        raise SystemExit(f"--seed: expected 0..{portraits.TRAINED_FROM - arguments.count}; later ones belong to "
                         "training")
    configure()
    pack = load_pack(arguments.pack)
    stages = stages_of(arguments, encoder=pack.has_encoder)
    label = label_of(arguments, *(arguments.controls or ()))
    energy = pack.configs.energy
    if arguments.controls:
        energy = dataclasses.replace(energy, controls=tuple(arguments.controls))
    config = EmbedConfig(energy=energy, stages=stages)
    folder, resolution = pathlib.Path(arguments.out), pack.configs.generator.resolution
    key = key_of(pack, label) | {"of": arguments.photos or "studio"}
    kept, lines = folder / "embeddings" / f"{key['pack']}_{label}", folder / "portraits.jsonl"

    if arguments.photos is None:
        from pie_jax.studio.head import build_head

        head = build_head()
        todo = [portraits.photograph(head, arguments.seed + i, resolution=resolution) for i in range(arguments.count)]
    else:
        head = None
        todo = portraits.photos(arguments.photos, count=arguments.count, resolution=resolution)
    for first in range(0, len(todo), arguments.batch):
        done = {row["seed"] for row in rows(lines, **key)}
        batch = [portrait for portrait in todo[first:first + arguments.batch] if portrait.seed not in done]
        made = embedded(pack, batch, config, kept, batch=arguments.batch) if batch else []
        for portrait, embedding in zip(batch, made, strict=True):
            truths = portraits.true_edits(head, portrait, EDITS) if head is not None else {}
            edited = edit_all(pack, embedding)
            row = key | {"seed": portrait.seed, "seconds": embedding.report["seconds_per_portrait"]}
            row |= measure(pack, embedding, portrait, edited, truths)
            add(lines, row)
            strip(portrait, edited, truths).save(folder / f"{portrait.seed:06d}.png")
            print(f"portrait {portrait.seed}: {row['psnr_db']:.2f} dB, {row['seconds']:.0f} s", file=sys.stderr,
                  flush=True)
    found = rows(lines, **key)
    figures = key | summary(found) | {"judge": judge.load()[1]["held_out"]}
    if head is not None and knows_the_family(pack):
        store = folder / "response.jsonl"
        if not rows(store, pack=key["pack"]):
            add(store, {"pack": key["pack"]} | generator_response(pack, head))
        figures |= rows(store, pack=key["pack"])[0]
    figures = rounded(figures)
    (folder / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(found, folder)
    whose = "of unseen people" if head is not None else f"in {arguments.photos}, no truth"
    print(table(figures, title=f"Pack {pack.name} ({key['pack']}, calibration {key['calibration']}, "
                               f"{resolution} px), preset {label}: {len(found)} portraits {whose}"))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
