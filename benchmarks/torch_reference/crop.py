"""The face crop of a portrait: a triangle filter along rows, then along columns."""

from __future__ import annotations

import torch


class FaceCrop:
    """[B, C, H, W] -> [B, C, R, R]: the camera's square box, edge pixels going on outside the portrait."""

    def __init__(self, camera, *, resolution: int):
        self.camera, self.resolution = camera, resolution
        self.matrices: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        if (height, width) not in self.matrices:
            camera = self.camera
            length = camera.crop_size * width
            self.matrices[height, width] = (_weights(height, camera.crop_y * width, length, self.resolution),
                                            _weights(width, camera.crop_x * width, length, self.resolution).T)
        rows, columns = self.matrices[height, width]
        return rows @ images @ columns


def _weights(size: int, start: float, length: float, count: int) -> torch.Tensor:
    """[count, size]: how much of each input pixel an output pixel takes; a row sums to 1."""
    scale = length / count
    radius = max(scale, 1.0)  # no narrower than an input pixel, so that enlarging interpolates
    matrix = torch.zeros(count, size, dtype=torch.float64)
    for i in range(count):
        centre = start + (i + 0.5) * scale
        for pixel in range(int(centre - radius) - 2, int(centre + radius) + 3):
            weight = max(0.0, 1.0 - abs(pixel + 0.5 - centre) / radius)
            matrix[i, min(max(pixel, 0), size - 1)] += weight
    return (matrix / matrix.sum(1, keepdim=True)).float()
