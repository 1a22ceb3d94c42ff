"""A vectorised z-buffer: every pixel in every triangle's box is one candidate, a scatter keeps the nearest.

Which triangle a pixel sees carries no gradient; barycentric coordinates are recomputed from its corners, with one.
"""

from __future__ import annotations

import torch

EDGE_TOLERANCE = 2.0**-21  # of the squared box, on a barycentric coordinate
AREA_TOLERANCE = 2.0**-20
NEAR = 1e-6


@torch.no_grad()
@torch.compiler.disable
def visible_triangles(vertices: torch.Tensor, triangles: torch.Tensor, *, side: int) -> torch.Tensor:
    """vertices [N, V, 3] (x px, y px, depth), triangles [T, 3] -> the nearest triangle [N, side, side], -1 for none.

    How many candidates there are depends on the data, which no compiler of graphs likes: it is kept out of them.
    """
    images, count = vertices.shape[0], triangles.shape[0]
    corners = vertices[:, triangles].flatten(0, 1)  # [N * T, 3 corners, 3]
    x, y, z = corners.unbind(-1)
    low, high = corners[..., :2].amin(1), corners[..., :2].amax(1)
    first = (low - 0.5).ceil().clamp(0, side)
    extent = ((high - 0.5).floor() + 1).clamp(0, side) - first
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    box = (high - low).amax(1).square()
    good = (z.amin(1) > NEAR) & (area.abs() > AREA_TOLERANCE * box) & torch.isfinite(area) & (extent.amin(1) > 0)
    index = good.nonzero()[:, 0]
    across, down = extent[index].long().unbind(-1)
    sizes = across * down
    owner = torch.repeat_interleave(index, sizes)
    within = torch.arange(owner.shape[0]) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    across = torch.repeat_interleave(across, sizes)
    column = first[owner, 0].long() + within % across
    row = first[owner, 1].long() + within // across
    dx = x[owner] - (column[:, None] + 0.5)
    dy = y[owner] - (row[:, None] + 0.5)
    weights = torch.stack([dx[:, (k + 1) % 3] * dy[:, (k + 2) % 3] - dx[:, (k + 2) % 3] * dy[:, (k + 1) % 3]
                           for k in range(3)], dim=-1) / area[owner, None]
    inside = weights.amin(-1) >= -EDGE_TOLERANCE * box[owner] / area[owner].abs()
    owner, column, row, weights = owner[inside], column[inside], row[inside], weights[inside]
    inverse = 1.0 / z[owner]
    nearness = (weights * inverse).sum(-1).clamp(inverse.amin(-1), inverse.amax(-1))
    # bits of positive floats keep their order; of equal depths the later triangle wins
    key = (nearness.view(torch.int32).long() << 32) | (owner % count)
    pixel = (owner // count) * side * side + row * side + column
    canvas = torch.full((images * side * side,), -1, dtype=torch.int64)
    canvas.scatter_reduce_(0, pixel, key, "amax")
    return torch.where(canvas >= 0, canvas & 0xFFFFFFFF, -1).view(images, side, side)


def draw(vertices: torch.Tensor, colours: torch.Tensor, triangles: torch.Tensor,
         *, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours [N, V, 3] of the mesh -> image [N, side, side, 3], 0 where nothing is, and coverage [N, side, side]."""
    seen = visible_triangles(vertices, triangles, side=side)
    hit = seen >= 0
    image, row, column = hit.nonzero(as_tuple=True)
    corners = triangles[seen[image, row, column]]  # [P, 3]
    at = vertices[image[:, None], corners]  # [P, 3 corners, 3]
    dx, dy = at[..., 0] - (column[:, None] + 0.5), at[..., 1] - (row[:, None] + 0.5)
    edges = torch.stack([dx[:, (k + 1) % 3] * dy[:, (k + 2) % 3] - dx[:, (k + 2) % 3] * dy[:, (k + 1) % 3]
                         for k in range(3)], dim=-1)
    weights = edges / at[..., 2]
    barycentric = weights / weights.sum(-1, keepdim=True)
    drawn = (colours[image[:, None], corners] * barycentric[..., None]).sum(1)
    canvas = torch.zeros((*hit.shape, 3), dtype=colours.dtype)
    return canvas.index_put((image, row, column), drawn), hit.to(colours.dtype)
