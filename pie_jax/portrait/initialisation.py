"""Where a search begins: at an encoder's guess, or at the mean of the codes whose portraits look most like the photo.

From the mean code a short search can be caught: what a code changes at once, such as long hair into short, it does not
leave again in a few hundred steps. Codes that look like the photo mostly have the right one. PIE (arXiv 2009.09485) and
`--preset paper` begin at the mean code.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array, Weights
from pie_jax.config import GeneratorConfig
from pie_jax.imaging import resize_area
from pie_jax.nn.layers import to_w_plus
from pie_jax.pack import Pack, PackConfigs
from pie_jax.pack.inference import encode, map_z, synthesise
from pie_jax.programs import kept

CANDIDATES = 64  # z ~ N(0, I), the same for every photo
SIDE = 32  # px of the thumbnails that are compared
_BATCH = 8  # painted at once


def nearest_random_codes(pack: Pack, portraits: Array, *, nearest: int, resolution: int) -> np.ndarray:
    """w [B, D]: for each portrait [B, R, R, 3] in 0..1 the mean of the `nearest` of CANDIDATES random codes.

    Nearest by the mean squared error of thumbnails of SIDE px; candidates are painted at `resolution` px, an output of
    the generator, anew in each call. A portrait's code depends on the pack and its own pixels only.
    """
    config, weights = pack.configs.generator, pack.weights["generator"]
    z = jax.random.normal(jax.random.key(0), (CANDIDATES, config.z_dim))
    parts = [jax.device_get(_paint(weights, z[i:i + _BATCH], config=config, resolution=resolution))
             for i in range(0, CANDIDATES, _BATCH)]
    w, painted = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    starts = []
    for photo in np.asarray(_thumbnails(jnp.asarray(portraits))):
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is named by the search
            distance = np.square(painted - photo).mean((1, 2, 3))
            starts.append(w[np.argsort(distance, kind="stable")[:nearest]].mean(0))
    return np.stack(starts)


def guessed_codes(pack: Pack, portraits: Array) -> jax.Array:
    """w_plus [B, L, D]: what the pack's encoder guesses of portraits [B, R, R, 3] in 0..1. PackError: it has none."""
    pack.require("generator", "encoder")
    return _guess({name: pack.weights[name] for name in ("generator", "encoder")}, portraits, configs=pack.configs)


@kept(static_argnames="configs")
def _guess(weights: dict[str, Weights], portraits: Array, *, configs: PackConfigs) -> jax.Array:
    return encode(configs, weights, portraits)


@kept(static_argnames=("config", "resolution"))
def _paint(weights: Weights, z: Array, *, config: GeneratorConfig, resolution: int) -> tuple[jax.Array, jax.Array]:
    w = map_z(config, weights, z)
    images = synthesise(config, weights, to_w_plus(w, config.num_layers), resolution=resolution)
    return w, _thumbnails(jnp.clip(images, 0.0, 1.0))


def _thumbnails(images: Array) -> jax.Array:
    """Images [B, R, R, 3] -> [B, s, s, 3], s = SIDE, or R where that is less."""
    return resize_area(images, min(SIDE, images.shape[1]))
