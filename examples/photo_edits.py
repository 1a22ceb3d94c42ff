"""The sample photo turned and relit, in one picture: `python examples/photo_edits.py [OUT] [PHOTO]`."""

import pathlib
import sys

import pie_jax
import pie_jax.runtime
from pie_jax.cli.figures import Tile, grid
from pie_jax.io import save_png
from pie_jax.pack import find_pack
from pie_jax.photo.fitted import PARTS

EDITS = {"yaw -12\u00b0": {"yaw": -12}, "yaw +12\u00b0": {"yaw": 12}, "pitch +8\u00b0": {"pitch": 8},
         "brow_raise 1": {"expression": {"brow_raise": 1}}, "light from the left": {"light": (-70, 15, 1.1)},
         "light from the right": {"light": (70, 15, 1.1)}}


def main(out: str = "out", photo: str = "") -> None:
    pie_jax.runtime.configure()
    pack = pie_jax.load_pack("demo", parts=PARTS)
    fitted = pie_jax.open_photo(pack, photo or find_pack("demo") / "photo.png")
    tiles = [Tile(image=fitted.portrait / 255.0, label="the photo")]
    tiles += [Tile(image=pie_jax.edit_photo(pack, fitted, **request), label=label) for label, request in EDITS.items()]
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    save_png(pathlib.Path(out) / "photo_edits.png", grid(tiles, columns=len(tiles), side=256))
    print(f"fitted within {fitted.residual_px:.1f} px of a 224 px crop; see {out}/photo_edits.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
