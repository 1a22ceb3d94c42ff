"""The command: which family a file belongs to, and the forward pass that --check compares."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from converters.converting import Converted, run
from converters.morphable import basel, bfm, flame, ict
from converters.readers import Checkpoint
from pie_jax.errors import PackError

FAMILIES = (bfm, basel, flame, ict)
OTHER = ("Deep3D's regressor speaks of the Basel Face Model 2009: with this model train another regressor "
         "into the pack (python -m pie_jax.training.regressor)")


def recognise(checkpoint: Checkpoint) -> str | None:
    """The layout: "deep3d", "bfm2009", "basel", "flame", "ict", or None."""
    return next((found for family in FAMILIES if (found := family.recognise(checkpoint)) is not None), None)


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The morphable model of the file; PackError where it is none, Mismatch for other tensors."""
    for family in FAMILIES:
        if family.recognise(checkpoint) is not None:
            converted = family.convert(checkpoint, arguments)
            return converted if family is bfm else dataclasses.replace(converted, notes=(*converted.notes, OTHER))
    raise PackError(f"{checkpoint.path}: no morphable model that is known: Deep3D's BFM_model_front.mat, Basel Face "
                    "Model 2009, 2017 or 2019, FLAME, or ICT-FaceKit's folder")


def forward(converted: Converted, reference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Vertices, colours and landmarks of the coefficients in `reference`."""
    from pie_jax.face3d.morphable import FaceParams, albedo, shape

    given = {name: np.asarray(reference[name], np.float32) for name in ("identity", "expression", "texture")
             if name in reference}
    if not given:
        return {}
    count = next(iter(given.values())).shape[0]
    params = dataclasses.replace(FaceParams.zeros(leading=(count,)), **given)
    vertices = shape(converted.weights, params)
    found = {"vertices": vertices, "albedo": albedo(converted.weights, params),
             "landmarks": vertices[:, converted.weights.landmark_vertices]}
    return {name: np.asarray(array) for name, array in found.items() if name in reference}


def _extra(p) -> None:
    p.add_argument("--landmarks", metavar="FILE", help="68 (or 66) vertex numbers from 0, for a model whose file has "
                   "none: .npy, .npz, FLAME's embedding, or Deep3D's facemodel_info.mat; or the word 'approximate'")
    p.add_argument("--deep3d", metavar="DIR", help="folder BFM of Deep3DFaceRecon_pytorch, for the Basel Face Model "
                   "2009 (default: the file's own folder)")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run(argv, kind="morphable", description="Convert a 3D morphable face model into a part of a pack.",
               convert=convert, recognise=recognise, forward=forward, extra=_extra)
