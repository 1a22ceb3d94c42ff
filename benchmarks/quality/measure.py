"""One embedded portrait, edited in every way: what is read from each edit, and how far it is from the truth."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality import judge
from benchmarks.quality.edits import EDITS, MOUTH, Edit, obtained
from benchmarks.quality.energy import final_energy
from benchmarks.quality.portraits import Portrait, Truth
from pie_jax.face3d.morphable import CONTROL_FIELDS, VECTOR_SLICES
from pie_jax.pack import Pack, inference
from pie_jax.portrait import Embedding, ReachWarning, edit_portrait
from pie_jax.portrait.request import AXES, expression_names

MOUTH_MARGIN = 0.04  # of the portrait, round the box of the mouth's landmarks
MOVED = 4 / 255  # a pixel that an edit changes by more belongs to its region
SEEN = 0.005  # of a portrait: a true edit that moves less of it asks for what the person has already
GROUPS = ("rotation", "identity", "texture", "expression", "illumination")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looks:
    """What networks see in images [N, R, R, 3]."""

    params_vector: np.ndarray  # [N, 257] FaceParams by the pack's regressor
    landmarks: np.ndarray  # [N, 66, 2] px, by the pack's landmark network
    judged: np.ndarray  # [N, 64] descriptors of the judge, which is no part of a pack
    described: np.ndarray | None  # [N, D] descriptors of the pack's own recognition, which the energy has seen


def look(pack: Pack, images: Sequence[np.ndarray]) -> Looks:
    """Look at images [R, R, 3] in 0..1, all in one batch."""
    batch = jnp.asarray(np.stack(images))
    seen = jax.tree.map(np.asarray, _look(pack, batch))
    camera, size = pack.configs.camera, batch.shape[1]
    points = seen["landmarks"] * camera.crop_size + np.float32([camera.crop_x, camera.crop_y])
    judged = np.asarray(judge.describe(judge.load()[0], batch, camera))
    return Looks(params_vector=seen["params_vector"], landmarks=points * size, judged=judged,
                 described=seen.get("descriptor"))


@jax.jit
def _look(pack: Pack, images) -> dict[str, jax.Array]:
    configs, weights = pack.configs, pack.weights
    found = {"params_vector": inference.regress(configs, weights, images),
             "landmarks": inference.find_landmarks(configs, weights, images)}
    if "recognition" in weights:
        found["descriptor"] = inference.face_embedding(configs, weights, images)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edited:
    """The pictures of one portrait: its synthesis, and every edit of it by name. All [R, R, 3] in 0..1."""

    synthesis: np.ndarray
    images: dict[str, np.ndarray]
    seconds: float  # an edit


def edit_all(pack: Pack, embedding: Embedding, edits: Sequence[Edit] = EDITS, *, corrected: bool = True) -> Edited:
    """Every edit of an embedding; without `corrected` by the rig alone, as StyleRig and PIE edit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReachWarning)  # what arrives is measured here
        synthesis = edit_portrait(pack, embedding)
        began = time.perf_counter()
        images = {edit.name: edit_portrait(pack, embedding, invert_response=corrected, **edit.request)
                  for edit in edits}
    return Edited(synthesis=synthesis, images=images, seconds=(time.perf_counter() - began) / len(edits))


def measure(pack: Pack, embedding: Embedding, portrait: Portrait, edited: Edited, truths: Mapping[str, Truth], *,
            edits: Sequence[Edit] = EDITS) -> dict:
    """The row of one portrait: fidelity of its synthesis, and "edits" with the figures of each.

    truths: of every edit by name, empty for a photo, of which only what its own images say is measured.
    """
    names = expression_names(pack)
    seen = look(pack, [*edited.images.values(), edited.synthesis, portrait.image])
    spread = np.asarray(pack.weights["regressor"]["output_std"])
    figures = embedding.report["metrics"]
    row = {"psnr_db": figures["psnr_db"], "ssim": figures["ssim"], "outcome": embedding.report["outcome"],
           "energy": final_energy(pack, embedding, portrait.image),
           "identity_cosine": float(seen.judged[-2] @ seen.judged[-1]), "seconds_per_edit": edited.seconds}
    if "perceptual" in pack.weights:
        row["perceptual"] = distance(pack, edited.synthesis, portrait.image)
    if portrait.coverage is not None:
        row["sharpness"] = sharpness(edited.synthesis, portrait.image, portrait.coverage > 0.5)
    before, found = seen.params_vector[-2], {}
    for i, edit in enumerate(edits):
        found[edit.name] = {
            "asked": edit.asked, "obtained": obtained(seen.params_vector[i], edit.quantity, names),
            "before": obtained(before, edit.quantity, names),
            "drift": drift((seen.params_vector[i] - before) / spread, edit, names),
            "identity_cosine": float(seen.judged[i] @ seen.judged[-1])}
        if seen.described is not None:
            found[edit.name]["own_cosine"] = float(seen.described[i] @ seen.described[-1])
    if truths:
        true = look(pack, [*(truths[edit.name].image for edit in edits), portrait.image])
        for i, edit in enumerate(edits):
            truth, size = truths[edit.name], portrait.image.shape[0]
            found[edit.name] |= against(truth, edited.images[edit.name], edited.synthesis, portrait,
                                        edit.quantity in MOUTH)
            found[edit.name] |= {
                "landmark_px128": _apart(seen.landmarks[i], truth.landmarks) * 128 / size,
                "landmark_unedited_px128": _apart(seen.landmarks[-2], truth.landmarks) * 128 / size,
                "obtained_of_truth": obtained(true.params_vector[i], edit.quantity, names),
                "drift_of_truth": drift((true.params_vector[i] - true.params_vector[-1]) / spread, edit, names),
                "identity_cosine_of_truth": float(true.judged[i] @ true.judged[-1])}
    return row | {"edits": found}


def drift(change: np.ndarray, edit: Edit, names: Sequence[str]) -> dict[str, float]:
    """Root mean square of a change [257] of FaceParams, in deviations, over what was not asked for, by group.

    A light is asked for as a whole; of a pose and of an expression all other components are counted.
    """
    asked = np.zeros(change.shape, bool)
    group = VECTOR_SLICES[CONTROL_FIELDS[edit.control]]
    if edit.control == "illumination":
        asked[group] = True
    else:
        asked[group.start + (AXES if edit.control == "pose" else names).index(edit.quantity)] = True
    kept = {name: change[VECTOR_SLICES[name]][~asked[VECTOR_SLICES[name]]] for name in GROUPS}
    return {name: float(np.sqrt(np.mean(np.square(part)))) for name, part in kept.items() if part.size}


def against(truth: Truth, image, synthesis, portrait: Portrait, mouth: bool) -> dict[str, float]:
    """PSNR to the true edited portrait, edited and unedited: whole image, face, the region that the edit moves."""
    masks = {"truth": None, "face": np.maximum(truth.coverage, portrait.coverage) > 0.5,
             "region": np.abs(truth.image - portrait.image).max(-1) > MOVED}
    if mouth:
        masks["mouth"] = mouth_mask(image.shape[:2], portrait.landmarks, truth.landmarks)
    found = {"moved": float(masks["region"].mean())}
    for name, mask in masks.items():
        found[f"{name}_db"] = decibels(image, truth.image, mask)
        found[f"{name}_unedited_db"] = decibels(synthesis, truth.image, mask)
    return found


def decibels(image, truth, mask=None) -> float:
    """PSNR in dB of images [R, R, 3] in 0..1, over the pixels of `mask` [R, R] (all without one)."""
    error = np.mean(np.square(image - truth), axis=-1)
    mean = error.mean() if mask is None else (error * mask).sum() / max(float(mask.sum()), 1e-6)
    return float(-10 * np.log10(mean + 1e-10))


def sharpness(image, reference, mask) -> float:
    """Gradient energy of `image` inside `mask` [R, R] against that of `reference`."""
    def energy(x):
        return sum(float((np.square(np.diff(x, axis=axis)).sum(-1) * inner).sum())
                   for axis, inner in ((0, mask[1:]), (1, mask[:, 1:])))

    return energy(image) / max(energy(reference), 1e-9)


def mouth_mask(shape, *landmarks) -> np.ndarray:
    """[R, R]: 1 in the box round the mouths of all `landmarks` [66, 2] px."""
    points = np.concatenate([points[48:] for points in landmarks])
    margin = MOUTH_MARGIN * shape[0]
    low, high = np.floor(points.min(0) - margin).astype(int).clip(0), np.ceil(points.max(0) + margin).astype(int)
    mask = np.zeros(shape, np.float32)
    mask[low[1]:high[1], low[0]:high[0]] = 1.0
    return mask


def distance(pack: Pack, a, b) -> float:
    """Mean squared difference of the pack's perceptual features of two portraits [R, R, 3]."""
    seen = [inference.perceptual_features(pack.configs, pack.weights, jnp.asarray(x)[None]) for x in (a, b)]
    return float(np.mean([jnp.mean(jnp.square(seen[0][name] - seen[1][name])) for name in seen[0]]))


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of points [K, 2]."""
    return float(np.linalg.norm(a - b, axis=-1).mean())
