"""`python -m pie_jax.training.demo_pack --pack DIR`: the demo pack from nothing, one command after another.

Every stage is an ordinary training command with its own run folder, so the whole can be stopped at any time and
called again: finished stages are skipped, the one at hand is resumed. `--scale` multiplies all budgets: 0.01 is a
smoke test, 1 the shipped pack (about eight hours of one CPU core). The generator learns at 64 px and is then grown.
"""

from __future__ import annotations

import argparse
import pathlib

from pie_jax.cli import command
from pie_jax.training.core.stages import Plan, Stage, add_only, check_only, run_stages

SAMPLE_SEED = 16  # of the person that ships beside the pack, smiling a little; below every training seed


def stages(arguments: argparse.Namespace) -> list[Stage]:
    """Every stage in order."""
    plan = Plan(pack=str(arguments.pack), runs=pathlib.Path(arguments.runs), scale=arguments.scale, seed=arguments.seed)
    rendered, family = str(plan.runs / "studio"), str(plan.runs / "family")
    studio = ["--studio", "--data", rendered]
    pool = ["--codes", str(plan.runs / "codes"), "--count", plan.count(16_000, least=512)]
    sizes = [size for size in (64, 128) if size <= arguments.resolution]
    budgets = {64: ("0.004", "8", "0", 120), 128: ("0.0035", "16", "1", 230)}  # rate, pair, gain, minutes
    return [
        ("studio_data", "training.studio_data", [
            "--data", rendered, "--count", plan.count(8016, least=240, multiple=48)]),
        ("family_data", "training.family_data", [
            "--data", family, "--count", plan.count(15_000, least=64), "--resolution", "128"]),
        ("regressor", "training.regressor", [
            *plan.run("regressor"), *studio, "--family", family, "--painted", "0", "--render-rows", "0",
            "--resolution", "96", "--rate", "0.0015", *plan.minutes(115)]),
        ("landmarks", "training.landmarks", [
            *plan.run("landmarks"), *studio, "--resolution", "128", *plan.minutes(11)]),
        ("perceptual", "training.perceptual", [*plan.run("perceptual"), *studio, *plan.minutes(3)]),
        ("recognition", "training.recognition", [*plan.run("recognition"), *studio, *plan.minutes(4)]),
        *((f"generator_{size}", "training.generator", [
            *plan.run(f"generator_{size}"), "--data", family, "--resolution", str(size),
            "--learning-rate", budgets[size][0], "--region", "60", "--pair", budgets[size][1],
            "--gain", budgets[size][2], *plan.minutes(budgets[size][3])])
          for size in sizes),
        ("encoder", "training.encoder", [
            *plan.run("encoder"), "--family", family, "--resolution", "64", "--width", "16", "--hidden", "128",
            "--common-only", "--rounds", "1", "--pixels", "0", "--perceptual", "0", "--mixed", "0", "--spread", "0.05",
            "--batch", "32", *plan.minutes(41)]),
        *plan.rigs(pool),
        ("pool", "tuning.pool", ["--pack", plan.pack, "--size", "500"]),
        ("balance", "tuning.balance", ["--pack", plan.pack]),
        plan.calibrate(),
    ]


def begin(pack: str) -> None:
    """The parts that are built and not trained: morphable model, camera, the portrait that ships beside them."""
    import numpy as np

    from pie_jax.io import save_png
    from pie_jax.pack import update_configs, update_part
    from pie_jax.studio.family import scenes_of_seeds
    from pie_jax.studio.head import build_head
    from pie_jax.studio.names import EXPRESSION_NAMES
    from pie_jax.studio.render import render_scenes
    from pie_jax.studio.scene import STUDIO_CAMERA, with_params

    head = build_head()
    record = {"command": "python -m pie_jax.training.demo_pack", "source": "pie_jax.studio.head"}
    update_part(pack, "morphable", head.morphable, record=record)
    update_configs(pack, camera=STUDIO_CAMERA, licence="Apache-2.0")
    scene = scenes_of_seeds([SAMPLE_SEED], head=head)
    smile = np.zeros((1, len(EXPRESSION_NAMES)), np.float32)
    smile[:, EXPRESSION_NAMES.index("smile")] = 1.0
    image = render_scenes(head, with_params(scene, expression=smile), resolution=256).images[0]
    save_png(pathlib.Path(pack) / "sample.png", np.asarray(image))


@command.guarded_main
def main(argv: list[str]) -> int:
    parser = command.Parser(module="pie_jax.training.demo_pack", description=__doc__)
    parser.add_argument("--pack", default="runs/demo_pack", metavar="DIR",
                        help="the pack to make (default: %(default)s)")
    parser.add_argument("--runs", default="runs", metavar="DIR", help="run folders and rendered data")
    parser.add_argument("--resolution", type=int, choices=(64, 128), default=128,
                        help="of the generator (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of every budget (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    add_only(parser)
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)
    todo = stages(arguments)
    check_only(arguments.only, todo)
    command.configure("auto", autotune=arguments.autotune)
    if not (pathlib.Path(arguments.pack) / "manifest.json").is_file():
        begin(arguments.pack)
    return run_stages("demo_pack", pathlib.Path(arguments.runs), todo, only=arguments.only)


if __name__ == "__main__":
    raise SystemExit(main())
