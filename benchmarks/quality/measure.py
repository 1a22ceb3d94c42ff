"""One portrait: embedded, edited in every way, each edit compared with the truth where there is one."""

from __future__ import annotations

import dataclasses
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality.edits import EDITS, MOUTH, obtained, true_scene
from pie_jax import observe
from pie_jax.figures import Tile, grid
from pie_jax.images import save_png
from pie_jax.pack import Pack
from pie_jax.portrait import Embedding, edit_portrait

MOUTH_MARGIN = 0.04  # of the portrait, round the box of the mouth's landmarks
MOVED = 4 / 255  # a pixel that an edit changes by more belongs to its region
SHOWN = ("yaw-15", "yaw+15", "azimuth-45", "azimuth+45", "jaw_open+2", "smile+2", "blink+2", "brow_raise+2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portrait:
    """A portrait of the studio, [R, R, 3] in 0..1, with what is known of it."""

    seed: int
    image: np.ndarray
    coverage: np.ndarray  # [R, R] share of a pixel that shows the face
    landmarks: np.ndarray  # [66, 2] px
    scene: object  # Scene [1]


def photograph(head, seed: int, *, resolution: int) -> Portrait:
    """The person of `seed` in the demo family, rendered at twice the resolution and averaged."""
    from pie_jax.studio.family import scenes_of_seeds

    scene = scenes_of_seeds([seed], head=head)
    image, coverage, landmarks = render(head, scene, resolution=resolution)
    return Portrait(seed=seed, image=image, coverage=coverage, landmarks=landmarks, scene=scene)


def render(head, scene, *, resolution: int):
    """Scene [1] -> image [R, R, 3] in 0..1, coverage [R, R], landmarks [66, 2] px."""
    from pie_jax.studio.render import render_scenes

    seen = render_scenes(head, scene, resolution=2 * resolution)

    def halve(x):
        return np.asarray(x).reshape(resolution, 2, resolution, 2, -1).mean((1, 3))

    return (np.clip(halve(seen.images[0]), 0, 1), halve(seen.coverage[0])[..., 0],
            np.asarray(seen.landmarks[0]) / 2)


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


@jax.jit
def look(pack: Pack, images) -> dict[str, jax.Array]:
    """What the pack's networks see in portraits [B, R, R, 3]: theta [B, 257], landmarks [B, 66, 2], descriptor."""
    configs, weights = pack.configs, pack.weights
    found = {"theta": observe.regress(configs, weights, images),
             "landmarks": observe.find_landmarks(configs, weights, images)}
    if "recognition" in weights:
        found["descriptor"] = observe.describe(configs, weights, images)
    return found


def distance(pack: Pack, a, b) -> float:
    """Mean squared difference of the pack's perceptual features of two portraits [R, R, 3]."""
    seen = [observe.perceive(pack.configs, pack.weights, jnp.asarray(x)[None]) for x in (a, b)]
    return float(np.mean([jnp.mean(jnp.square(seen[0][name] - seen[1][name])) for name in seen[0]]))


def measure(pack: Pack, embedding: Embedding, portrait: Portrait, head, *, folder: pathlib.Path | None = None,
            names: tuple[str, ...] = ()) -> dict:
    """The row of one embedded portrait; a labelled strip of pictures goes to `folder`.

    With `head` None there is no truth: only what can be read from the images themselves is measured.
    """
    size = portrait.image.shape[0]
    synthesis = edit_portrait(pack, embedding)
    figures = embedding.report["figures"]
    row = {"psnr_db": figures["psnr_db"], "ssim": figures["ssim"], "outcome": embedding.report["outcome"]}
    if "perceptual" in pack.weights:
        row["perceptual"] = distance(pack, synthesis, portrait.image)
    if head is not None:
        row["sharpness"] = sharpness(synthesis, portrait.image, portrait.coverage > 0.5)
    started = time.perf_counter()
    images = [edit_portrait(pack, embedding, **edit.request) for edit in EDITS]
    row["seconds_per_edit"] = (time.perf_counter() - started) / len(EDITS)
    seen = jax.tree.map(np.asarray, look(pack, jnp.asarray(np.stack([*images, synthesis, portrait.image]))))
    before, rows, tiles = seen["theta"][-2], {}, [Tile(image=portrait.image, label="portrait"),
                                                 Tile(image=synthesis, label="synthesis")]
    spread = np.asarray(pack.weights["regressor"]["output_std"])
    for i, edit in enumerate(EDITS):
        found = {"asked": edit.asked, "obtained": obtained(seen["theta"][i], edit.quantity, names),
                 "before": obtained(before, edit.quantity, names),
                 "drift": _drift((seen["theta"][i] - before) / spread, edit.control)}
        if "descriptor" in seen:
            found["identity_cosine"] = float(seen["descriptor"][i] @ seen["descriptor"][-1])
        if head is not None:
            truth, coverage, moved = render(head, true_scene(head, portrait.scene, edit), resolution=size)
            found |= _against(truth, images[i], synthesis, portrait, coverage, moved, edit.quantity in MOUTH)
            points = seen["landmarks"][i] * pack.configs.camera.crop_size + np.float32(
                [pack.configs.camera.crop_x, pack.configs.camera.crop_y])
            found["landmark_px128"] = float(np.linalg.norm(points - moved / size, axis=-1).mean() * 128)
            true_seen = jax.tree.map(np.asarray, look(pack, jnp.asarray(truth)[None]))
            found["obtained_of_truth"] = obtained(true_seen["theta"][0], edit.quantity, names)
            if "descriptor" in true_seen:
                found["identity_cosine_of_truth"] = float(true_seen["descriptor"][0] @ seen["descriptor"][-1])
            if edit.name in SHOWN:
                tiles += [Tile(image=images[i], label=edit.name), Tile(image=truth, label="truth")]
        elif edit.name in SHOWN:
            tiles.append(Tile(image=images[i], label=edit.name))
        rows[edit.name] = found
    if folder is not None:
        save_png(folder / f"{portrait.seed:06d}.png", grid(tiles, columns=6, side=192))
    return row | {"edits": rows}


def _drift(change, control: str) -> float:
    """Root mean square change, in deviations of the regressor, of the FaceParams that were not asked for."""
    from pie_jax.morphable import CONTROL_FIELDS, VECTOR_SLICES

    parts = [name for name in VECTOR_SLICES if name not in (CONTROL_FIELDS[control], "translation")]
    return float(np.sqrt(np.mean([np.mean(np.square(change[VECTOR_SLICES[name]])) for name in parts])))


def _against(truth, image, synthesis, portrait: Portrait, coverage, moved, mouth: bool) -> dict:
    """PSNR to the true edited portrait, edited and unedited: whole image, face, the region that the edit moves."""
    masks = {"truth": None, "face": np.maximum(coverage, portrait.coverage) > 0.5,
             "region": np.abs(truth - portrait.image).max(-1) > MOVED}
    if mouth:
        masks["mouth"] = mouth_mask(truth.shape[:2], portrait.landmarks, moved)
    found = {"moved": float(masks["region"].mean())}
    for name, mask in masks.items():
        found[f"{name}_db"] = decibels(image, truth, mask)
        found[f"{name}_unedited_db"] = decibels(synthesis, truth, mask)
    return found
