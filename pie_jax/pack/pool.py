"""The pool of v as a part of a pack: in memory arrays, on disk one JPEG mosaic beside the parameters."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

_QUALITY = 92  # about 2 kB for a face of 64 px; the error, below 2 %, is less than what a 3DMM leaves unexplained


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """What the frozen networks see in N portraits of the generator (PIE, arXiv 2009.09485: the samples v).

    Built once for a pack (`samples.build_pool`): these carry no gradient, so a step only draws rows.
    """

    images: jax.Array  # [N, R, R, 3] uint8: face crops of G(v), R = energy.render_resolution
    params_vector: jax.Array  # [N, 257] FaceParams of the regressor, Deep3D order
    landmarks: jax.Array  # [N, 66, 2] of the landmark network, x and y in 0..1 of the face crop

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What is stored: the images as one JPEG mosaic of whole 8 px blocks, so that no face leaks into another."""
        from PIL import Image

        images = np.asarray(self.images)
        count, side = images.shape[:2]
        tile, columns = _layout(count, side)
        rows = -(-count // columns)
        padded = np.pad(images, ((0, rows * columns - count), (0, tile - side), (0, tile - side), (0, 0)), mode="edge")
        mosaic = padded.reshape(rows, columns, tile, tile, 3).transpose(0, 2, 1, 3, 4)
        file = io.BytesIO()
        Image.fromarray(mosaic.reshape(rows * tile, columns * tile, 3)).save(
            file, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
        return {"jpeg": np.frombuffer(file.getvalue(), np.uint8), "size": np.array([count, side], np.int32),
                "theta": np.asarray(self.params_vector), "landmarks": np.asarray(self.landmarks)}

    @classmethod
    def from_arrays(cls, arrays: Mapping) -> Pool:
        """The inverse of `to_arrays` but for the JPEG's losses. ValueError: not such arrays."""
        from PIL import Image

        count, side = (int(x) for x in arrays["size"])
        tile, columns = _layout(count, side)
        rows = -(-count // columns)
        with Image.open(io.BytesIO(np.asarray(arrays["jpeg"]).tobytes())) as image:
            if image.size != (columns * tile, rows * tile):
                raise ValueError(f"jpeg: expected {(columns * tile, rows * tile)} pixels, got {image.size}")
            mosaic = np.asarray(image.convert("RGB"))
        tiles = mosaic.reshape(rows, tile, columns, tile, 3).transpose(0, 2, 1, 3, 4)
        images = tiles.reshape(rows * columns, tile, tile, 3)[:count, :side, :side]
        return cls(images=jnp.asarray(images), params_vector=jnp.asarray(arrays["theta"]),
                   landmarks=jnp.asarray(arrays["landmarks"]))


def _layout(count: int, side: int) -> tuple[int, int]:
    """Side of a tile and tiles in a row of the mosaic."""
    return -(-side // 8) * 8, math.ceil(math.sqrt(count))
