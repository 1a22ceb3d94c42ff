"""Portraits of people who never existed, with their truth.

    python -m pie_jax.studio.render --seed 0 --count 16 -o people
    python -m pie_jax.studio.render --seed 0 --count 16 --yaw 15 --expression smile=2 -o people_edited

A seed is a person, whatever --count; the second call shows the same people with another pose and expression. Writes
one PNG a portrait and `truth.npz`, which `load_truth` reads back. `render_scenes` is importable from here.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from pie_jax.cli import command
from pie_jax.config import CONTROLS, from_dict, to_dict
from pie_jax.errors import EXIT_OK, InputError, ResourceError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from pie_jax.arrays import Array
    from pie_jax.studio.scene import Scene

TRUTH = "truth.npz"
MAX_RESOLUTION = 1024
_MAX_TRUTH = 16 * 2**30  # bytes of one truth.npz: masks of thousands of portraits
BATCH = 16


def __getattr__(name):
    # The command answers before JAX is imported; who imports the renderer from here gets it then.
    if name in ("render_scenes", "SceneRendering"):
        from pie_jax.studio import drawing

        return getattr(drawing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def parser() -> command.Parser:
    out = command.Parser(module="pie_jax.studio.render", description=__doc__)
    out.add_argument("--seed", type=int, default=0, help="first person; person i has seed SEED + i")
    out.add_argument("--count", type=int, default=16, help="people")
    out.add_argument("-o", "--out", required=True, metavar="DIR", help="folder to write into (made if missing)")
    out.add_argument(
        "--family", choices=("demo", "wide"), default="demo",
        help="demo: the scenes that the demo generator knows; wide: all hair styles, people and expressions",
    )
    out.add_argument("--resolution", type=int, default=128, help="pixels of a side")
    out.add_argument("--vary", nargs="+", metavar="CONTROL", help="draw these anew: pose, expression, illumination")
    out.add_argument("--vary-seed", type=int, default=1, help="which other draw --vary takes")
    for name, what in (("yaw", "+ to the image's right"), ("pitch", "+ down"), ("roll", "+ anticlockwise")):
        out.add_argument(f"--{name}", type=float, metavar="DEG", help=f"degrees, {what}, of every portrait")
    out.add_argument("--neutral", action="store_true", help="no expression (before --expression)")
    out.add_argument(
        "--expression", action="append", metavar="NAME=VALUE", help="standard deviations; 2 is complete; repeatable"
    )
    out.add_argument("--light", metavar="AZ,EL,I", help="degrees right, degrees up, intensity")
    out.add_argument("--sheet", action="store_true", help="also write sheet.png, all portraits side by side")
    out.add_argument("--device", choices=command.DEVICES, default="auto", help="where to compute")
    command.add_debug(out)
    return out


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code (errors.py)."""
    argv = _attached(sys.argv[1:] if argv is None else argv)
    return command.guarded(lambda: _run(parser().parse_args(argv)), debug="--debug" in argv)


def _attached(argv: list[str]) -> list[str]:
    """'--light' '-30,20,1' as '--light=-30,20,1': argparse takes a value with a leading minus for an option."""
    out: list[str] = []
    for text in argv:
        if out and out[-1] == "--light" and text[:1] == "-" and text[1:2].isdigit():
            out[-1] = f"--light={text}"
        else:
            out.append(text)
    return out


def _checked(arguments):
    """(vary, expressions, light) of the command line. UsageError."""
    if not 1 <= arguments.count <= 1_000_000:
        raise UsageError(f"--count: expected 1 or more, got {arguments.count}")
    if not 0 <= arguments.seed <= 2**31 - 1 - arguments.count:
        raise UsageError(f"--seed: expected 0..{2**31 - 1 - arguments.count}, got {arguments.seed}")
    if not 8 <= arguments.resolution <= MAX_RESOLUTION:
        raise UsageError(f"--resolution: expected 8..{MAX_RESOLUTION}, got {arguments.resolution}")
    for name, limit in (("yaw", 60), ("pitch", 40), ("roll", 45)):
        value = getattr(arguments, name)
        if value is not None and not -limit <= value <= limit:
            raise UsageError(f"--{name}: expected -{limit}..{limit} degrees, got {value}")
    vary = command.list_of("--vary", arguments.vary, CONTROLS) or ()
    from pie_jax.studio.names import EXPRESSION_NAMES

    expressions = dict(command.assignment("--expression", text) for text in arguments.expression or ())
    for name, value in expressions.items():
        command.choose("--expression", name, EXPRESSION_NAMES)
        if not -4 <= value <= 4:
            raise UsageError(f"--expression {name}: expected -4..4 standard deviations, got {value}")
    lamp = None
    if arguments.light is not None:
        lamp = [command.number("--light", text) for text in arguments.light.split(",")]
        if len(lamp) != 3 or not (abs(lamp[0]) <= 180 and abs(lamp[1]) <= 90 and 0 <= lamp[2] <= 2):
            raise UsageError(
                f"--light: expected AZIMUTH,ELEVATION,INTENSITY (-180..180, -90..90, 0..2), got {arguments.light!r}"
            )
    return vary, expressions, lamp


def _run(arguments) -> int:
    vary, expressions, lamp = _checked(arguments)
    folder = pathlib.Path(arguments.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"{folder}: cannot write there ({error.strerror}); choose another -o") from None
    command.configure(arguments.device)
    import numpy as np
    from PIL import Image

    from pie_jax.io import replacing
    from pie_jax.studio.drawing import render_scenes
    from pie_jax.studio.head import build_head

    head = build_head()
    seeds = np.arange(arguments.seed, arguments.seed + arguments.count)
    batch, parts = min(BATCH, arguments.count), []
    for start in range(0, len(seeds), batch):
        own = seeds[start : start + batch]
        padded = np.concatenate([own, np.repeat(own[:1], batch - len(own))])
        scenes = _scenes(head, padded, arguments, vary, expressions, lamp)
        seen = render_scenes(head, scenes, resolution=arguments.resolution)
        pixels = (np.asarray(seen.images) * 255.0 + 0.5).astype(np.uint8)
        for seed, image in zip(own, pixels):
            with replacing(folder / f"{seed:06d}.png") as file:
                Image.fromarray(image).save(file, format="PNG")
        parts.append(_arrays(scenes, seen, len(own)) | {"images": pixels[: len(own)]})
        print(f"studio {start + len(own)}/{len(seeds)} portraits", file=sys.stderr, flush=True)
    truth = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    images = truth.pop("images")
    save_truth(folder / TRUTH, truth | {"seed": seeds, "png": np.array([f"{seed:06d}.png" for seed in seeds])})
    if arguments.sheet:
        sheet = contact_sheet(images)
        Image.fromarray(sheet).save(folder / "sheet.png")
    print(folder / TRUTH)
    return EXIT_OK


def _scenes(head, seeds, arguments, vary, expressions, lamp):
    """The people of `seeds` [B] with what the command line changes."""
    import jax.numpy as jnp
    import numpy as np

    from pie_jax.face3d.morphable import with_control
    from pie_jax.face3d.render import light
    from pie_jax.studio import family
    from pie_jax.studio.names import EXPRESSION_NAMES
    from pie_jax.studio.scene import posed, scenes_of_seeds, with_params

    people = family.scenes_of_seeds if arguments.family == "demo" else scenes_of_seeds
    scenes = people(seeds, head=head)
    if vary:
        other = people((seeds + 1_000_003 * arguments.vary_seed) % (2**31 - 1), head=head)
        for control in vary:
            scenes = dataclasses.replace(scenes, params=with_control(scenes.params, other.params, control))
    expression = scenes.params.expression * (0.0 if arguments.neutral else 1.0)
    for name, value in expressions.items():
        expression = expression.at[:, EXPRESSION_NAMES.index(name)].set(value)
    scenes = with_params(scenes, expression=expression)
    if lamp is not None:
        gamma = light(*lamp)
        scenes = with_params(scenes, illumination=jnp.broadcast_to(gamma, (len(seeds), *gamma.shape)))
    rotation = scenes.params.rotation
    for axis, degrees in enumerate((arguments.pitch, arguments.yaw, arguments.roll)):
        if degrees is not None:
            rotation = rotation.at[:, axis].set(np.deg2rad(degrees))
    return posed(head, scenes, rotation)


def _arrays(scenes, seen, count: int) -> dict:
    """The first `count` scenes and what was seen of them as flat numpy arrays."""
    import numpy as np

    fields = {f"params_{f.name}": getattr(scenes.params, f.name) for f in dataclasses.fields(scenes.params)}
    fields |= {f"scene_{f.name}": getattr(scenes, f.name) for f in dataclasses.fields(scenes) if f.name != "params"}
    fields |= {"landmarks": seen.landmarks, "segments": seen.segments}
    out = {name: np.asarray(value)[:count] for name, value in fields.items()}
    return out | {"coverage": np.asarray(seen.coverage)[:count].astype(np.float16)}  # quarters: nothing is lost


def save_truth(path: str | pathlib.Path, arrays: dict) -> None:
    """Write `truth.npz` whole or not at all: `arrays`, the names of components and the camera."""
    import json

    import numpy as np

    from pie_jax.io import write_npz
    from pie_jax.studio import names
    from pie_jax.studio.scene import STUDIO_CAMERA

    described = {
        "expression_names": np.array(names.EXPRESSION_NAMES),
        "identity_names": np.array(names.IDENTITY_NAMES),
        "texture_names": np.array(names.TEXTURE_NAMES),
        "segment_names": np.array(names.SEGMENTS),
        "hair_styles": np.array(names.HAIR_STYLES),
        "camera": np.array(json.dumps(to_dict(STUDIO_CAMERA))),
    }
    write_npz(path, arrays | described, compress=True)


def load_truth(path: str | pathlib.Path) -> tuple[Scene, dict[str, Any]]:
    """(Scene with fields [N, ...], dict of the other arrays) of a `truth.npz`.

    The dict has: seed [N], png [N] file names, landmarks [N, 66, 2] px, coverage [N, H, W] float16, segments
    [N, H, W] uint8, `*_names`, hair_styles and camera (a CameraConfig).
    InputError: missing, damaged or of another kind.
    """
    import json

    from pie_jax.config import CameraConfig
    from pie_jax.face3d.morphable import FaceParams
    from pie_jax.io import read_npz
    from pie_jax.studio.scene import Scene

    try:
        arrays = read_npz(path, max_bytes=_MAX_TRUTH)
        params = FaceParams(**{f.name: arrays.pop(f"params_{f.name}") for f in dataclasses.fields(FaceParams)})
        rest = {f.name: arrays.pop(f"scene_{f.name}") for f in dataclasses.fields(Scene) if f.name != "params"}
        camera = from_dict(CameraConfig, json.loads(str(arrays["camera"])))
    except (InputError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no truth of the studio ({error}); render it again") from None
    return Scene(params=params, **rest), {**arrays, "camera": camera}


def contact_sheet(images: Array, *, columns: int = 8) -> np.ndarray:
    """uint8 [N, R, R, 3] as one picture, row by row."""
    import numpy as np

    count, side = images.shape[:2]
    columns = min(columns, count)
    rows = -(-count // columns)
    padded = np.concatenate([images, np.zeros((rows * columns - count, *images.shape[1:]), images.dtype)])
    return padded.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)


if __name__ == "__main__":
    raise SystemExit(main())
