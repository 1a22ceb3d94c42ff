"""ICT-FaceKit's folder FaceXModel: neutral mesh, 100 identity meshes, 53 expressions, landmarks in vertex_indices.json.

A mode is its mesh less the neutral one; identity coefficients are standard deviations, an expression is 0 to 1. Of the
published mesh the face and the eyeballs are kept (a portrait's hair hides the rest of the head); centimetres.

Source: ICT-VGL/ICT-FaceKit README.md, FaceXModel/vertex_indices.json.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from converters.converting import Converted
from converters.morphable.build import SKIN, build
from converters.morphable.points import kept, sixty_six
from converters.readers import Checkpoint
from converters.table import Ignored, Rule, map_tensors
from pie_jax.errors import PackError

LICENCE = "MIT (ICT-FaceKit, USC Institute for Creative Technologies)"
CENTIMETRES = 10.0  # in a decimetre
NEUTRAL = "generic_neutral_mesh"
PUBLISHED = 26719  # vertices of the mesh whose parts are known
FACE, EYES = (0, 6705), (21451, 24590)  # first and last vertex: "narrow face area" and the eyeballs
EYE_COLOUR = (0.85, 0.83, 0.80)


def recognise(checkpoint: Checkpoint) -> str | None:
    """"ict" or None."""
    return "ict" if checkpoint.format == "obj-folder" and NEUTRAL in checkpoint.tree["meshes"] else None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The model of the folder; Mismatch, PackError."""
    meshes, indices = checkpoint.tree["meshes"], checkpoint.tree.get("vertex_indices")
    if not isinstance(indices, dict) or not {"expressions", "idx_to_landmark_verts"} <= set(indices):
        raise PackError(f"{checkpoint.path}: no vertex_indices.json with expressions and landmarks; take the whole "
                        "folder FaceXModel")
    neutral = meshes[NEUTRAL]
    count = len(neutral["vertices"])
    names = tuple(str(name) for name in indices["expressions"])
    people = sorted(name for name in meshes if name.startswith("identity"))
    tensors = {f"{name}.vertices": mesh["vertices"] for name, mesh in meshes.items()}
    tensors |= {"quads": neutral["quads"], "triangles": neutral["triangles"]}
    tensors = dataclasses.replace(checkpoint, tree=tensors).state_dict()
    for name, mesh in meshes.items():
        if mesh["quads"] is not neutral["quads"] or mesh["triangles"] is not neutral["triangles"]:
            raise PackError(f"{checkpoint.path}: {name}.obj has other faces than {NEUTRAL}.obj")

    def modes(base, *others):
        return np.stack([(other - base) / CENTIMETRES for other in others], axis=-1)

    def files(stems):
        return (f"{NEUTRAL}.vertices", *(f"{stem}.vertices" for stem in stems))

    rules = [Rule(target="mean_shape", source=f"{NEUTRAL}.vertices", layout=lambda a: a / CENTIMETRES,
                  shape=(count, 3)),
             Rule(target="identity_basis", source=files(people[:80]), layout=modes, shape=(count, 3)),
             Rule(target="expression_basis", source=files(names), layout=modes, shape=(count, 3)),
             Rule(target="triangles", source=("quads", "triangles"), layout=_triangles)]
    known = [*(Ignored(pattern=f"{name}.vertices", why="identity beyond the 80th") for name in people[80:]),
             *(Ignored(pattern=f"{name}.vertices", why="not among the expressions of vertex_indices.json")
               for name in ("PupilDilate_?", "cheekRaiser_?"))]
    fields, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout="ICT-FaceKit")
    landmarks = sixty_six(np.asarray(indices["idx_to_landmark_verts"], np.int64), checkpoint.path)
    triangles = fields["triangles"].astype(np.int64)
    colour = np.tile(np.asarray(SKIN), (count, 1))
    notes: tuple[str, ...] = ()
    if count == PUBLISHED:
        keep = np.concatenate([np.arange(a, b + 1) for a, b in (FACE, EYES)])
        colour[EYES[0]:EYES[1] + 1] = EYE_COLOUR
        whole = kept(triangles, keep)
        triangles = whole[np.all(whole >= 0, axis=1)]
        landmarks, colour = kept(landmarks, keep), colour[keep]
        fields |= {name: fields[name][keep] for name in ("mean_shape", "identity_basis", "expression_basis")}
        notes = (f"face and eyeballs are kept: {len(keep)} of {count} vertices",)
    fields["mean_shape"] = fields["mean_shape"] - fields["mean_shape"][landmarks].mean(axis=0)
    fields |= {"triangles": triangles, "landmark_vertices": landmarks, "mean_albedo": colour}
    model, more = build(fields, where=checkpoint.path, names=names)
    cut = (f"identity: the first 80 of {len(people)} components are kept",) if len(people) > 80 else ()
    return Converted(part="morphable", weights=model, config=None, layout="ICT-FaceKit", licence=LICENCE, table=table,
                     notes=(*notes, *cut, f"no colours in the files: even skin of RGB {SKIN}", *more))


def _triangles(quads: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]], triangles])
