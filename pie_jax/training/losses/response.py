"""Does the generator move what a scene moves? Cosine and gain of its change against the true render's change.

For scenes it never saw, one factor is set to both of its ends: d = R(high) - R(low) is the true change, g the
generator's. cosine = <d, g> / |d||g|, gain = <d, g> / |d|^2, averaged over scenes. Whole-image PSNR does not see
expressions (an unedited image is within 28 dB of an opened jaw); the response does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pie_jax.arrays import Array


def region_mask(landmarks: np.ndarray, resolution: int) -> np.ndarray:
    """landmarks [N, 66, 2] in 0..1 -> [N, R, R, 1] float32 in 0..1: where a face's expression is seen.

    1 on the lids (narrow Gaussians: a blink moves few pixels), 0.3 around eyes, brows and mouth.
    """
    grid = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    mask = np.zeros((len(landmarks), resolution, resolution), np.float32)
    brows = np.array([0.0, -0.015], np.float32)
    eyes = [landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)]
    bumps = [(eye + brows, 0.05, 0.05, 0.3) for eye in eyes] + [(eye, 0.038, 0.022, 1.0) for eye in eyes]
    bumps.append((landmarks[:, 48:66].mean(1), 0.075, 0.075, 0.3))
    for centre, width, height, weight in bumps:
        x = np.exp(-0.5 * ((grid[None] - centre[:, :1]) / width) ** 2)
        y = np.exp(-0.5 * ((grid[None] - centre[:, 1:]) / height) ** 2)
        mask = np.maximum(mask, weight * y[:, :, None] * x[:, None, :])
    return mask[..., None]


def psnr(error: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Mean over images of the PSNR in dB; error [N, R, R, 3] in units of the 0..1 range, weighted by mask."""
    weight = np.ones_like(error[..., :1]) if mask is None else mask
    mse = (weight * error**2).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * error.shape[-1])
    return float(np.mean(-10 * np.log10(mse + 1e-10)))


def response(synthesise: Callable[[Array], Array], data: dict[str, np.ndarray],
             factors: tuple[str, ...]) -> dict[str, float]:
    """Held-out metrics of a generator `synthesise(z [N, 512]) -> [N, R, R, 3]` in 0..1 on `family_data.make_response`.

    Returns psnr_db, region_psnr_db (eyes and mouth), and `<factor>_cosine`, `<factor>_gain` for every factor.
    """
    truth = data["images"].astype(np.float32) / 255
    error = np.asarray(synthesise(data["z"])) - truth
    region = region_mask(data["landmarks"], truth.shape[1])
    metrics = {"psnr_db": psnr(error), "region_psnr_db": psnr(error, mask=region)}
    for f, name in enumerate(factors):
        low, high = (np.asarray(synthesise(data["moved_z"][f, end])) for end in (0, 1))
        moved = data["moved_images"][f].astype(np.float32) / 255
        g = (high - low).reshape(len(low), -1)
        d = (moved[1] - moved[0]).reshape(len(low), -1)
        inner = (d * g).sum(1)
        metrics[f"{name}_cosine"] = float(np.mean(inner / np.sqrt((d**2).sum(1) * (g**2).sum(1) + 1e-12)))
        metrics[f"{name}_gain"] = float(np.mean(inner / ((d**2).sum(1) + 1e-12)))
    return metrics
