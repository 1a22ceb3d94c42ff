"""How far MediaPipe's points lie from those of iBUG's convention that they are taken for, over portraits of a folder.

    python -m benchmarks.photo.convention --portraits DIR [--pack demo] [--count 80]

The pack's face model, whose 66 points follow iBUG, is fitted to the points; what it leaves of each point at the median,
across and down the face in distances of the eyes, is its offset. Three rounds: each fits to points less the offsets
found before. The last line is the table of `pie_jax.nn.face_mesh`.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.photo.portraits import pictures
from pie_jax.cli import command
from pie_jax.face3d.render import project_landmarks
from pie_jax.io import load_photo
from pie_jax.nn.face_mesh import LANDMARKS, face_axes
from pie_jax.pack import load_pack
from pie_jax.photo.align import framing
from pie_jax.photo.detect import find_faces
from pie_jax.photo.fit import fit_photos
from pie_jax.photo.squares import SquareReader

_ROUNDS, _BATCH, _SIZE = 3, 16, 128


@command.guarded_main
def main(argv: Sequence[str]) -> int:
    options = command.Parser(module="benchmarks.photo.convention", description=__doc__)
    command.add_debug(options)
    options.add_argument("--portraits", required=True, metavar="DIR")
    options.add_argument("--pack", default="demo")
    options.add_argument("--count", type=int, default=80)
    arguments = options.parse_args(argv)
    command.configure("auto")
    pack = load_pack(arguments.pack)
    points, portraits = [], []
    for path in pictures(pathlib.Path(arguments.portraits), arguments.count):
        photo = load_photo(path, notice=lambda text: None)
        faces = find_faces(pack, photo)
        if not faces:
            continue
        square = framing(faces[0].landmarks)
        points.append(square.from_photo(faces[0].points[LANDMARKS, :2]))
        portraits.append(SquareReader(photo).read(square, _SIZE, mirror=True))
    whole = len(points) // _BATCH * _BATCH
    offsets = np.zeros((len(LANDMARKS), 2))
    for number in range(_ROUNDS):
        left, residuals = [], []
        for start in range(0, whole, _BATCH):
            some = range(start, start + _BATCH)
            fit = fit_photos(pack, np.stack([portraits[i] for i in some]),
                             np.stack([points[i] - offsets @ face_axes(points[i]) for i in some]).astype(np.float32))
            found = np.asarray(project_landmarks(pack.morphable, fit.params, pack.configs.camera, resolution=1))
            left += [(points[i] - f) @ np.linalg.inv(face_axes(f)) for i, f in zip(some, found, strict=True)]
            residuals.append(fit.residual_px)
        offsets = np.median(left, axis=0)
        print(f"round {number + 1}: {np.median(np.concatenate(residuals)):.2f} px of 224 before it", file=sys.stderr)
    print(json.dumps(np.round(offsets, 3).tolist()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
