"""Edits against the truth: studio portraits the pack never saw, embedded and edited, beside what the studio renders.

    python -m benchmarks.quality --pack demo --count 16 --preset paper --out benchmarks/results/quality
    python -m benchmarks.quality PHOTO_FOLDER --out runs/photos          # no truth: what can be measured without one

Each portrait gives one row in `portraits.jsonl`: fidelity, what a regressor reads from every edit beside what was
asked, and for studio portraits the PSNR to the *true* edited portrait of the edited and of the unedited synthesis
(whole image, face, the region that the edit moves, mouth), because a whole image hardly feels an expression. Seeds
that have a row are skipped, so a run can be stopped, continued and shared between processes; embeddings are kept in
`embeddings/`, so new measures need no new embedding. The last line of stdout is one JSON object of all rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import time

TRAINED_FROM = 1_000_000  # the first seed that training may use


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.split("\n")[0])
    result.add_argument("photos", nargs="?", metavar="FOLDER", help="portraits without truth, instead of the studio's")
    result.add_argument("--pack", default="demo")
    result.add_argument("--count", type=int, default=16, help="portraits (default: %(default)s)")
    result.add_argument("--seed", type=int, default=100, help="of the first portrait (default: %(default)s)")
    result.add_argument("--preset", choices=("paper", "draft"), default="paper")
    result.add_argument("--steps", help="W,WPLUS instead of the preset's")
    result.add_argument("--controls", nargs="+", help="that the energy trains for (default: the pack's)")
    result.add_argument("--batch", type=int, default=1, help="portraits embedded at once (default: %(default)s)")
    result.add_argument("--out", default="runs/quality", metavar="DIR")
    return result


def config_of(arguments: argparse.Namespace, pack):
    """The EmbedConfig that the flags ask for."""
    from pie_jax.config import EmbedConfig
    from pie_jax.embed.arguments import PRESETS

    stages, energy = PRESETS[arguments.preset], pack.configs.energy
    if arguments.steps:
        steps = [int(part) for part in arguments.steps.split(",")]
        stages = tuple(dataclasses.replace(stage, steps=n) for stage, n in zip(stages, steps, strict=True))
    if arguments.controls:
        energy = dataclasses.replace(energy, controls=tuple(arguments.controls))
    return EmbedConfig(energy=energy, stages=stages)


def embedded(pack, portraits, config, folder: pathlib.Path, *, batch: int):
    """The Embedding of every Portrait and its seconds: read from `folder` where this pack and config made it."""
    import numpy as np

    from pie_jax.errors import InputError
    from pie_jax.portrait import Embedding, embed_portraits

    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for portrait in portraits:
        try:
            embedding = Embedding.load(folder / f"{portrait.seed:06d}.npz")
        except InputError:
            continue
        if embedding.pack_hash == pack.hash and embedding.config == config:
            found[portrait.seed] = embedding
    missing = [portrait for portrait in portraits if portrait.seed not in found]
    if missing:
        began = time.perf_counter()
        made = embed_portraits(pack, np.stack([p.image for p in missing]), config=config, batch=batch)
        seconds = (time.perf_counter() - began) / len(missing)
        for portrait, embedding in zip(missing, made, strict=True):
            embedding = dataclasses.replace(embedding, report=embedding.report | {"seconds_per_portrait": seconds})
            embedding.save(folder / f"{portrait.seed:06d}.npz")
            found[portrait.seed] = embedding
    return [found[portrait.seed] for portrait in portraits]


def photographs(arguments: argparse.Namespace, head, resolution: int) -> list:
    """The portraits to measure: the studio's of the seeds asked for, or the photos of the folder (seed: place)."""
    from benchmarks.quality.measure import Portrait, photograph
    from pie_jax.embed.photos import collect
    from pie_jax.images import load_portrait

    if arguments.photos is None:
        seeds = range(arguments.seed, arguments.seed + arguments.count)
        return [(seed, lambda seed=seed: photograph(head, seed, resolution=resolution)) for seed in seeds]
    files = [photo.path for photo in collect([arguments.photos])][:arguments.count]

    def load(place, path):
        image = load_portrait(path, resolution=resolution)
        return Portrait(seed=place, image=image, coverage=None, landmarks=None, scene=None)

    return [(place, lambda place=place, path=path: load(place, path)) for place, path in enumerate(files)]


def rounded(value):
    """Numbers to four digits after the point, through dicts."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def show(figures: dict, indent: str = "") -> None:
    """The figures as lines of name and value."""
    for name, value in figures.items():
        if isinstance(value, dict) and all(isinstance(part, dict) for part in value.values()):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        elif isinstance(value, dict):
            print(f"{indent}{name:24s} " + "  ".join(f"{key} {part}" for key, part in value.items()))
        else:
            print(f"{indent}{name:24s} {value}")


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    if not 0 <= arguments.seed <= TRAINED_FROM - arguments.count:
        raise SystemExit(f"--seed: expected 0..{TRAINED_FROM - arguments.count}; later ones belong to training")

    from benchmarks.quality.measure import measure
    from benchmarks.quality.summary import summary
    from pie_jax.pack import load_pack
    from pie_jax.portrait.edits import expression_names
    from pie_jax.runtime import configure
    from pie_jax.studio.head import build_head

    configure()
    pack = load_pack(arguments.pack)
    head = build_head() if arguments.photos is None else None
    config = config_of(arguments, pack)
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "portraits.jsonl"

    def rows():
        found = [json.loads(line) for line in table.read_text().splitlines()] if table.is_file() else []
        return [row for row in found if row["pack"] == pack.hash[:12]]

    todo = photographs(arguments, head, pack.configs.generator.resolution)
    for first in range(0, len(todo), arguments.batch):
        done = {row["seed"] for row in rows()}
        portraits = [make() for seed, make in todo[first:first + arguments.batch] if seed not in done]
        if not portraits:
            continue
        made = embedded(pack, portraits, config, folder / "embeddings", batch=arguments.batch)
        for portrait, embedding in zip(portraits, made, strict=True):
            row = {"seed": portrait.seed, "pack": pack.hash[:12],
                   "seconds": embedding.report["seconds_per_portrait"]}
            row |= measure(pack, embedding, portrait, head, folder=folder, names=expression_names(pack))
            with table.open("a") as file:
                file.write(json.dumps(rounded(row)) + "\n")
            print(f"portrait {portrait.seed}: {row['psnr_db']:.2f} dB, {row['seconds']:.0f} s", file=sys.stderr,
                  flush=True)
    figures = rounded(summary(rows()))
    (folder / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")
    show(figures)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
