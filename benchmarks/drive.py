"""How well a driven photo follows a clip: its first frame, driven by the clip, against the clip's own frames.

    python -m benchmarks.drive [--clip VIDEO|FOLDER] [--judge faceres.json] [--out benchmarks/results/drive.jsonl]

Without --clip the studio makes one of each of --people: a head that turns, opens its mouth, smiles and blinks. Rows:
PSNR over the face, and of the first frame beside it; distance of the landmarks that a detector finds, in px of a 224 px
crop; cosine of the judge's descriptors; jitter (second differences of those landmarks) as a share of the clip's own;
seconds. The last line of stdout is one JSON object of medians.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks.harness import append_rows, describe_machine
from benchmarks.photo.measure import found_landmarks, open_judge, points_px224, psnr
from pie_jax.cli import command

_SIZE, _FRAMES, _RATE = 512, 60, 24.0
_EVERY = 4  # frames from one that is looked at by the detector to the next
_FACE = 0.08  # of the box of the landmarks, around it: the region of the face


def parser() -> argparse.ArgumentParser:
    options = command.Parser(module="benchmarks.drive", description=__doc__)
    command.add_debug(options)
    options.add_argument("--clip", metavar="VIDEO|FOLDER", help="one of your own, a face in front of a camera")
    options.add_argument("--people", type=int, default=4, metavar="N", help="made people (default: %(default)s)")
    options.add_argument("--judge", metavar="FILE", help="faceres.json, with faceres.bin beside it")
    options.add_argument("--sheets", metavar="DIR", help="write what was measured as pictures, for your eyes")
    options.add_argument("--length", type=int, default=30, metavar="S",
                         help="of the video that is timed from the command line; 0: none (default: %(default)s)")
    options.add_argument("--out", metavar="FILE")
    return options


@command.guarded_main
def main(argv: list[str]) -> int | None:
    arguments = parser().parse_args(argv)
    command.configure("auto")
    judge = open_judge(arguments.judge) if arguments.judge else None
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in clips(arguments, pathlib.Path(folder)):
            row, sheet = measured(clip, judge)
            rows.append({"kind": "drive", "clip": name, **row, **describe_machine()})
            if arguments.sheets:
                pathlib.Path(arguments.sheets).mkdir(parents=True, exist_ok=True)
                sheet.save(pathlib.Path(arguments.sheets) / f"drive_{name}.png")
        if arguments.length:
            rows.append({"kind": "drive_length", **timed(clip, arguments.length), **describe_machine()})
    if arguments.out:
        append_rows(arguments.out, rows)
    driven = [row for row in rows if row["kind"] == "drive"]
    figures = [key for key, value in driven[0].items() if isinstance(value, float) and key not in ("load",)]
    print(json.dumps({key: round(statistics.median(row[key] for row in driven), 3) for key in figures} |
                     {"clips": len(driven)} | {k: v for row in rows[len(driven):] for k, v in row.items()
                                               if k.startswith("video_")}))


def timed(clip: pathlib.Path, length: int) -> dict:
    """Seconds to drive a photo by a video of so many seconds, its frames those of a clip there and back."""
    from pie_jax.drive.source import open_source
    from pie_jax.io.film import H264

    frames = [np.asarray(picture) for picture in open_source(clip).pictures()]
    frames += frames[-2:0:-1]
    with tempfile.TemporaryDirectory() as folder:
        video, first = pathlib.Path(folder) / "clip.mp4", pathlib.Path(folder) / "first.png"
        Image.fromarray(frames[0]).save(first)
        with H264(video, rate=_RATE) as film:
            for number in range(round(length * _RATE)):
                film.add(frames[number % len(frames)])
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pie_jax.drive", str(first), "--by", str(video), "-o",
                        str(pathlib.Path(folder) / "out.mp4"), "--size", str(_SIZE)], check=True)
        seconds = time.perf_counter() - began
    return {"video_s": length, "video_frames": round(length * _RATE), "video_driven_s": round(seconds, 1)}


def clips(arguments, folder: pathlib.Path):
    """(name, folder or video) of each clip."""
    if arguments.clip:
        yield pathlib.Path(arguments.clip).stem, pathlib.Path(arguments.clip)
        return
    for seed in range(arguments.people):
        path = folder / f"made_{seed}"
        path.mkdir()
        for number, image in enumerate(made_clip(seed)):
            Image.fromarray(image).save(path / f"{number:04d}.png", compress_level=1)
        yield path.name, path


def made_clip(seed: int, *, frames: int = _FRAMES, size: int = _SIZE):
    """Frames, uint8 [R, R, 3], of a made person who moves before a camera that does not."""
    import dataclasses

    from benchmarks.photo.studio import drawn
    from benchmarks.quality.edits import Edit, true_scene
    from pie_jax.studio.family import scenes_of_seeds
    from pie_jax.studio.head import build_head

    head = build_head()
    start = scenes_of_seeds([seed], head=head)
    for number in range(frames):
        t = number / _RATE
        moves = {"yaw": 12.0 * np.sin(2.5 * t + seed), "pitch": 4.0 * np.sin(1.7 * t),
                 "smile": 0.9 + 0.9 * np.sin(2.1 * t + 1.0), "jaw_open": max(0.0, 1.3 * np.sin(5.0 * t)),
                 "blink": 2.0 * np.exp(-((t % 1.2 - 0.6) / 0.09) ** 2)}
        scene = start
        for name, value in moves.items():
            scene = true_scene(head, scene, Edit(quantity=name, asked=float(value)))
        still = dataclasses.replace(scene.params, translation=start.params.translation)
        yield np.round(drawn(head, dataclasses.replace(scene, params=still), size).image * 255).astype(np.uint8)


def measured(clip: pathlib.Path, judge) -> tuple[dict, Image.Image]:
    """The figures of one clip, and a few of its frames over the driven ones."""
    from pie_jax.drive import main as drive
    from pie_jax.drive.source import open_source
    from pie_jax.pack import load_pack

    pack = load_pack("demo")
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(clip)
        truth = [np.asarray(picture) for picture in source.pictures()]
        first, out = pathlib.Path(folder) / "first.png", pathlib.Path(folder) / "driven"
        Image.fromarray(truth[0]).save(first)
        began = time.perf_counter()
        code = drive([str(first), "--by", str(clip), "-o", str(out), "--size", str(_SIZE), "--control",
                      "pose,expression", "--json"])
        seconds = time.perf_counter() - began
        if code:
            raise SystemExit(code)
        driven = [np.asarray(Image.open(path)) for path in sorted(out.glob("frame_*.png"))]
    square = _square(pack, truth[0])
    shown = [_cut(frame, square) for frame in truth]
    looked, gains, errors, cosines, points = range(_EVERY, len(truth), _EVERY), [], [], [], ([], [])
    before = shown[0]
    for number in looked:
        seen, made = (found_landmarks(pack, image / 255.0) for image in (shown[number], driven[number]))
        if seen is None or made is None:
            continue
        face = _face(seen, _SIZE)
        gains.append((psnr(driven[number] / 255.0, shown[number] / 255.0, face),
                      psnr(before / 255.0, shown[number] / 255.0, face)))
        errors.append(points_px224(pack, made, seen))
        if judge is not None:
            cosines.append(float(judge(driven[number] / 255.0) @ judge(shown[number] / 255.0)))
    for number in range(min(len(truth), 24)):
        for kept, image in zip(points, (shown[number], driven[number]), strict=True):
            kept.append(found_landmarks(pack, image / 255.0))
    own, ours = (_jitter(kept) for kept in points)
    row = {"psnr_db": float(np.median([g[0] for g in gains])), "undriven_db": float(np.median([g[1] for g in gains])),
           "landmarks_px224": float(np.median(errors)), "jitter_share": ours / own,
           "seconds": seconds, "frames": len(truth), "seconds_a_frame": seconds / len(truth)}
    if cosines:
        row["identity"] = float(np.median(cosines))
    some = np.linspace(0, len(truth) - 1, 6).astype(int)
    sheet = np.concatenate([np.concatenate([shown[i] for i in some], 1), np.concatenate([driven[i] for i in some], 1)])
    return row, Image.fromarray(sheet).resize((6 * 256, 2 * 256))


def _square(pack, frame: np.ndarray):
    """The square that a photo is framed by."""
    from pie_jax.photo.fitted import frame_photo

    return frame_photo(pack, Image.fromarray(frame))[0]


def _cut(frame: np.ndarray, square) -> np.ndarray:
    from pie_jax.photo.squares import SquareReader

    values = SquareReader(Image.fromarray(frame)).read(square, _SIZE, mirror=True)
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _face(landmarks: np.ndarray, size: int) -> np.ndarray:
    """[R, R] bool: the box of the landmarks and a little more."""
    low, high = landmarks.min(axis=0) * size, landmarks.max(axis=0) * size
    margin = _FACE * (high - low)
    y, x = np.mgrid[:size, :size]
    return ((x > low[0] - margin[0]) & (x < high[0] + margin[0]) & (y > low[1] - margin[1]) & (y < high[1] + margin[1]))


def _jitter(points: list) -> float:
    """Median size of the second differences in time of landmarks, 0..1 of the picture."""
    known = [p for p in points if p is not None]
    second = np.diff(np.stack(known), n=2, axis=0)
    return float(np.median(np.linalg.norm(second, axis=-1)))


if __name__ == "__main__":
    sys.exit(main())
