"""FLAME (generic_model.pkl and its later versions): identity and expression of the whole head at rest.

The first 300 of `shapedirs` are identity, the other 100 expression, both in standard deviations; metres. Jaw, neck and
eyes are joints, which a linear model has not: they stay at rest. FLAME has no colours. Its landmarks are separate
files: --landmarks flame_static_embedding.pkl (51 points, the jaw's are then laid on by shape), or a list of 68.

Source: Li et al. (SIGGRAPH Asia 2017); soubhiksanyal/FLAME_PyTorch.
"""

from __future__ import annotations

import argparse

import numpy as np

from converters.converting import Converted
from converters.morphable.build import build, flat_mean
from converters.morphable.points import find_landmarks
from converters.readers import Checkpoint
from converters.table import Ignored, Rule, map_tensors

LICENCE = "FLAME, Max Planck Institute: research only by registration (FLAME 2023 Open: CC BY 4.0); see its page"
DECIMETRES, IDENTITIES, EXPRESSIONS = 10.0, 300, 100


def recognise(checkpoint: Checkpoint) -> str | None:
    """"flame" or None."""
    tree = checkpoint.tree
    return "flame" if isinstance(tree, dict) and {"v_template", "shapedirs", "f", "posedirs"} <= set(tree) else None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The model of the file; Mismatch, PackError."""
    tensors = checkpoint.state_dict()
    count = tensors["v_template"].shape[0]
    rules = [
        Rule(target="mean_shape", source="v_template", layout=lambda a: flat_mean(a) * DECIMETRES, shape=(count, 3)),
        Rule(target="identity_basis", source="shapedirs", layout=lambda a: a[:, :, :80] * DECIMETRES,
             shape=(count, 3, IDENTITIES + EXPRESSIONS)),
        Rule(target="expression_basis", source="shapedirs",
             layout=lambda a: a[:, :, IDENTITIES:IDENTITIES + 64] * DECIMETRES),
        Rule(target="triangles", source="f", shape=(None, 3))]
    known = [Ignored(pattern=p, why="of the joints, which stay at rest") for p in (
        "posedirs", "J_regressor*", "kintree_table", "weights*", "J", "hands*")]
    fields, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout="FLAME")
    triangles = fields["triangles"].astype(np.int64)
    landmarks, notes = find_landmarks(getattr(arguments, "landmarks", None), fields["mean_shape"], triangles,
                                      where=checkpoint.path)
    middle = fields["mean_shape"][landmarks].mean(axis=0)  # of the face: the head's own lies behind it
    fields |= {"mean_shape": fields["mean_shape"] - middle, "landmark_vertices": landmarks}
    model, more = build(fields, where=checkpoint.path)
    cut = (f"identity: the first 80 of {IDENTITIES} components are kept",
           f"expression: the first 64 of {EXPRESSIONS} components are kept", "jaw, neck and eyes stay at rest")
    return Converted(part="morphable", weights=model, config=None, layout="FLAME", licence=LICENCE, table=table,
                     notes=(*notes, *cut, *more))
