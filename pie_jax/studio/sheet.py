"""The studio at a glance: `python -m pie_jax.studio.sheet -o studio_sheet.png` draws people, and each of them changed.

One row a person: as drawn from its seed, then neutral and frontal in one soft light, then one change at a time.
"""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING

from pie_jax.cli import command
from pie_jax.errors import EXIT_OK, ResourceError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from pie_jax.studio.head import Head
    from pie_jax.studio.scene import Scene

SOFT = (20.0, 25.0, 0.6)  # azimuth, elevation, intensity
CHANGES = (
    ("as drawn", None),
    ("neutral", {}),
    ("smile", {"expression": {"smile": 1.0}}),
    ("jaw_open", {"expression": {"jaw_open": 1.0}}),
    ("blink", {"expression": {"blink": 1.0}}),
    ("brow_raise", {"expression": {"brow_raise": 1.0}}),
    ("pucker", {"expression": {"pucker": 1.0}}),
    ("frown", {"expression": {"frown": 1.0}}),
    ("yaw -30", {"yaw": -30.0}),
    ("yaw +30", {"yaw": 30.0}),
    ("light left", {"light": (-60.0, 10.0, 0.8)}),
    ("light right", {"light": (60.0, 10.0, 0.8)}),
)


def parser() -> command.Parser:
    out = command.Parser(module="pie_jax.studio.sheet", description=__doc__)
    out.add_argument("-o", "--out", required=True, metavar="FILE", help="PNG to write")
    out.add_argument("--seed", type=int, default=0, help="first person")
    out.add_argument("--people", type=int, default=8, help="rows")
    out.add_argument("--resolution", type=int, default=128, help="pixels of a portrait's side")
    out.add_argument("--device", choices=command.DEVICES, default="auto", help="where to compute")
    command.add_debug(out)
    return out


def changed(head: Head, scenes: Scene, change: dict) -> Scene:
    """`scenes` [B] neutral, frontal and softly lit, but for `change`.

    change: "expression" {name: share of FULL}, "yaw" degrees, "light" (azimuth, elevation, intensity).
    """
    import jax.numpy as jnp
    import numpy as np

    from pie_jax.face3d.render import light
    from pie_jax.studio.names import EXPRESSION_NAMES, FULL
    from pie_jax.studio.scene import posed, with_params

    count = scenes.hair_style.shape[0]
    expression = np.zeros((count, len(EXPRESSION_NAMES)), np.float32)
    for name, share in change.get("expression", {}).items():
        expression[:, EXPRESSION_NAMES.index(name)] = share * FULL[name]
    gamma = light(*change.get("light", SOFT))
    rotation = jnp.broadcast_to(jnp.array([0.0, jnp.deg2rad(change.get("yaw", 0.0)), 0.0]), (count, 3))
    scenes = with_params(scenes, expression=expression, illumination=jnp.broadcast_to(gamma, (count, *gamma.shape)))
    return posed(head, scenes, rotation)


def draw(*, seed: int, people: int, resolution: int) -> np.ndarray:
    """[people, len(CHANGES), R, R, 3] in 0..1, numpy."""
    import numpy as np

    from pie_jax.studio.drawing import render_scenes
    from pie_jax.studio.head import build_head
    from pie_jax.studio.scene import scenes_of_seeds

    head = build_head()
    scenes = scenes_of_seeds(range(seed, seed + people), head=head)
    shown = [scenes if change is None else changed(head, scenes, change) for _, change in CHANGES]
    return np.stack([np.asarray(render_scenes(head, s, resolution=resolution).images) for s in shown], axis=1)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code (errors.py)."""
    argv = sys.argv[1:] if argv is None else argv
    return command.guarded(lambda: _run(parser().parse_args(argv)), debug="--debug" in argv)


def _run(arguments) -> int:
    for name, low, high in (("people", 1, 256), ("resolution", 8, 512), ("seed", 0, 2**31 - 1024)):
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise UsageError(f"--{name}: expected {low}..{high}, got {value}")
    path = pathlib.Path(arguments.out)
    if path.suffix.lower() != ".png":
        raise UsageError(f"-o {path}: expected a name that ends in .png")
    command.configure(arguments.device)
    from pie_jax.cli import figures

    images = draw(seed=arguments.seed, people=arguments.people, resolution=arguments.resolution)
    tiles = [
        figures.Tile(image=image, label=label)
        for person in images
        for image, (label, _) in zip(person, CHANGES)
    ]
    from pie_jax.io import replacing

    sheet = figures.grid(tiles, columns=len(CHANGES), side=arguments.resolution)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            sheet.save(file, format="PNG", optimize=True)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written ({error.strerror}); choose another -o") from None
    print(path)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
