"""What edits of photographs are measured by: pixels of a region, points of a face, and a judge of identity."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from pie_jax import imaging
from pie_jax.pack import Pack
from pie_jax.photo.detect import find_faces

_CROP = (0.15, 0.85)  # of an FFHQ-framed portrait: what the judge reads


def psnr(image: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """PSNR in dB of images [H, W, 3] in 0..1, over a region [H, W] bool or all."""
    if region is not None:
        image, truth = image[region][None], truth[region][None]
    return float(imaging.psnr(np.asarray(image, np.float32), np.asarray(truth, np.float32)))


def to_image(portrait: np.ndarray) -> Image.Image:
    """[H, W, 3] in 0..1 as an RGB image."""
    return Image.fromarray(np.round(np.clip(portrait, 0.0, 1.0) * 255).astype(np.uint8))


def found_landmarks(pack: Pack, portrait: np.ndarray) -> np.ndarray | None:
    """The 66 points [66, 2], 0..1, of the largest face of a portrait [R, R, 3] in 0..1; None where no face is found."""
    faces = find_faces(pack, to_image(portrait))
    return faces[0].landmarks / portrait.shape[0] if faces else None


def points_px224(pack: Pack, points: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of points [66, 2] in 0..1 of the portrait, in px of a 224 px face crop."""
    return float(np.linalg.norm(points - truth, axis=-1).mean() / pack.configs.camera.crop_size * 224)


def open_judge(path: str | pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """The face descriptor in a file of the Human library: portrait [R, R, 3] in 0..1 -> [1024] of length 1."""
    import jax

    from converters import tfjs
    from converters.readers import read
    from pie_jax.nn.graph import Graph
    from pie_jax.nn.layers import apply

    judge = tfjs.convert(read(path), argparse.Namespace())
    describe = jax.jit(lambda images: apply(Graph(judge.config), judge.weights, images)[0])

    def of(portrait: np.ndarray) -> np.ndarray:
        image = to_image(portrait)
        low, high = (round(end * image.size[0]) for end in _CROP)
        side = judge.config.resolution
        crop = image.crop((low, low, high, high)).resize((side, side), Image.Resampling.BICUBIC)
        found = np.asarray(describe(np.asarray(crop, np.float32)[None]))[0]
        return found / np.linalg.norm(found)

    return of
