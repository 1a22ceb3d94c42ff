"""What every training command shares: its flags, its exit code, its record in the manifest."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pie_jax.cli import command
from pie_jax.config import CameraConfig
from pie_jax.errors import EXIT_INTERRUPTED, EXIT_OK, PackError, UsageError

if TYPE_CHECKING:
    from pie_jax.training.core.loop import RunResult


def parser_of(name: str, *, module: str, description: str | None, steps: int, batch: int,
              rate: float | None = None) -> command.Parser:
    """A parser with the flags that every training has: --pack --run --steps --minutes --seed --batch --restart.

    rate: the default of --rate, for those that go by Adam.
    """
    parser = command.Parser(module=module, description=description)
    parser.add_argument("--pack", default="demo", metavar="DIR", help="the pack that is read and whose part is written")
    parser.add_argument("--run", default=f"runs/{name}", metavar="DIR",
                        help="run folder: checkpoint and log (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=None,
                        help=f"stop after this many steps in all (default: {steps} unless --minutes)")
    parser.add_argument("--minutes", type=float, default=None, help="stop after this many minutes of training in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=batch, help="images a step (default: %(default)s)")
    parser.add_argument("--restart", action="store_true", help="forget the checkpoint in the run folder")
    if rate is not None:
        parser.add_argument("--rate", type=float, default=rate,
                            help="Adam's peak learning rate (default: %(default)s)")
    command.add_autotune(parser)
    command.add_debug(parser)
    parser.set_defaults(default_steps=steps)
    return parser


def check_budget(arguments: argparse.Namespace) -> argparse.Namespace:
    """The same namespace with --steps filled in when neither budget was given; UsageError on a senseless one."""
    if arguments.steps is not None and arguments.steps < 0:
        raise UsageError(f"--steps: expected 0 or more, got {arguments.steps}")
    if arguments.minutes is not None and not arguments.minutes > 0:
        raise UsageError(f"--minutes: expected more than 0, got {arguments.minutes}")
    if arguments.batch < 1:
        raise UsageError(f"--batch: expected 1 or more, got {arguments.batch}")
    if arguments.steps is None and arguments.minutes is None:
        arguments.steps = arguments.default_steps
    return arguments


def run_command(work: Callable[[argparse.Namespace], RunResult | None], parser: command.Parser,
                argv: Sequence[str] | None) -> int:
    """A training's whole command: parse, check the budget, set JAX up, call `work(arguments)`; its exit code."""
    @command.guarded_main
    def main(argv: list[str]) -> int:
        arguments = check_budget(parser.parse_args(argv))
        command.configure("auto", autotune=arguments.autotune)
        result = work(arguments)
        return EXIT_INTERRUPTED if result is not None and result.outcome == "interrupted" else EXIT_OK

    return main(argv)


def record(result: RunResult, arguments: argparse.Namespace, *, module: str, **more) -> dict:
    """What the manifest keeps of a training: command, seed, batch, steps, seconds, final terms, held-out metrics."""
    skip = {"debug", "restart", "run", "default_steps", "autotune"}
    flags = {key: value for key, value in vars(arguments).items() if key not in skip}
    words = [f"--{key.replace('_', '-')}" + ("" if value is True else f" {_words(value)}")
             for key, value in flags.items() if value is not None and value is not False and key != "pack"]
    return {"command": " ".join([f"python -m pie_jax.training.{module} --pack PACK", *words]), "seed": arguments.seed,
            "batch": arguments.batch, "steps": result.steps, "seconds": round(result.seconds, 1),
            "items_per_second": round(result.items_per_second, 1),
            "terms": {key: float(f"{value:.5g}") for key, value in result.terms.items()},
            "held_out": {key: float(f"{value:.5g}") for key, value in result.metrics.items()}} | more


def _words(value: object) -> str:
    return " ".join(str(each) for each in value) if isinstance(value, list | tuple) else str(value)


def camera_of(arguments: argparse.Namespace) -> CameraConfig:
    """The camera of --pack, or with --studio the studio's own (and it is written into a pack that has another)."""
    from pie_jax.pack import configs_of, find_pack, read_manifest, update_configs

    if not getattr(arguments, "studio", False):
        return configs_of(read_manifest(find_pack(arguments.pack))).camera
    from pie_jax.studio.scene import STUDIO_CAMERA

    try:
        camera = configs_of(read_manifest(find_pack(arguments.pack))).camera
    except PackError:  # a new pack
        camera = None
    if camera != STUDIO_CAMERA:
        update_configs(arguments.pack, camera=STUDIO_CAMERA)
    return STUDIO_CAMERA
