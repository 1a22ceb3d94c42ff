"""A pack judged on photographs that its generator never saw: synthesis, then edits through rigs alone.

    python -m benchmarks.photographs --photos DIR --judge faceres.json --packs PACK demo --out FOLDER

DIR is one of `pie_jax.training.photographs`; its held-out portraits are embedded with each pack and edited with the
generator alone, as with `--detail 0`. PSNR and SSIM are those of the synthesis against the portrait at the pack's
resolution, landmarks what the photo networks find in both, in px of a 224 px face crop, and cosines those of a face
recognition network that no part was trained with. Beside them stands the photo edited by its own carried pixels
(`--carried 1`). Rows go to rows.jsonl, portraits that have one are skipped, and the last line is their medians as JSON.
"""

from __future__ import annotations

import json
import pathlib
import sys
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from benchmarks.harness import append_rows, describe_machine
from benchmarks.photo.measure import found_landmarks, open_judge, points_px224, psnr
from benchmarks.quality.embeddings import label_of, stages_of
from pie_jax.cli import command
from pie_jax.config import PRESETS, EmbedConfig
from pie_jax.errors import PackError

REQUESTS = {"yaw+10": {"yaw": 10.0}, "yaw-10": {"yaw": -10.0}, "smile": {"expression": {"smile": 1.0}},
            "light": {"light": (60.0, 20.0, 0.65)}}
_SIDE = 256  # px at which faces are looked for and judged: small pictures are enlarged
BARS = {"psnr_db": 25.0, "identity": 0.7}  # of the synthesis; below them no weights ship


def parser() -> command.Parser:
    """Flags of the command."""
    options = command.Parser(module="benchmarks.photographs", description=__doc__)
    command.add_debug(options)
    options.add_argument("--photos", required=True, metavar="DIR")
    options.add_argument("--judge", required=True, metavar="FILE", help="faceres.json, with faceres.bin beside it")
    options.add_argument("--packs", required=True, nargs="+", metavar="PACK")
    options.add_argument("--preset", choices=tuple(PRESETS), default="fast")
    options.add_argument("--steps", metavar="W,WPLUS", help="instead of the preset's")
    options.add_argument("--count", type=int, default=40, metavar="N", help="held-out portraits")
    options.add_argument("--carried", type=int, choices=(0, 1), default=1,
                         help="also edit the photo's own pixels, with the last pack")
    options.add_argument("--sheet", metavar="FILE", help="write portraits, syntheses and edits as one picture")
    options.add_argument("--out", required=True, metavar="FOLDER")
    return options


@command.guarded_main
def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    command.configure("auto")
    from pie_jax.pack import load_pack
    from pie_jax.training.data.photographs import held_out_paths

    label = label_of(arguments)
    judge, out = open_judge(arguments.judge), pathlib.Path(arguments.out)
    finder = load_pack("demo")
    out.mkdir(parents=True, exist_ok=True)
    lines, tiles = out / "rows.jsonl", []
    done = [json.loads(line) for line in lines.read_text().splitlines()] if lines.is_file() else []
    paths = held_out_paths(pathlib.Path(arguments.photos))[:arguments.count]
    for name in arguments.packs:
        pack = load_pack(name)
        config = EmbedConfig(energy=pack.configs.energy, stages=stages_of(arguments, encoder=pack.has_encoder))
        key = {"kind": "synthesis", "pack": pack.hash[:12], "preset": label}
        for path in paths:
            if any(all(row.get(k) == v for k, v in (key | {"picture": path.stem}).items()) for row in done):
                continue
            row, pictures = measure_synthesis(pack, path, config, judge=judge, finder=finder)
            done.append(key | {"picture": path.stem, "name": pack.name} | _rounded(row))
            append_rows(lines, done[-1:])
            tiles.append(pictures + [np.full_like(pictures[0], 255)] * (2 + len(REQUESTS) - len(pictures)))
            print(json.dumps(done[-1]), file=sys.stderr, flush=True)
    if arguments.carried:
        for path in paths:
            if not any(row["kind"] == "carried" and row["picture"] == path.stem for row in done):
                row = measure_carried(finder, path, judge)
                done.append({"kind": "carried", "picture": path.stem} | _rounded(row))
                append_rows(lines, done[-1:])
    if arguments.sheet and tiles:
        Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in tiles])).save(arguments.sheet)
    found = summarise([row for row in done if row["kind"] != "summary"])
    append_rows(lines, [{"kind": "summary", **describe_machine(), **found}])
    print(json.dumps(found))
    return 0


def measure_synthesis(pack, path: pathlib.Path, config: EmbedConfig, *, judge: Callable,
                      finder) -> tuple[dict, list[np.ndarray]]:
    """A row of one portrait embedded and edited by rigs, and its pictures [_SIDE, _SIDE, 3] uint8."""
    from pie_jax.imaging import ssim
    from pie_jax.io import load_portrait
    from pie_jax.portrait import edit_portrait, embed_portraits
    from pie_jax.portrait.edits import ReachWarning

    resolution = pack.configs.generator.resolution
    portrait = load_portrait(path, resolution=resolution, notice=lambda text: None)
    embedding = embed_portraits(pack, portrait[None], config=config)[0]
    synthesis = edit_portrait(pack, embedding, detail=0.0)
    own = judge(enlarged(portrait))
    row = {"psnr_db": psnr(synthesis, portrait), "ssim": float(ssim(synthesis, portrait)),
           "identity": float(judge(enlarged(synthesis)) @ own)}
    points, truth = (found_landmarks(finder, enlarged(image)) for image in (synthesis, portrait))
    if points is not None and truth is not None:
        row["landmarks_px224"] = points_px224(finder, points, truth)
    pictures = [portrait, synthesis]
    for name, request in REQUESTS.items():
        with warnings.catch_warnings():  # that a request lies outside what a pack was measured to do
            warnings.simplefilter("ignore", ReachWarning)
            try:
                edited = edit_portrait(pack, embedding, **request, detail=0.0)
            except PackError:  # a pack without this rig
                continue
        row[f"identity_{name}"] = float(judge(enlarged(edited)) @ own)
        pictures.append(edited)
    return row, [np.round(np.clip(enlarged(p), 0, 1) * 255).astype(np.uint8) for p in pictures]


def measure_carried(pack, path: pathlib.Path, judge: Callable) -> dict:
    """Cosines of the same edits of the photo's own pixels, framed as it is."""
    from pie_jax.photo.fitted import open_photo
    from pie_jax.portrait import PhotoEditor

    photo = open_photo(pack, path)
    editor, own = PhotoEditor(pack, photo), judge(photo.portrait / 255.0)
    return {f"identity_{name}": float(judge(np.asarray(editor.edit(**request)) / 255.0) @ own)
            for name, request in REQUESTS.items()}


def enlarged(image: np.ndarray) -> np.ndarray:
    """[R, R, 3] in 0..1 at _SIDE px."""
    values = Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(values.resize((_SIDE,) * 2, Image.Resampling.BICUBIC), np.float32) / 255.0


def summarise(rows: Sequence[dict]) -> dict:
    """Medians of every figure, by pack and for the carried photo, and whether the bars of shipping are met."""
    found: dict = {}
    def named(row):
        return f"{row['name']} {row['pack']}" if row["kind"] == "synthesis" else "carried photo"

    for name in dict.fromkeys(named(row) for row in rows):
        own = [row for row in rows if named(row) == name]
        figures = sorted({key for row in own for key, value in row.items() if isinstance(value, float)})
        found[name] = {"portraits": len(own)} | {
            key: round(float(np.median([row[key] for row in own if key in row])), 3) for key in figures}
        if all(key in found[name] for key in BARS):
            found[name]["bars_met"] = all(found[name][key] >= least for key, least in BARS.items())
    return found


def _rounded(row: dict) -> dict:
    return {key: round(value, 4) for key, value in row.items()}


if __name__ == "__main__":
    raise SystemExit(main(None))
