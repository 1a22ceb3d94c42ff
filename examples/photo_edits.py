"""Photographs turned, smiling and relit, in one picture: `python examples/photo_edits.py [OUT] [PHOTO ...]`.

Without photos: the four synthetic portraits of `examples/photos`.
"""

import math
import pathlib
import sys

import pie_jax
import pie_jax.runtime
from pie_jax.cli.figures import Tile, grid
from pie_jax.io import save_picture

PARTS = ("face_detector", "face_mesh", "person_matte", "mouth", "morphable")
TURN = 16.0  # degrees, from where the head is


def edits(fitted: pie_jax.FittedPhoto) -> dict[str, dict]:
    """What is asked for, by its label."""
    yaw = math.degrees(fitted.params.rotation[1])
    return {"turned left": {"yaw": yaw - TURN}, "turned right": {"yaw": yaw + TURN},
            "smile 1.5": {"expression": {"smile": 1.5}}, "jaw open 1": {"expression": {"jaw_open": 1.0}},
            "brows raised 1.5": {"expression": {"brow_raise": 1.5}},
            "light from the left": {"light": (-65, 15, 0.8)}, "light from the right": {"light": (65, 15, 0.8)}}


def main(out: str = "out", *photos: str) -> None:
    pie_jax.runtime.configure()
    pack = pie_jax.load_pack("demo", parts=PARTS)
    tiles: list[Tile] = []
    for photo in photos or sorted((pathlib.Path(__file__).parent / "photos").glob("*.jpg")):
        fitted = pie_jax.open_photo(pack, photo)
        tiles.append(Tile(image=fitted.portrait / 255.0, label="the photo"))
        for label, request in edits(fitted).items():
            tiles.append(Tile(image=pie_jax.edit_photo(pack, fitted, **request), label=label))
        print(f"{photo}: fitted within {fitted.residual_px:.1f} px of a 224 px crop")
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    columns = len(tiles) // len(photos or [0] * 4)
    save_picture(pathlib.Path(out) / "photo_edits.jpg", grid(tiles, columns=columns, side=256))


if __name__ == "__main__":
    main(*sys.argv[1:])
