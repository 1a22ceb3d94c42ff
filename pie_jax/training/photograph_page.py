"""One page of what a generator of photographs paints: samples, the pictures most like them, figures.

    python -m pie_jax.training.photograph_page --pack PACK --photos DIR -o FOLDER

DIR is one of `pie_jax.training.photographs`. FOLDER gets page.html, samples.png, nearest.png, heldout.png and
figures.json.
"""

from __future__ import annotations

import html
import pathlib
from collections.abc import Sequence

import numpy as np

from pie_jax.cli import command
from pie_jax.errors import InputError

_SHOWN, _PAIRS = 64, 12
_WORDS = {
    "distance_perceptual": "Frechet distance to the training pictures, perceptual network (not Inception)",
    "distance_face_descriptor": "Frechet distance to the training pictures, face descriptor (not Inception)",
    "held_out_distance_perceptual": "the same of the held-out pictures, perceptual network",
    "held_out_distance_face_descriptor": "the same of the held-out pictures, face descriptor",
    "precision": "precision, by the perceptual network", "recall": "recall, by the perceptual network",
    "nearest_mean": "cosine of a sample and the training picture most like it, mean",
    "nearest_max": "the same, largest", "held_out_nearest_mean": "the same of held-out pictures, mean",
    "held_out_nearest_max": "the same of held-out pictures, largest",
    "as_one_person": "share of samples that are nearer to a training picture than two pictures of one person",
    "training_pictures": "training pictures", "held_out_pictures": "held-out pictures"}


@command.guarded_main
def main(argv: Sequence[str]) -> None:
    parser = command.Parser(module="pie_jax.training.photograph_page", description=__doc__)
    parser.add_argument("--pack", required=True, metavar="DIR", help="a pack with a StyleGAN2 generator")
    parser.add_argument("--photos", required=True, metavar="DIR", help="portraits of training.photographs")
    parser.add_argument("--judges", default=None, metavar="PACK",
                        help="pack whose perceptual network and face_descriptor measure (default: the pack itself)")
    parser.add_argument("--count", type=int, default=512, metavar="N", help="samples that are measured")
    parser.add_argument("-o", "--out", required=True, metavar="FOLDER")
    command.add_autotune(parser)
    command.add_debug(parser)
    arguments = parser.parse_args(argv)
    command.configure("auto", autotune=arguments.autotune)
    write_page(pathlib.Path(arguments.out), arguments.pack, pathlib.Path(arguments.photos),
               judges=arguments.judges or arguments.pack, count=arguments.count)


def write_page(out: pathlib.Path, pack_name: str, photos: pathlib.Path, *, judges: str, count: int) -> dict:
    """Measure `count` samples, write the page, and return its figures."""
    from pie_jax.io import replace_file, save_png, write_json
    from pie_jax.pack import load_pack
    from pie_jax.training.data.photographs import Photographs
    from pie_jax.training.image_distances import SAME_PERSON, frechet, nearest
    from pie_jax.training.photograph_features import open_features
    from pie_jax.training.photograph_report import grid, measure, painter

    if count < 4:
        raise InputError("--count: expected at least 4 samples")
    pack = load_pack(pack_name, parts=("generator",))
    pack.require("generator")
    config = pack.configs.generator
    data = Photographs.open(photos, resolution=config.resolution)
    made = painter(config)(pack.weights["generator"], count)
    features = open_features(judges)
    known, seen = data.training, data.images[data.held_out]
    of = {name: {"known": f(known), "made": f(made), "held_out": f(seen) if len(seen) else None}
          for name, f in features.items()}
    figures: dict = measure({name: each["known"] for name, each in of.items()},
                            {name: each["made"] for name, each in of.items()},
                            {name: each["held_out"] for name, each in of.items() if each["held_out"] is not None})
    for name, each in of.items():
        if each["held_out"] is not None:
            figures[f"held_out_distance_{name}"] = frechet(each["known"], each["held_out"])
    judge = of.get("face_descriptor", of.get("perceptual"))
    out.mkdir(parents=True, exist_ok=True)
    save_png(out / "samples.png", grid(made[:_SHOWN]))
    if judge is not None:
        unit = {key: value / np.linalg.norm(value, axis=1, keepdims=True) for key, value in judge.items()
                if value is not None}
        index, cosine = nearest(unit["known"], unit["made"])
        if "face_descriptor" in of:
            figures["as_one_person"] = float((cosine > SAME_PERSON).mean())
        top = np.argsort(-cosine)[:_PAIRS]
        save_png(out / "nearest.png", np.concatenate([grid(made[top], columns=_PAIRS),
                                                      grid(known[index[top]], columns=_PAIRS)]))
        if "held_out" in unit:
            index, cosine = nearest(unit["known"], unit["held_out"])
            top = np.argsort(-cosine)[:_PAIRS]
            save_png(out / "heldout.png", np.concatenate([grid(seen[top], columns=_PAIRS),
                                                          grid(known[index[top]], columns=_PAIRS)]))
    figures |= {"training_pictures": len(known), "held_out_pictures": len(seen), "samples": count}
    write_json(out / "figures.json", figures)
    replace_file(out / "page.html", _page(figures, pack.name, there=("heldout.png",) if len(seen) else ()).encode())
    return figures


def _page(figures: dict, name: str, *, there: Sequence[str]) -> str:
    rows = "\n".join(f"<tr><td>{html.escape(words)}</td><td>{figures[key]:.4g}</td></tr>"
                     for key, words in _WORDS.items() if key in figures)
    held = ('<h2>Held-out pictures (upper row) and the training pictures most like them</h2>'
            '<img src="heldout.png" alt="held-out pictures above training pictures">' if there else "")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Samples of {html.escape(name)}</title>
<style>body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; }}
img {{ max-width: 100%; width: 60rem; image-rendering: pixelated; }}
td {{ padding: .2rem .8rem; border-bottom: 1px solid #8884; }}</style></head><body>
<h1>Samples of {html.escape(name)}</h1>
<p>The images of the first codes of one key, not chosen.</p>
<img src="samples.png" alt="64 samples">
<h2>The samples most like a training picture (upper row), and that picture</h2>
<img src="nearest.png" alt="samples above training pictures">
{held}
<h2>Figures</h2>
<table>{rows}</table>
</body></html>
"""


if __name__ == "__main__":
    raise SystemExit(main())
