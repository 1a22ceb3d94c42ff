"""The Basel Face Model 2009: in Deep3DFaceRecon's form (BFM_model_front.mat) and as Basel gives it.

Basel's own 01_MorphableModel.mat has no expressions and no landmarks. With the files of Deep3D's folder BFM beside it
(or --deep3d DIR: BFM_exp_idx.mat, BFM_front_idx.mat, facemodel_info.mat, std_exp.txt, and Exp_Pca.bin of Guo et al.)
the same model comes out as `transferBFM09` makes; without them all 53 490 vertices, no expressions, --landmarks.

Source: sicxu/Deep3DFaceRecon_pytorch util/load_mats.py, models/bfm.py (arXiv 1903.08527).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from converters.converting import Converted
from converters.morphable.build import build, flat_basis, flat_mean, outward, scaled_basis
from converters.morphable.points import find_landmarks, sixty_six
from converters.readers import Checkpoint, read
from converters.table import Ignored, Rule, map_tensors
from pie_jax.errors import PackError

LICENCE = "Basel Face Model 2009, University of Basel: research only, by signed licence; not to be passed on"
DECIMETRES = 1e5  # micrometres
_EXPRESSIONS, _EXPRESSION_VERTICES = 79, 53215
_SHAPE = {"shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl"}
_FRONT = {"meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "keypoints"}


def recognise(checkpoint: Checkpoint) -> str | None:
    """"deep3d", "bfm2009" or None."""
    names = set(checkpoint.tree) if checkpoint.format == "mat" and isinstance(checkpoint.tree, dict) else set()
    return "deep3d" if names >= _FRONT else "bfm2009" if names >= _SHAPE else None


def convert(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    """The model of the file; Mismatch, PackError."""
    return _front(checkpoint) if recognise(checkpoint) == "deep3d" else _basel(checkpoint, arguments)


def _front(checkpoint: Checkpoint) -> Converted:
    tensors = checkpoint.state_dict()
    count = tensors["meanshape"].size
    rules = [
        Rule(target="mean_shape", source="meanshape", layout=_recentred),
        Rule(target="identity_basis", source="idBase", layout=flat_basis, shape=(count, None)),
        Rule(target="expression_basis", source="exBase", layout=flat_basis, shape=(count, None)),
        Rule(target="mean_albedo", source="meantex", layout=lambda a: _of(a, count) / 255),
        Rule(target="texture_basis", source="texBase", layout=lambda a: flat_basis(a) / 255, shape=(count, None)),
        Rule(target="triangles", source="tri", layout=lambda a: a - 1, shape=(None, 3)),
        Rule(target="landmark_vertices", source="keypoints",
             layout=lambda a: sixty_six(np.ravel(a), checkpoint.path) - 1)]
    known = [Ignored(pattern="point_buf", why="the triangles of each vertex, known from the triangles"),
             *(Ignored(pattern=p, why="a region of the regressor's training") for p in
               ("tri_mask2", "frontmask2*", "skinmask"))]
    fields, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout="Deep3D BFM_model_front")
    model, notes = build(fields, where=checkpoint.path)
    return Converted(part="morphable", weights=model, config=None, layout="Deep3D BFM_model_front", licence=LICENCE,
                     table=table, notes=notes)


def _of(mean: np.ndarray, count: int) -> np.ndarray:
    """`count` numbers in any shape -> [V, 3]; ValueError for another number of them."""
    if mean.size != count:
        raise ValueError(f"{mean.size} numbers where {count} are due")
    return flat_mean(mean)


def _recentred(mean: np.ndarray) -> np.ndarray:
    vertices = flat_mean(mean)
    return vertices - vertices.mean(axis=0)


def _basel(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Converted:
    tensors = checkpoint.state_dict()
    count = tensors["shapeMU"].size
    folder = Path(getattr(arguments, "deep3d", None) or checkpoint.path.parent)
    helpers = _helpers(folder, checkpoint.path.parent)
    keep = np.arange(count // 3)
    if helpers is not None:
        tensors |= helpers
        _check_index(helpers["trimIndex"], count // 3, "trimIndex", folder)
        _check_index(helpers["idx"], helpers["trimIndex"].size, "idx", folder)
        front = np.ravel(helpers["idx"]).astype(np.int64) - 1
        keep = np.ravel(helpers["trimIndex"]).astype(np.int64)[front] - 1

    def scaled(components: np.ndarray, deviations: np.ndarray, unit: float = 1.0) -> np.ndarray:
        return flat_basis(scaled_basis(components, deviations, most=80) / unit)[keep]

    rules = [
        Rule(target="mean_shape", source="shapeMU", layout=lambda a: _recentred(flat_mean(a)[keep] / DECIMETRES)),
        Rule(target="identity_basis", source=("shapePC", "shapeEV"),
             layout=lambda p, e: scaled(p, e, DECIMETRES)),
        Rule(target="mean_albedo", source="texMU", layout=lambda a: _of(a, count)[keep] / 255),
        Rule(target="texture_basis", source=("texPC", "texEV"), layout=lambda p, e: scaled(p, e, 255.0))]
    for name in ("shapePC", "texPC"):
        if tensors[name].ndim != 2 or tensors[name].shape[0] != count:
            raise PackError(f"{checkpoint.path}: {name} has shape {list(tensors[name].shape)}, but there are "
                            f"{count // 3} vertices")
    known = [Ignored(pattern=p, why="segments and their blending") for p in ("seg*", "matData*")]
    if helpers is not None:
        known += [Ignored(pattern="tl", why="the triangles of all vertices; facemodel_info's are used"),
                  *(Ignored(pattern=p, why="a region of the regressor's training, or known from the triangles") for p in
                    ("point_buf", "tri_mask2", "frontmask2*", "skinmask"))]
        rules += [Rule(target="keep", source=("trimIndex", "idx"), layout=lambda t, i: keep),
                  Rule(target="triangles", source="tri", layout=lambda a: a - 1, shape=(None, 3)),
                  Rule(target="landmark_vertices", source="keypoints",
                       layout=lambda a: sixty_six(np.ravel(a), folder) - 1)]
        if "expPC" in tensors:
            rules.append(Rule(
                target="expression_basis", source=("expPC", "expEV"),
                layout=lambda p, e: flat_basis(p.T * np.ravel(e) / DECIMETRES)[front][:, :, :64]))
    else:
        rules.append(Rule(target="triangles", source="tl", layout=lambda a: a - 1, shape=(None, 3)))
    fields, table = map_tensors(tensors, rules, known=known, where=checkpoint.path, layout="Basel Face Model 2009")
    fields.pop("keep", None)
    notes: tuple[str, ...] = ()
    if helpers is None:
        fields["triangles"] = outward(fields["mean_shape"], fields["triangles"].astype(np.int64))
        fields["landmark_vertices"], notes = find_landmarks(
            getattr(arguments, "landmarks", None), fields["mean_shape"], fields["triangles"], where=checkpoint.path)
    else:
        notes = (f"cut to Deep3D's {len(keep)} vertices with the files of {folder.name}/",)
    model, more = build(fields, where=checkpoint.path)
    return Converted(part="morphable", weights=model, config=None, layout="Basel Face Model 2009", licence=LICENCE,
                     table=table, notes=(*notes, *more))


def _check_index(index: np.ndarray, size: int, name: str, folder: Path) -> None:
    if index.size == 0 or index.min() < 1 or index.max() > size:
        raise PackError(f"{folder}: {name} names vertices that are not among the {size} of the model")


def is_helper(checkpoint: Checkpoint) -> bool:
    """Whether a file is one of Deep3D's that `_helpers` reads."""
    names = set(checkpoint.tree) if checkpoint.format == "mat" and isinstance(checkpoint.tree, dict) else set()
    return bool(names & {"trimIndex", "idx", "tri_mask2"}) and not names & {"idBase", "shapePC"}


def _helpers(folder: Path, beside: Path) -> dict[str, np.ndarray] | None:
    """The tensors of Deep3D's folder BFM (trimIndex, idx, tri, keypoints ... and expPC, expEV), or None.

    Exp_Pca.bin, which Deep3D does not have either, may also lie `beside` the model.
    """
    found: dict[str, np.ndarray] = {}
    for file in sorted(folder.glob("*.mat")) if folder.is_dir() else ():
        if file.stat().st_size > 64 * 2**20:
            continue
        checkpoint = read(file)
        if is_helper(checkpoint):
            found |= {k: v for k, v in checkpoint.tree.items() if isinstance(v, np.ndarray)}
    if not {"trimIndex", "idx", "tri", "keypoints"} <= set(found):
        return None
    components = _expression_file(folder if (folder / "Exp_Pca.bin").is_file() else beside)
    deviations = folder / "std_exp.txt"
    if components is not None and deviations.is_file():
        found["expPC"] = components
        found["expEV"] = np.array(deviations.read_text().split(), np.float64)
        if len(found["expEV"]) != len(components):
            raise PackError(f"{deviations}: {len(found['expEV'])} numbers for {len(components)} expressions")
    return found


def _expression_file(folder: Path) -> np.ndarray | None:
    """[79, 3 N] of Guo et al.'s Exp_Pca.bin: int32 79, a mean that Deep3D leaves out, the components; or None."""
    file = folder / "Exp_Pca.bin"
    if not file.is_file():
        return None
    count = 3 * _EXPRESSION_VERTICES
    if file.stat().st_size != 4 + 4 * count * (1 + _EXPRESSIONS) or np.fromfile(file, "<i4", 1)[0] != _EXPRESSIONS:
        raise PackError(f"{file}: not the expression basis of Guo et al. (79 components of 53 215 vertices)")
    components = np.fromfile(file, "<f4", offset=4 + 4 * count).reshape(_EXPRESSIONS, count)
    if not np.all(np.isfinite(components)):
        raise PackError(f"{file}: holds values that are NaN or infinite; download it again")
    return components
