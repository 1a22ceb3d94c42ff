"""The Basel Face Models 2017 and 2019 (.h5 of statismo): shape, expression, colour, each mean + basis sqrt(variance).

    vertices = shape.mean + expression.mean + B_s (a sqrt(var_s)) + B_e (b sqrt(var_e))          millimetres
    colour = color.mean + B_c (d sqrt(var_c))                                                    0..1

The files name a few anatomical landmarks, not iBUG's: give --landmarks.

Source: Gerig et al. (arXiv 1709.08398); unibas-gravis/parametric-face-image-generator.
"""

from __future__ import annotations

import argparse

import numpy as np

from converters.converting import Converted
from converters.morphable.build import build, flat_basis, flat_mean, outward, scaled_basis
from converters.morphable.points import find_landmarks
from converters.readers import Checkpoint
from converters.table import Ignored, Rule, map_tensors

LICENCE = "Basel Face Model 2017/2019, University of Basel: research only, by registration; not to be passed on"
MILLIMETRES = 100.0  # in a decimetre


def recognise(checkpoint: Checkpoint) -> str | None:
    """"basel" or None."""
    tree = checkpoint.tree
    if checkpoint.format != "hdf5" or not {"shape", "color", "expression"} <= set(tree):
        return None
    return "basel" if all(isinstance(tree[name], dict) and "model" in tree[name] for name in ("shape", "color",
                                                                                             "expression")) else None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The model of the file; Mismatch, PackError."""
    tensors = checkpoint.state_dict()

    def basis(unit: float, due: int):
        return lambda b, v: flat_basis(scaled_basis(b, np.sqrt(v.astype(np.float64)), most=due) / unit)

    def mean(shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        vertices = (flat_mean(shape) + flat_mean(expression)) / MILLIMETRES
        return vertices - vertices.mean(axis=0)

    of_255 = "color.model.mean" in tensors and float(tensors["color.model.mean"].max()) > 2.0
    colour = 255.0 if of_255 else 1.0
    rules = [
        Rule(target="mean_shape", source=("shape.model.mean", "expression.model.mean"), layout=mean),
        Rule(target="identity_basis", source=("shape.model.pcaBasis", "shape.model.pcaVariance"),
             layout=basis(MILLIMETRES, 80)),
        Rule(target="expression_basis", source=("expression.model.pcaBasis", "expression.model.pcaVariance"),
             layout=basis(MILLIMETRES, 64)),
        Rule(target="mean_albedo", source="color.model.mean", layout=lambda a: flat_mean(a) / colour),
        Rule(target="texture_basis", source=("color.model.pcaBasis", "color.model.pcaVariance"),
             layout=basis(colour, 80)),
        Rule(target="triangles", source="shape.representer.cells", shape=(3, None), layout=np.transpose)]
    known = [Ignored(pattern="*.model.noiseVariance", why="of the fit, not of the model"),
             Ignored(pattern="*.representer.*", why="the shape's mesh is used"),
             Ignored(pattern="*.modelinfo.*", why="how the model was built"),
             *(Ignored(pattern=p, why="a description") for p in ("*version*", "metadata.*", "catalog.*"))]
    fields, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout="Basel Face Model 2017/2019")
    fields["triangles"] = outward(fields["mean_shape"], fields["triangles"].astype(np.int64))
    fields["landmark_vertices"], notes = find_landmarks(
        getattr(arguments, "landmarks", None), fields["mean_shape"], fields["triangles"], where=checkpoint.path)
    counts = {name: tensors[f"{name}.model.pcaBasis"].shape[1] for name in ("shape", "expression", "color")}
    model, more = build(fields, where=checkpoint.path)
    cut = tuple(f"{what}: the first {due} of {counts[name]} components are kept" for name, what, due in (
        ("shape", "identity", 80), ("expression", "expression", 64), ("color", "texture", 80)) if counts[name] > due)
    return Converted(part="morphable", weights=model, config=None, layout="Basel Face Model 2017/2019",
                     licence=LICENCE, table=table, notes=(*notes, *cut, *more))
