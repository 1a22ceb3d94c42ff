"""The command line of `python -m pie_jax.embed`, derived from the configs. Imports no JAX."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence

from pie_jax.cli import command
from pie_jax.config import (
    CONTROLS,
    DEFAULT_PRESET,
    PRECISIONS,
    PRESETS,
    TERMS,
    EmbedConfig,
    EnergyConfig,
    StageConfig,
    preset_stages,
)
from pie_jax.embed.share import add_share, check_share
from pie_jax.errors import UsageError, choose

_FIELDS = tuple(field.name for field in dataclasses.fields(EnergyConfig))
WEIGHTS = tuple(name.removeprefix("weight_") for name in _FIELDS if name.startswith("weight_"))

_EPILOG = """\
For each photo OUT/<name>/ gets embedding.npz, synthesis.png, grid.png, energy.png and report.json.
A run that was interrupted goes on where it was when the same command is run again; finished photos are skipped.
Exit codes: 0 ok, 1 some photos failed, 2 usage, 3 bad input, 4 pack missing or damaged, 6 numerics,
7 no space, memory or permission, 130 interrupted.
"""

MOST_SAMPLES = 1024


def parser() -> command.Parser:
    """All flags with their defaults."""
    p = command.Parser(module="pie_jax.embed", epilog=_EPILOG,
                       description="Find the generator's code of a portrait, so that it can be edited.")
    p.add_argument("photos", nargs="*", metavar="PHOTO", help="JPEG, PNG or WebP files, folders of them, or patterns")
    p.add_argument("--list", action="append", metavar="FILE", help="text file with one PHOTO a line (repeatable)")
    p.add_argument("-o", "--out", default="out", metavar="DIR", help="where the results go")
    p.add_argument("--demo", action="store_true", help="embed the sample portrait that ships with the pack; with the "
                   "word photo after it the sample photo")
    command.add_common(p)
    p.add_argument("--no-align", dest="align", action="store_false",
                   help="take the middle square of each photo; without it faces are framed as FFHQ frames them")
    p.add_argument("--face", type=_face, metavar="N|all",
                   help="which face of a photo, the largest is 1; all: a folder for each; default: the largest")
    p.add_argument("--landmarks", metavar="FILE",
                   help="JSON or NPZ: photo's file name to its 66, 68 or 478 points in px; no face is looked for")
    p.add_argument("--preset", default=DEFAULT_PRESET, metavar="NAME",
                   help=f"optimiser, steps and where they begin: {', '.join(PRESETS)}")
    p.add_argument("--steps", metavar="W,WPLUS", help="steps in W and in W+ instead of the preset's; one number: "
                   "steps in W+ from the guess of the pack's encoder")
    p.add_argument("--control", action="append", metavar="NAME",
                   help=f"control the energy trains for (repeatable): {', '.join(CONTROLS)}; default: the pack's")
    p.add_argument("--terms", action="append", metavar="NAMES",
                   help=f"terms of the energy: {', '.join(TERMS)}; default: the pack's")
    p.add_argument("--weight", action="append", metavar="NAME=X",
                   help=f"weight in the energy (repeatable): {', '.join(WEIGHTS)}; default: the pack's")
    p.add_argument("--samples", type=int, metavar="K", help="samples of v at each step; default: the pack's")
    p.add_argument("--batch", type=int, default=1, metavar="N", help="photos optimised side by side")
    p.add_argument("--micro-batch", type=int, metavar="N", help="photos of a batch in one program on each device: "
                   "memory grows with it; default: on a CPU as many as gain time, elsewhere the whole batch")
    p.add_argument("--devices", type=int, metavar="N", help="share each batch out over N devices, as many on each; "
                   "default: every accelerator of this process, or one CPU")
    p.add_argument("--seed", type=int, default=0, help="decides the samples of v")
    p.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto",
                   help="of the steps' convolutions; auto: what is measured to be faster on the device, else float32")
    p.add_argument("--restart", action="store_true", help="do photos again, finished or not")
    p.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    p.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_share(p)
    return p


def _face(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, or all, got {text!r}")
    return int(text)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; UsageError (or SystemExit after --help and --version)."""
    arguments = parser().parse_args(argv)
    arguments.words = list(argv)  # how to go on is said in them
    arguments.sample = "sample" if arguments.demo else None
    if arguments.demo and "photo" in arguments.photos and not os.path.lexists("photo"):
        arguments.photos.remove("photo")
        arguments.sample = "photo"
    if not arguments.photos and not arguments.list and not arguments.demo:
        raise UsageError("no photo given; name files or folders, or use --demo")
    if arguments.batch < 1:
        raise UsageError(f"--batch: expected 1 or more, got {arguments.batch}")
    for flag, value in (("--micro-batch", arguments.micro_batch), ("--devices", arguments.devices)):
        if value is not None and value < 1:
            raise UsageError(f"{flag}: expected 1 or more, got {value}")
    check_share(arguments)
    if arguments.samples is not None and not 1 <= arguments.samples <= MOST_SAMPLES:
        raise UsageError(f"--samples: expected 1 to {MOST_SAMPLES}, got {arguments.samples}")
    if not 0 <= arguments.seed < 2**31:
        raise UsageError(f"--seed: expected 0 to {2**31 - 1}, got {arguments.seed}")
    choose("--preset", arguments.preset, PRESETS)
    arguments.steps = _steps(arguments.steps, preset=arguments.preset)
    arguments.control = command.list_of("--control", arguments.control, CONTROLS)
    arguments.terms = command.list_of("--terms", arguments.terms, TERMS)
    arguments.weight = tuple(_weight(text) for text in arguments.weight or ())
    return arguments


def _steps(text: str | None, *, preset: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    forms = [tuple("WPLUS" if stage.space == "w_plus" else "W" for stage in form) for form in _forms(preset)]
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = ()
    if len(steps) not in map(len, forms):
        expected = " or ".join(("a whole number " if len(spaces) == 1 else f"{len(spaces)} whole numbers ")
                               + ",".join(spaces) for spaces in forms)
        raise UsageError(f"--steps: expected {expected}, got {text!r}")
    if min(steps) < 0:
        raise UsageError(f"--steps: expected 0 or more, got {text!r}")
    return steps


def _forms(preset: str) -> list[tuple[StageConfig, ...]]:
    """A preset's stages, and those that it has in a pack with an encoder."""
    return list(dict.fromkeys(preset_stages(preset, encoder=encoder) for encoder in (False, True)))


def _weight(text: str) -> tuple[str, float]:
    name, value = command.assignment("--weight", text)
    parts = {"synthesis": "l2, perceptual", "recognition": "recognition_w, recognition_edit"}
    if name in parts:
        raise UsageError(f"--weight: the term {name!r} has a weight for each part: {parts[name]}")
    choose("--weight", name, WEIGHTS)
    if value < 0:
        raise UsageError(f"--weight {name}: expected 0 or more, got {value:g}")
    return name, value


def embed_config(arguments: argparse.Namespace, defaults: EnergyConfig, *, encoder: bool = False) -> EmbedConfig:
    """The run's config: the pack's energy `defaults`, the preset's stages, and what the arguments change.

    encoder: whether the pack has one. --steps of two numbers choose the search in W and W+, of one that from a guess.
    """
    changes = {f"weight_{name}": value for name, value in arguments.weight}
    for name, value in (("controls", arguments.control), ("terms", arguments.terms), ("samples", arguments.samples)):
        if value is not None:
            changes[name] = value
    stages = preset_stages(arguments.preset, encoder=encoder)
    if arguments.steps is not None:
        stages = next(form for form in (stages, *_forms(arguments.preset)) if len(form) == len(arguments.steps))
        stages = tuple(dataclasses.replace(stage, steps=n) for stage, n in zip(stages, arguments.steps, strict=True))
    return EmbedConfig(energy=dataclasses.replace(defaults, **changes), stages=stages, seed=arguments.seed,
                       precision=arguments.precision)
