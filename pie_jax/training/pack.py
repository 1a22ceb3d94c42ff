"""A pack of the people, paintings or animals in a folder of pictures, one command after another.

    pie train pack --photos FOLDER --resolution 64 -o PACK

Pictures are framed and sorted; a generator learns to paint such portraits; the regressor, whose first weights are those
of --start, learns to read them; DFR, rigs, pool, weights of the energy and calibration follow; page.html shows what
came of it. Every stage is an ordinary command with a run folder of its own, so the whole can be stopped at any time and
called again. Parts that know nothing of the pictures (face model, landmarks, features, photo networks) are those of
--start. A face_descriptor that was converted into PACK (`python -m converters.tfjs`) also measures the samples.
"""

from __future__ import annotations

import argparse
import pathlib

from pie_jax.cli import command
from pie_jax.errors import UsageError
from pie_jax.training.core.stages import Plan, Stage, add_only, check_only, run_stages

TAKEN = ("regressor", "landmarks", "perceptual", "recognition", "face_detector", "face_mesh", "person_matte", "mouth",
         "morphable")
BUDGETS = {64: (20.0, 480.0), 128: (60.0, 1440.0)}  # minutes of one core: decoded, adversarial


def stages(arguments: argparse.Namespace, sizes: list[str]) -> list[Stage]:
    """Every stage in order. sizes: flags of the network that --start has as its regressor."""
    plan = Plan(pack=str(arguments.out), runs=pathlib.Path(arguments.runs), scale=arguments.scale, seed=arguments.seed)
    pack, framed, resolution = plan.pack, str(plan.runs / "photographs"), str(arguments.resolution)
    decoded, adversarial = BUDGETS[arguments.resolution]
    adversarial = adversarial if arguments.hours is None else 60.0 * arguments.hours
    generator = ["--photos", framed, "--resolution", resolution, "--judges", pack, "--start", arguments.start]
    codes = ["--codes", str(plan.runs / "codes"), "--count", plan.count(8000, least=64)]
    return [
        ("photographs", "training.photographs", [
            "--photos", *arguments.photos, "--resolution", resolution, "-o", framed, "--pack", arguments.start,
            "--held-out", str(arguments.held_out)]),
        ("decoded", "training.generator", [
            *plan.run("decoded"), "--stage", "decoded", *generator, *plan.minutes(decoded)]),
        ("adversarial", "training.generator", [
            *plan.run("adversarial"), "--stage", "adversarial", *generator, "--learning-rate", "0.002",
            *plan.minutes(adversarial)]),
        ("regressor", "training.regressor", [
            *plan.run("regressor"), "--warm", "--photos", framed, "--batch", "16", "--rate", "0.0003", *sizes,
            *plan.minutes(40)]),
        *plan.rigs(codes),
        ("pool", "tuning.pool", ["--pack", pack, "--size", plan.count(500, least=8)]),
        ("balance", "tuning.balance", ["--pack", pack, "--count", plan.count(6, least=2)]),
        plan.calibrate(),
        ("page", "training.photograph_page", ["--pack", pack, "--photos", framed, "-o", str(plan.runs / "page")]),
    ]


def begin(out: str, start: str) -> None:
    """The parts of --start that the pack does not have yet, its camera and its licence."""
    from pie_jax.errors import PackError
    from pie_jax.pack import is_network, load_pack, read_manifest, update_configs, update_part

    try:
        there = set(read_manifest(pathlib.Path(out))["parts"])
    except PackError:  # a new pack
        there = set()
    missing = tuple(name for name in TAKEN if name not in there)
    if not missing:
        return
    old = load_pack(start, parts=missing)
    made = old.manifest.get("training", {})
    for name in missing:
        if is_network(name) and name in old.weights:
            update_part(out, name, old.weights[name], config=old.configs.of(name), record=made.get(name))
    if old.morphable is not None and "morphable" in missing:
        update_part(out, "morphable", old.morphable, record=made.get("morphable"))
        update_configs(out, camera=old.configs.camera, licence="that of the pictures it was trained on")


@command.guarded_main
def main(argv: list[str]) -> int:
    parser = command.Parser(module="pie_jax.training.pack", description=__doc__)
    parser.add_argument("--photos", required=True, nargs="+", metavar="FOLDER", help="pictures of faces")
    parser.add_argument("--resolution", type=int, choices=tuple(BUDGETS), default=64, help="of the generator")
    parser.add_argument("-o", "--out", required=True, metavar="PACK", help="the pack to make")
    parser.add_argument("--runs", default=None, metavar="DIR",
                        help="run folders, portraits and page (default: PACK_runs beside the pack)")
    parser.add_argument("--start", default="demo", metavar="PACK", help="the pack whose networks are the first ones")
    parser.add_argument("--held-out", type=int, default=40, metavar="N", help="pictures that are never trained on")
    parser.add_argument("--hours", type=float, default=None, metavar="N",
                        help="of the adversarial stage (default: 8 at 64 px, 24 at 128 px)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of every budget")
    parser.add_argument("--seed", type=int, default=0)
    add_only(parser)
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)
    if not arguments.scale > 0 or (arguments.hours is not None and not arguments.hours > 0):
        raise UsageError("--scale, --hours: expected more than 0")
    if arguments.runs is None:
        arguments.runs = f"{arguments.out.rstrip('/')}_runs"
    command.configure("auto", autotune=arguments.autotune)
    from pie_jax.pack import configs_of, find_pack, read_manifest

    regressor = configs_of(read_manifest(find_pack(arguments.start))).regressor
    if regressor is None:
        raise UsageError(f"--start: {arguments.start} has no regressor; name a pack that has one")
    sizes = ["--stage-sizes", ",".join(str(n) for n in regressor.stage_sizes), "--width", str(regressor.width),
             "--resolution", str(regressor.resolution), *(["--bottleneck"] if regressor.bottleneck else [])]
    todo = stages(arguments, sizes)
    check_only(arguments.only, todo)
    begin(arguments.out, arguments.start)
    return run_stages("pack", pathlib.Path(arguments.runs), todo, only=arguments.only)


if __name__ == "__main__":
    raise SystemExit(main())
