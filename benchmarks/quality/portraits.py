"""Portraits to measure: the studio's, whose true edited picture is known, and photos, of which nothing is known."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.edits import Edit, true_scene

TRAINED_FROM = 1_000_000  # the first seed that training may use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portrait:
    """A portrait [R, R, 3] in 0..1 with what is known of it; of a photo nothing is."""

    seed: int  # of the studio, or the photo's place in its folder
    image: np.ndarray
    coverage: np.ndarray | None = None  # [R, R] share of a pixel that shows the face
    landmarks: np.ndarray | None = None  # [66, 2] px
    scene: object = None  # Scene [1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """What a portrait shows after one edit was done to the person: image [R, R, 3], coverage [R, R], landmarks px."""

    image: np.ndarray
    coverage: np.ndarray
    landmarks: np.ndarray


def photograph(head, seed: int, *, resolution: int) -> Portrait:
    """The person of `seed` in the demo family. ValueError: a seed that training may have seen."""
    from pie_jax.studio.family import scenes_of_seeds

    if not 0 <= seed < TRAINED_FROM:
        raise ValueError(f"seed: expected 0..{TRAINED_FROM - 1}; later ones belong to training, got {seed}")
    scene = scenes_of_seeds([seed], head=head)
    return Portrait(seed=seed, scene=scene, **vars(render(head, scene, resolution=resolution)))


def photos(folder: str, *, count: int, resolution: int) -> list[Portrait]:
    """The first `count` photos of a folder, read as `pie_jax.embed` reads them."""
    from pie_jax.embed.photos import collect
    from pie_jax.io import load_portrait

    files = [photo.path for photo in collect([folder])][:count]
    return [Portrait(seed=place, image=load_portrait(pathlib.Path(path), resolution=resolution))
            for place, path in enumerate(files)]


def true_edits(head, portrait: Portrait, edits: Sequence[Edit]) -> dict[str, Truth]:
    """The truth of every edit by its name, rendered as the portrait was."""
    return {edit.name: render(head, true_scene(head, portrait.scene, edit), resolution=portrait.image.shape[0])
            for edit in edits}


def render(head, scene, *, resolution: int) -> Truth:
    """Scene [1] drawn at twice the resolution and averaged."""
    from pie_jax.studio.render import render_scenes

    seen = render_scenes(head, scene, resolution=2 * resolution)

    def halve(x):
        return np.asarray(x).reshape(resolution, 2, resolution, 2, -1).mean((1, 3))

    return Truth(image=np.clip(halve(seen.images[0]), 0, 1), coverage=halve(seen.coverage[0])[..., 0],
                 landmarks=np.asarray(seen.landmarks[0]) / 2)
