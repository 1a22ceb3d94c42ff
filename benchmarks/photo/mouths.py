"""What an opened mouth shows, from three sources and none, on pairs of photographs of one person.

    python -m benchmarks.photo.mouths --pairs DIR --out DIR [--sheets DIR] [--pack demo]

The neutral photo gets pose and expression of the smiling one; only what lies between the lips differs:

- lips: nothing fills it, the lips are stretched over it.
- network: the pack's part `mouth` paints it.
- studio: teeth and mouth of the studio's head, drawn with the same parameters in the photo's own light.
- generator: the mouth of the generator's edit of the same parameters.

The measure is PSNR in the box of the true smile's mouth. The last line is one JSON object: for each source the median
gain over the unedited photo, of smiles that show teeth and of those that do not.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from PIL import Image

from benchmarks.harness import append_rows, describe_machine
from benchmarks.photo.measure import found_landmarks, psnr
from benchmarks.photo.pairs import NEUTRAL, SMILING, TEETH, people
from pie_jax.cli import command
from pie_jax.face3d.render import project_landmarks
from pie_jax.pack import Pack, load_pack
from pie_jax.photo.composite import edited_portrait
from pie_jax.photo.fitted import FittedPhoto, open_photo
from pie_jax.photo.layers import painted_part
from pie_jax.photo.mouth import opening
from pie_jax.portrait import PhotoEditor, edit_portrait, embed_portraits
from pie_jax.portrait.request import photo_params_of
from pie_jax.studio.drawing import render_scenes
from pie_jax.studio.family import scenes_of_seeds
from pie_jax.studio.head import build_head

SOURCES = ("lips", "network", "studio", "generator")
_MOUTH = slice(48, 66)  # of the 66 landmarks
_MARGIN = 0.2  # around their box, in its width


def measure(pack: Pack, head, folder: pathlib.Path) -> Iterator[tuple[dict, list[np.ndarray]]]:
    """(row, pictures [neutral, one of each source, smiling]) of each pair whose mouth opens."""
    points = np.load(folder / "points.npz", allow_pickle=False)
    for person in people(folder):
        neutral, smiling = (open_photo(pack, folder / f"{person}{end}", align=False) for end in (NEUTRAL, SMILING))
        wanted = photo_params_of(pack, smiling, own=neutral)
        target = dataclasses.replace(neutral.params, rotation=wanted.rotation, translation=wanted.translation,
                                     expression=wanted.expression)
        layers = PhotoEditor(pack, neutral).layers(target)
        share = np.asarray(painted_part(layers))
        if share.max() == 0.0:
            continue
        edits = {"lips": edited_portrait(dataclasses.replace(layers, painting=None)) / 255.0,
                 "network": edited_portrait(layers) / 255.0}
        size = edits["lips"].shape[0]
        share = np.asarray(jax.image.resize(share, (size, size), "linear"))[..., None]
        lips = _mouth_of(np.asarray(layers.motion.mouth_corners), pack, target)
        for name, (image, landmarks) in {"studio": _studio(head, target, pack, size),
                                         "generator": _generator(pack, neutral, target, size)}.items():
            edits[name] = edits["lips"] * (1 - share) + _placed(image, landmarks[_MOUTH], lips, size) * share
        before, truth = (photo.portrait / 255.0 for photo in (neutral, smiling))
        region = _box(smiling.landmarks[_MOUTH], size)
        unedited = psnr(before, truth, region)
        yield {"kind": "mouth", "person": person, "unedited_db": unedited,
               "teeth": bool(opening(points[f"{person}_smiling"]) > TEETH),
               "gain_db": {name: psnr(edits[name], truth, region) - unedited for name in SOURCES}}, [
                   before, *(edits[name] for name in SOURCES), truth]


def _studio(head, target, pack: Pack, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The studio's head at `target` [n]: [size, size, 3], and its landmarks [66, 2] in 0..1."""
    scene = scenes_of_seeds([0], head=head)
    batched = jax.tree.map(lambda a: np.asarray(a)[None], target)
    drawn = render_scenes(head, dataclasses.replace(scene, params=batched, gaze=np.zeros((1, 2), np.float32)),
                          resolution=size, camera=pack.configs.camera)
    return np.clip(np.asarray(drawn.images[0]), 0.0, 1.0), np.asarray(drawn.landmarks[0]) / size


def _generator(pack: Pack, photo: FittedPhoto, target, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The generator's edit of the photo to `target` [n]: [size, size, 3], and its landmarks [66, 2] in 0..1."""
    small = pack.configs.generator.resolution
    shrunk = Image.fromarray(photo.portrait).resize((small, small), Image.Resampling.LANCZOS)
    embedding = embed_portraits(pack, np.asarray(shrunk, np.float32)[None] / 255.0)[0]
    moved = dataclasses.replace(
        embedding.params, rotation=embedding.params.rotation + (target.rotation - photo.params.rotation),
        expression=embedding.params.expression + (target.expression - photo.params.expression))
    edited = edit_portrait(pack, embedding, detail=0.0, like=(moved, ("pose", "expression")))
    image = Image.fromarray(np.round(edited * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    image = np.asarray(image, np.float32) / 255.0
    landmarks = found_landmarks(pack, image)
    if landmarks is None:
        landmarks = np.asarray(project_landmarks(pack.morphable, moved, pack.configs.camera, resolution=1))
    return image, landmarks


def _mouth_of(corners: np.ndarray, pack: Pack, target) -> np.ndarray:
    """[18, 2] in 0..1: the model's lips at `target` [n], brought to the corners [2, 2] of the moved mouth."""
    lips = np.asarray(project_landmarks(pack.morphable, target, pack.configs.camera, resolution=1))[_MOUTH]
    return lips + (corners - lips[[0, 6]]).mean(axis=0)


def _placed(image: np.ndarray, found: np.ndarray, wanted: np.ndarray, size: int) -> np.ndarray:
    """`image` [size, size, 3] with its points `found` [N, 2] where they are `wanted` [N, 2], both in 0..1."""
    level = np.concatenate([wanted, np.ones((len(wanted), 1))], axis=1)
    affine = np.linalg.lstsq(level, found, rcond=None)[0].T * [[1, 1, size], [1, 1, size]]
    moved = Image.fromarray(np.round(image * 255).astype(np.uint8)).transform(
        (size, size), Image.Transform.AFFINE, affine.ravel().tolist(), Image.Resampling.BICUBIC)
    return np.asarray(moved, np.float32) / 255.0


def _box(landmarks: np.ndarray, size: int) -> np.ndarray:
    """[size, size] bool: the box around landmarks [N, 2] in 0..1."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = _MARGIN * (high[0] - low[0])
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return ((np.stack([x, y], -1) > low - margin) & (np.stack([x, y], -1) < high + margin)).all(axis=-1)


def summarise(rows: Sequence[dict]) -> dict:
    """The median gain of each source, dB, where teeth show and where they do not, and how many pairs those are."""
    parted = {"teeth": [row for row in rows if row["teeth"]], "no_teeth": [row for row in rows if not row["teeth"]]}
    return {f"mouth_{name}": {"pairs": len(some), **{
        source: round(statistics.median(row["gain_db"][source] for row in some), 3) for source in SOURCES}}
        for name, some in parted.items() if some}


@command.guarded_main
def main(argv: Sequence[str]) -> int:
    options = command.Parser(module="benchmarks.photo.mouths", description=__doc__)
    command.add_debug(options)
    options.add_argument("--pack", default="demo", help="name or folder of a pack (default: %(default)s)")
    options.add_argument("--pairs", required=True, metavar="DIR")
    options.add_argument("--sheets", metavar="DIR", help="write what was measured as pictures, for your eyes")
    options.add_argument("--out", required=True, metavar="DIR")
    arguments = options.parse_args(argv)
    command.configure("auto")
    pack, rows = load_pack(arguments.pack), []
    for row, pictures in measure(pack, build_head(), pathlib.Path(arguments.pairs)):
        rows.append(row | {"unedited_db": round(row["unedited_db"], 3),
                           "gain_db": {name: round(gain, 3) for name, gain in row["gain_db"].items()}})
        if arguments.sheets:
            folder = pathlib.Path(arguments.sheets)
            folder.mkdir(parents=True, exist_ok=True)
            joined = np.round(np.clip(np.concatenate(pictures, axis=1), 0, 1) * 255).astype(np.uint8)
            Image.fromarray(joined).save(folder / f"{row['person']}.png")
    summary = summarise(rows)
    append_rows(pathlib.Path(arguments.out) / "mouths.jsonl", [
        *rows, {"kind": "mouths", "pack": pack.hash[:12], **describe_machine(), **summary}])
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
