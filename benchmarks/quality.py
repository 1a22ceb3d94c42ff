"""Edits against the truth: studio portraits the pack never saw, embedded and edited, beside what the studio renders.

    python -m benchmarks.quality --pack demo --count 16 --preset paper --out benchmarks/results/quality

Each portrait gives one row in `portraits.jsonl`: fidelity (PSNR, SSIM), the yaw that a regressor reads from edits to
-15, 0 and 15 degrees, and for every edit the PSNR to the *true* edited portrait, of the edited and of the unedited
synthesis (whole image; for an expression the mouth too, because a whole image hardly feels it). Seeds that have a row
are skipped, so a run can be stopped, continued and shared between processes; the summary is of all rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import time

TRAINED_FROM = 1_000_000  # the first seed that training may use
YAWS = (-15.0, 0.0, 15.0)
LIGHTS = ((-45.0, 20.0, 0.65), (45.0, 20.0, 0.65))
LIT = ("light-45", "light+45")
EXPRESSIONS = {"jaw_open": 2.0, "smile": 2.0}
MOUTH_MARGIN = 0.04  # of the portrait, round the box of the mouth's landmarks


def edits():
    """name -> keyword arguments of `edit_portrait`."""
    out = {f"yaw{value:+.0f}": {"yaw": value} for value in YAWS}
    out |= {f"light{light[0]:+.0f}": {"light": light} for light in LIGHTS}
    return out | {name: {"expression": {name: value}} for name, value in EXPRESSIONS.items()}


def true_scene(head, scene, edit: dict):
    """The scene [1] with that edit done to the person and not to the picture."""
    import jax.numpy as jnp

    from pie_jax.render import light
    from pie_jax.studio.names import EXPRESSION_NAMES
    from pie_jax.studio.scene import posed, with_params

    if "yaw" in edit:
        return posed(head, scene, scene.params.rotation.at[:, 1].set(math.radians(edit["yaw"])))
    if "light" in edit:
        return with_params(scene, illumination=light(*edit["light"], ambient=0.38)[None])
    expression = scene.params.expression
    for name, value in edit["expression"].items():
        expression = expression.at[:, EXPRESSION_NAMES.index(name)].set(jnp.float32(value))
    return with_params(scene, expression=expression)


def mouth_box(landmarks, resolution: int) -> tuple[slice, slice]:
    """Rows and columns of the mouth of landmarks [66, 2] px, with a margin."""
    import numpy as np

    low = np.floor(landmarks[48:].min(0) - MOUTH_MARGIN * resolution).astype(int).clip(0)
    high = np.ceil(landmarks[48:].max(0) + MOUTH_MARGIN * resolution).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def decibels(image, truth) -> float:
    """PSNR in dB of images in 0..1."""
    import numpy as np

    return float(-10 * np.log10(np.mean(np.square(image - truth)) + 1e-10))


def measure(pack, head, seed: int, config, folder: pathlib.Path) -> dict:
    """One portrait, one row; writes its strip of pictures."""
    import jax
    import numpy as np

    from pie_jax.images import save_png
    from pie_jax.portrait import edit_portrait, embed_portraits
    from pie_jax.portrait.edits import params_of
    from pie_jax.studio.family import scenes_of_seeds
    from pie_jax.studio.render import render_scenes

    size = pack.configs.generator.resolution

    def render(scene):
        seen = render_scenes(head, scene, resolution=2 * size)
        small = np.asarray(seen.images[0]).reshape(size, 2, size, 2, 3).mean((1, 3))
        return np.clip(small, 0, 1), np.asarray(seen.landmarks[0]) / 2

    scene = scenes_of_seeds([seed], head=head)
    photo, landmarks = render(scene)
    began = time.perf_counter()
    embedding = embed_portraits(pack, photo[None], config=config)[0]
    row = {"seed": seed, "seconds": round(time.perf_counter() - began, 2), "pack": pack.hash[:12],
           "outcome": embedding.report["outcome"]}
    synthesis = edit_portrait(pack, embedding)
    row |= {name: embedding.report["figures"][name] for name in ("psnr_db", "ssim")}
    pictures = [photo, synthesis]
    for name, edit in edits().items():
        image = edit_portrait(pack, embedding, **edit)
        truth, moved = render(true_scene(head, scene, edit))
        found = {"truth_db": decibels(image, truth), "unedited_db": decibels(synthesis, truth)}
        if "yaw" in edit:
            rotation = np.asarray(params_of(pack, image).rotation)
            found["regressed_yaw_degrees"] = float(np.degrees(rotation[1]))
        if "expression" in edit:
            boxes = [mouth_box(points, size) for points in (landmarks, moved)]
            box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(*boxes))
            found |= {"mouth_db": decibels(image[box], truth[box]),
                      "mouth_unedited_db": decibels(synthesis[box], truth[box])}
        row[name] = {key: round(value, 3) for key, value in found.items()}
        pictures += [image, truth]
    save_png(folder / f"{seed:06d}.png", np.concatenate(pictures, axis=1))
    jax.block_until_ready(pack.weights)
    return row


def summary(rows: list[dict]) -> dict:
    """The figures of all rows: medians, counts and gains."""
    import numpy as np

    def gain(name, mouth=False):
        ours, before = ("mouth_db", "mouth_unedited_db") if mouth else ("truth_db", "unedited_db")
        return [row[name][ours] - row[name][before] for row in rows]

    yaws = [[row[f"yaw{value:+.0f}"]["regressed_yaw_degrees"] for value in YAWS] for row in rows]
    out = {"count": len(rows), "psnr_median": float(np.median([row["psnr_db"] for row in rows])),
           "ssim_median": float(np.median([row["ssim"] for row in rows])),
           "yaw_in_order": int(sum(a < b < c for a, b, c in yaws)),
           "yaw_slope": float(np.polyfit(np.tile(YAWS, len(rows)), np.ravel(yaws), 1)[0]),
           "yaw_mae_degrees": float(np.mean(np.abs(np.asarray(yaws) - np.asarray(YAWS)))),
           "truth_gain_db": {"yaw": float(np.median(gain("yaw-15") + gain("yaw+15"))),
                             "light": float(np.median(gain("light-45") + gain("light+45")))},
           "truth_db": {"yaw": float(np.median([row[n]["truth_db"] for row in rows for n in ("yaw-15", "yaw+15")])),
                        "light": float(np.median([row[n]["truth_db"] for row in rows for n in LIT]))},
           "seconds_per_portrait": float(np.median([row["seconds"] for row in rows]))}
    for name in EXPRESSIONS:
        closer = gain(name, mouth=True)
        out |= {f"{name}_mouth_closer": int(sum(value > 0 for value in closer)),
                f"{name}_mouth_gain_db": float(np.median(closer))}
    return out


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.split("\n")[0])
    parser.add_argument("--pack", default="demo")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=100, help="of the first portrait (default: %(default)s)")
    parser.add_argument("--preset", choices=("paper", "draft"), default="paper")
    parser.add_argument("--steps", help="W,WPLUS instead of the preset's")
    parser.add_argument("--controls", nargs="+", help="that the energy trains for (default: the pack's)")
    parser.add_argument("--out", default="runs/quality", metavar="DIR")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.seed <= TRAINED_FROM - arguments.count:
        parser.error(f"--seed: expected 0..{TRAINED_FROM - arguments.count}; later ones belong to training")

    from pie_jax.config import EmbedConfig
    from pie_jax.embed.arguments import PRESETS
    from pie_jax.pack import load_pack
    from pie_jax.runtime import configure
    from pie_jax.studio.head import build_head

    configure()
    pack, head = load_pack(arguments.pack), build_head()
    stages = PRESETS[arguments.preset]
    if arguments.steps:
        steps = [int(part) for part in arguments.steps.split(",")]
        stages = tuple(dataclasses.replace(stage, steps=n) for stage, n in zip(stages, steps, strict=True))
    energy = pack.configs.energy
    if arguments.controls:
        energy = dataclasses.replace(energy, controls=tuple(arguments.controls))
    config = EmbedConfig(energy=energy, stages=stages)
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "portraits.jsonl"

    def rows():
        found = [json.loads(line) for line in table.read_text().splitlines()] if table.is_file() else []
        return [row for row in found if row["pack"] == pack.hash[:12]]

    for seed in range(arguments.seed, arguments.seed + arguments.count):
        if seed in {row["seed"] for row in rows()}:
            continue
        row = measure(pack, head, seed, config, folder)
        with table.open("a") as file:
            file.write(json.dumps(_rounded(row)) + "\n")
        print(f"portrait {seed}: {row['psnr_db']:.2f} dB, {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    figures = _rounded(summary(rows()))
    (folder / "summary.json").write_text(json.dumps(figures, indent=1) + "\n")
    for name, value in figures.items():
        print(f"{name:24s} {value}")
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
