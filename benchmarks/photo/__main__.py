"""Edits of photographs against the truth: rows, a chart, and one JSON object as the last line.

    python -m benchmarks.photo --pairs DIR --portraits DIR --judge faceres.json --out benchmarks/results/photo

--pairs: photographs of people, ID_neutral.jpg and ID_smiling.jpg in one frame, and points.npz. --portraits: a folder of
folders of portraits (t2i, wild, aligned, congress) with their points.npz. --judge: the Human library's face descriptor.
Without one of them, or with --studio 0, what needs it is left out. Pictures are written only with --sheets DIR.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmarks import chart
from benchmarks.harness import append_rows, describe_machine
from benchmarks.photo import nobody, pairs, portraits, studio
from benchmarks.photo.measure import open_judge, to_image
from pie_jax.cli import command
from pie_jax.photo.detect import find_faces

FOLDERS = ("t2i", "wild", "aligned", "congress")
_STUDIO_SIZE = 512


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.photo", description=__doc__)
    command.add_debug(options)
    options.add_argument("--pack", default="demo", help="name or folder of a pack (default: %(default)s)")
    options.add_argument("--pairs", metavar="DIR")
    options.add_argument("--portraits", metavar="DIR")
    options.add_argument("--judge", metavar="FILE", help="faceres.json, with faceres.bin beside it")
    options.add_argument("--studio", type=int, default=8, metavar="N", help="made people (default: %(default)s)")
    options.add_argument("--count", type=int, default=40, metavar="N",
                         help="portraits that are edited (default: %(default)s)")
    options.add_argument("--detect", type=int, default=120, metavar="N",
                         help="pictures of each folder in which faces are looked for (default: %(default)s)")
    options.add_argument("--nobody", type=int, default=200, metavar="N",
                         help="pictures without a face (default: %(default)s)")
    options.add_argument("--sheets", metavar="DIR", help="write what was measured as pictures, for your eyes")
    options.add_argument("--out", required=True, metavar="DIR")
    return options


@command.guarded_main
def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    command.configure("auto")
    from pie_jax.pack import load_pack
    from pie_jax.studio.head import build_head

    pack, head = load_pack(arguments.pack), build_head()
    judge = open_judge(arguments.judge) if arguments.judge else None
    found: list[dict] = []
    sheets = _Sheets(arguments.sheets)

    def keep(row: dict) -> None:
        found.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)

    if arguments.pairs and judge is not None:
        for row, pictures in pairs.measure(pack, pathlib.Path(arguments.pairs), judge):
            keep(row)
            sheets.add("pairs", pictures)
    if arguments.studio:
        for row, pictures in studio.measure(pack, head, count=arguments.studio, resolution=_STUDIO_SIZE):
            keep(row)
            sheets.add("studio", pictures)
    if arguments.nobody:
        for number in range(arguments.nobody):
            kind, picture = nobody.picture(number, head)
            keep({"kind": "nobody", "of": kind, "number": number, "accepted": bool(find_faces(pack, picture))})
    if arguments.portraits:
        folder = pathlib.Path(arguments.portraits)
        for name in FOLDERS:
            for row in portraits.detect(pack, folder / name, arguments.detect):
                keep(row)
            for row in portraits.guesses(pack, folder / name, arguments.count):
                keep(row)
        for row in _use(pack, arguments, folder / FOLDERS[0], judge):
            keep(row)
    sheets.save()
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rows.jsonl").unlink(missing_ok=True)
    summary = summarise(found)
    facts = {"kind": "summary", "pack": pack.hash[:12], **describe_machine(), **summary}
    append_rows(out / "rows.jsonl", [*found, facts])
    draw(found, out)
    print(json.dumps(summary))
    return 0


def _use(pack, arguments, folder: pathlib.Path, judge):
    """Rows of edited portraits, of time, and of one large photo as a user edits it."""
    from pie_jax.photo.fitted import open_photo

    chosen = portraits.pictures(folder, arguments.count)
    if judge is not None:
        for path in chosen:
            if not find_faces(pack, Image.open(path).convert("RGB")):
                yield {"kind": "edits", "picture": path.stem, "found": False}
                continue
            yield portraits.edits(pack, path, judge)
    photos = [open_photo(pack, path) for path in chosen[:1]]
    alone, batch = portraits.seconds_of_fit(pack, photos)
    yield {"kind": "time", "fit_seconds": alone, "fit_seconds_of_16": batch,
           **{f"edit_ms_{size}": portraits.milliseconds_of_edit(pack, photos[0], size) for size in (512, 1024)}}
    large = Image.open(chosen[0]).convert("RGB")
    scale = (12e6 / (large.size[0] * large.size[1])) ** 0.5
    large = large.resize((round(large.size[0] * scale), round(large.size[1] * scale)), Image.Resampling.BICUBIC)
    yield portraits.seconds_of_use(np.asarray(large), arguments.pack)


def summarise(found: Sequence[dict]) -> dict:
    """The figures by their names; those that were not measured are left out."""
    figures: dict = {}
    pair = [row for row in found if row["kind"] == "pair"]
    if pair:
        figures |= {"pairs": len(pair), "pairs_unedited_db": _median(pair, "unedited_db"),
                    "pairs_gain_db": _median(pair, "gain_db"), "pairs_better": sum(row["gain_db"] > 0 for row in pair),
                    "pairs_landmarks_px224": _median(pair, "landmarks_px224"),
                    "pairs_identity": _median([{"share": r["identity"] / r["identity_of_photos"]} for r in pair],
                                              "share"),
                    "pairs_teeth_gain_db": _median([row for row in pair if row["teeth"]], "gain_db")}
    made = [row for row in found if row["kind"] == "studio" and row["found"]]
    if made:
        of = {name: [row for row in made if row["of"] == name] for name in studio.EDITS}
        figures["studio_gain_db"] = {name: _median(rows, "gain_db") for name, rows in of.items()}
        figures["studio_over_generator_db"] = {name: _median(rows, "over_generator_db") for name, rows in of.items()}
    edited = [row for row in found if row["kind"] == "edits" and row.get("found", True)]
    if edited:
        figures |= {"there_and_back_db": _median(edited, "there_and_back_db"),
                    "outside_changed": sum(row["outside_changed"] for row in edited),
                    "identity_after": {name: _median(edited, f"identity_{name}") for name in portraits.REQUESTS},
                    "fit_px224": _median(edited, "fit_px224")}
    guessed = [row for row in found if row["kind"] == "guess"]
    if guessed:
        figures["guess_px224"] = {name: _median([row for row in guessed if row["folder"] == name], "guess_px224")
                                  for name in FOLDERS}
    fitted = {name: rows for name, rows in (("photographs", guessed), ("made people", made)) if rows}
    if fitted:
        figures["own_points"] = {name: round(float(np.mean([row["landmarks_by"] == "landmarks" for row in rows])), 3)
                                 for name, rows in fitted.items()}
    seen = [row for row in found if row["kind"] == "detect"]
    if seen:
        figures |= {"detect_rate": round(float(np.mean([row["found"] for row in seen])), 4),
                    "detect_pictures": len(seen),
                    "detect_points_of_eyes": _median(seen, "points_of_eyes")}
    without = [row for row in found if row["kind"] == "nobody"]
    if without:
        figures |= {"false_accepts": sum(row["accepted"] for row in without), "without_a_face": len(without)}
    for row in found:
        if row["kind"] in ("time", "use"):
            figures |= {key: round(value, 3) for key, value in row.items() if key != "kind"}
    return figures


def _median(rows: Sequence[dict], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return round(float(np.median(values)), 3) if values else None


def draw(found: Sequence[dict], out: pathlib.Path) -> None:
    """gains.png: the gain of every pair, those whose smile shows teeth in another colour."""
    pair = sorted((row for row in found if row["kind"] == "pair"), key=lambda row: row["gain_db"])
    if not pair:
        return
    made = chart.figure(900, 420, title="A neutral photo given the pose and expression of the same person's smile")
    axes = chart.axes_of(made, 1, 1, 1)
    for teeth, colour, label in ((True, chart.COLOURS[1], "teeth show"), (False, chart.COLOURS[0], "lips closed")):
        places = [i for i, row in enumerate(pair) if row["teeth"] == teeth]
        axes.bar(places, [pair[i]["gain_db"] for i in places], color=colour, label=label)
    axes.set_xticks([])
    axes.set_ylabel("gain over the unedited photo, dB", color=chart.SOFT_INK)
    axes.grid(axis="y", color=chart.RULE)
    axes.legend(frameon=False, labelcolor=chart.SOFT_INK)
    chart.save(made, out / "gains.png")


class _Sheets:
    """Rows of pictures, at most `_MOST` of a kind, written where the user asked for them."""

    _MOST, _SIDE = 40, 320

    def __init__(self, folder: str | None):
        self.folder = pathlib.Path(folder) if folder else None
        self.rows: dict[str, list[np.ndarray]] = {}

    def add(self, kind: str, pictures: Sequence[np.ndarray]) -> None:
        if self.folder is not None and pictures and len(self.rows.setdefault(kind, [])) < self._MOST:
            small = [np.asarray(to_image(picture).resize((self._SIDE,) * 2)) for picture in pictures]
            self.rows[kind].append(np.concatenate(small, axis=1))

    def save(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind, rows in self.rows.items():
            columns = [np.concatenate(rows[i::4], 0) for i in range(4)]
            high = max(column.shape[0] for column in columns)
            padded = [np.pad(c, ((0, high - c.shape[0]), (0, 0), (0, 0))) for c in columns]
            Image.fromarray(np.concatenate(padded, 1)).save(self.folder / f"{kind}.png")


if __name__ == "__main__":
    raise SystemExit(main(None))
