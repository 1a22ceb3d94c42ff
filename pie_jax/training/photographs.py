"""Frame a folder of photographs as the portraits that a generator is trained on, and sort out what is unfit.

    python -m pie_jax.training.photographs --photos FOLDER [FOLDER ...] --resolution 64 -o DIR

DIR gets the portraits, table.jsonl with what was measured on each picture, and two sheets: kept.png, and left.png with
the reason under each. The same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pie_jax.cli import command
from pie_jax.cli.progress import Progress
from pie_jax.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 512
_CELL, _NARROW, _LINE = 64, 40, 11  # px of a portrait on a sheet, columns of one, px of a line of text


def parser() -> command.Parser:
    """Flags of the command."""
    result = command.Parser(module="pie_jax.training.photographs", description=__doc__)
    result.add_argument("--photos", required=True, nargs="+", metavar="FOLDER", help="photographs of faces")
    result.add_argument("--resolution", type=int, default=64, help="side of the portraits, px")
    result.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the portraits")
    result.add_argument("--held-out", type=int, default=40, metavar="N",
                        help="pictures of the first folder that are never trained on")
    result.add_argument("--pack", default="demo", metavar="DIR", help="a pack that finds faces")
    result.add_argument("--jpeg", type=int, default=0, metavar="QUALITY",
                        help="keep portraits as JPEGs of this quality, 1 to 95 (default: as PNGs)")
    command.add_debug(result)
    return result


@command.guarded_main
def main(argv: Sequence[str]) -> None:
    arguments = parser().parse_args(argv)
    if not 16 <= arguments.resolution <= LARGEST:
        raise UsageError(f"--resolution: expected 16 to {LARGEST}, got {arguments.resolution}")
    if arguments.held_out < 0 or not 0 <= arguments.jpeg <= 95:
        raise UsageError("--held-out, --jpeg: expected 0 or more pictures, and a quality of 1 to 95")
    command.configure("auto")
    from pie_jax.io import replace_file, save_png
    from pie_jax.pack import load_pack
    from pie_jax.training.data.photographs import prepare

    out, progress = pathlib.Path(arguments.out), Progress()
    pack = load_pack(arguments.pack, parts=("face_detector", "face_mesh"))
    folders = [pathlib.Path(folder) for folder in arguments.photos]
    rows = prepare(pack, folders, out, resolution=arguments.resolution, held_out=arguments.held_out,
                   jpeg=arguments.jpeg, progress=progress)
    told = [json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
            for row in rows]
    replace_file(out / "table.jsonl", ("\n".join(told) + "\n").encode())
    kept = [row for row in rows if not row["reason"]]
    left = [row for row in rows if row["reason"]]
    save_png(out / "kept.png", sheet(out, kept, columns=_NARROW))
    if left:
        save_png(out / "left.png", sheet(out, left, columns=_NARROW // 2, lines=2))
    progress.note(f"photographs: {len(kept)} of {len(rows)} kept, {sum(row['held_out'] for row in kept)} held out, "
                  f"in {out}; see kept.png and left.png")


def sheet(out: pathlib.Path, rows: Sequence[dict], *, columns: int, lines: int = 0) -> Image.Image:
    """The portraits of `rows` in a grid, with `lines` lines of text under each: reason and file. A Pillow image."""
    from PIL import Image, ImageDraw

    columns = min(columns, len(rows))
    width, height = _CELL * (2 if lines else 1), _CELL + lines * _LINE
    made = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    draw = ImageDraw.Draw(made)
    for i, row in enumerate(rows):
        x, y = i % columns * width, i // columns * height
        path = next((path for path in (out / "pictures").glob(f"{row['hash']}.*g") if row["hash"]), None)
        if path is not None:
            with Image.open(path) as portrait:
                made.paste(portrait.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BOX), (x, y))
        for k, text in enumerate((row["reason"], row["name"])[:lines]):
            short = text.encode("ascii", "replace").decode()[:width // 6]
            draw.text((x, y + _CELL + k * _LINE - 1), short, fill="black")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
