"""Features of portraits by the networks of a pack, for distances between sets of them. They are not Inception's."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pie_jax.arrays import Array
from pie_jax.config import CameraConfig
from pie_jax.imaging import face_crop
from pie_jax.nn.graph import Graph
from pie_jax.nn.layers import apply
from pie_jax.pack import Pack, load_pack
from pie_jax.pack.inference import perceptual_features

JUDGES = ("perceptual", "face_descriptor")  # parts of a pack that can be asked
_FACE = CameraConfig(crop_x=0.15, crop_y=0.15, crop_size=0.7)  # of an FFHQ-framed portrait: what the descriptor reads
_BATCH = 32


def open_features(pack_name: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What the pack has of JUDGES: name -> function of portraits [N, R, R, 3] uint8 giving features [N, F].

    perceptual: mean and deviation over the pixels of each channel of each layer. face_descriptor: 1024 numbers of
    length 1, by which people are told apart.
    """
    pack = load_pack(pack_name, parts=JUDGES)
    makers = {"perceptual": _perceptual, "face_descriptor": _descriptor}
    return {name: makers[name](pack) for name in JUDGES if name in pack.weights}


def _batched(function: Callable[[Array], jax.Array]) -> Callable[[np.ndarray], np.ndarray]:
    compiled = jax.jit(function)

    def of(portraits: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(portraits), _BATCH):
            part = portraits[start:start + _BATCH]
            full = np.concatenate([part, np.zeros((_BATCH - len(part), *part.shape[1:]), part.dtype)])
            parts.append(np.asarray(compiled(full))[:len(part)])
        return np.concatenate(parts)

    return of


def _perceptual(pack: Pack) -> Callable[[np.ndarray], np.ndarray]:
    def of(portraits):
        layers = perceptual_features(pack.configs, pack.weights, portraits.astype(jnp.float32) / 255.0)
        return jnp.concatenate([f(x, axis=(1, 2)) for x in layers.values() for f in (jnp.mean, jnp.std)], axis=-1)

    return _batched(of)


def _descriptor(pack: Pack) -> Callable[[np.ndarray], np.ndarray]:
    config, weights = pack.configs.of("face_descriptor"), pack.weights["face_descriptor"]

    def of(portraits):
        crops = face_crop(portraits.astype(jnp.float32), _FACE, resolution=config.resolution)
        found = apply(Graph(config), weights, crops * (config.high / 255.0))[0]
        return found * jax.lax.rsqrt(jnp.sum(jnp.square(found), axis=-1, keepdims=True))

    return _batched(of)
