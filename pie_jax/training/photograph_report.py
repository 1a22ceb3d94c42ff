"""What is looked at while a generator learns photographs: a sheet of samples, and figures beside those held out.

    samples/STEP.png     64 images of the same codes each time, not chosen
    overfitting          (score of training pictures - held-out ones) / (training pictures - generated ones)
    distance_NETWORK     Frechet distance of generated images and training pictures, by features of that network
    precision, recall    by the perceptual features
    nearest_mean, _max   cosine of generated faces and the most alike training picture; beside it that of held-out ones
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from pie_jax.arrays import Array
from pie_jax.config import GeneratorConfig
from pie_jax.io import save_png
from pie_jax.nn.layers import apply
from pie_jax.nn.stylegan2 import Discriminator, Mapping, Synthesis, to_w_plus
from pie_jax.training.image_distances import frechet, nearest, precision_recall
from pie_jax.training.photograph_features import open_features

SHOWN, COLUMNS = 64, 8
COUNTED = 512  # generated images of the figures
_BATCH, _SCORED = 16, 256


def grid(images: np.ndarray, *, columns: int = COLUMNS) -> np.ndarray:
    """Images [N, R, R, 3] side by side, row by row; places that are left are white."""
    missing = -len(images) % columns
    images = np.concatenate([images, np.full((missing, *images.shape[1:]), 255, images.dtype)])
    return np.concatenate([np.concatenate(list(images[i:i + columns]), axis=1)
                           for i in range(0, len(images), columns)])


def painter(config: GeneratorConfig) -> Callable[[Any, int], np.ndarray]:
    """(weights, count) -> [count, R, R, 3] uint8: images of the first codes of a fixed key."""
    @jax.jit
    def paint(weights, z):
        w_plus = to_w_plus(apply(Mapping(config), weights["mapping"], z), config.num_layers)
        image = apply(Synthesis(config), weights["synthesis"], w_plus)
        return jnp.clip(jnp.round(image * 127.5 + 127.5), 0, 255).astype(jnp.uint8)

    def run(weights, count: int) -> np.ndarray:
        parts = [np.asarray(paint(weights, jax.random.normal(jax.random.fold_in(jax.random.key(9), k),
                                                             (_BATCH, config.z_dim))))
                 for k in range(-(-count // _BATCH))]
        return np.concatenate(parts)[:count]

    return run


@dataclasses.dataclass
class Report:
    """Called with a TrainState of `adversarial`, it writes the sheet and returns the figures."""

    folder: pathlib.Path
    paint: Callable[[Any, int], np.ndarray]
    score: Callable[[Any, Array], Array]
    features: dict[str, Callable[[np.ndarray], np.ndarray]]
    known: dict[str, np.ndarray]  # features of the training pictures
    unseen: dict[str, np.ndarray]  # and of those held out
    images: np.ndarray
    held_out: np.ndarray

    @classmethod
    def open(cls, folder: pathlib.Path, config: GeneratorConfig, images: np.ndarray, held_out: np.ndarray, *,
             judges: str) -> Report:
        """images, held_out [N, R, R, 3] uint8; judges: the pack whose networks give the features."""
        features = open_features(judges)
        critic = jax.jit(lambda weights, x: apply(Discriminator(config), weights, x.astype(jnp.float32) / 127.5 - 1.0))
        save_png(_made(folder) / "training.png", grid(images[:SHOWN]))
        return cls(folder=folder, paint=painter(config), score=critic, features=features,
                   known={name: f(images) for name, f in features.items()},
                   unseen={name: f(held_out) for name, f in features.items()} if len(held_out) else {},
                   images=images, held_out=held_out)

    def __call__(self, state: Any) -> dict[str, float]:
        made = self.paint(state.ema, COUNTED)
        save_png(_made(self.folder / "samples") / f"{int(state.step):07d}.png",
                 Image.fromarray(grid(made[:SHOWN])), metadata={"step": int(state.step)})
        own = {name: features(made) for name, features in self.features.items()}
        return self._scores(state, made) | measure(self.known, own, self.unseen)

    def _scores(self, state, made) -> dict[str, float]:
        def mean(images):
            whole = images[:len(images) // 4 * 4 or len(images)][:_SCORED]  # the discriminator reads groups of four
            scores = [self.score(state.extra["critic"], whole[i:i + _BATCH]) for i in range(0, len(whole), _BATCH)]
            return float(np.mean(np.concatenate(scores)))

        known, fake = mean(self.images), mean(made)
        found = {"score_training": known, "score_generated": fake}
        if len(self.held_out):
            unseen = mean(self.held_out)
            found |= {"score_held_out": unseen,
                      "overfitting": (known - unseen) / (known - fake) if known != fake else 0.0}
        return found


def measure(known: dict[str, np.ndarray], made: dict[str, np.ndarray],
            unseen: dict[str, np.ndarray]) -> dict[str, float]:
    """The figures that need no discriminator, of features {network: [N, F]} of training, generated, held-out images."""
    found: dict[str, float] = {}
    for name, own in made.items():
        found[f"distance_{name}"] = frechet(known[name], own)
        if name == "perceptual":
            found["precision"], found["recall"] = precision_recall(known[name], own)
            continue
        for what, features in (("nearest", own), ("held_out_nearest", unseen.get(name))):
            if features is not None:
                _, alike = nearest(known[name], features)
                found |= {f"{what}_mean": float(alike.mean()), f"{what}_max": float(alike.max())}
    return found


def _made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
