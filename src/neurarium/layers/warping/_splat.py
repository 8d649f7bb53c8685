"""Writing values to where a grid points: the transpose of bilinear reading."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

EMPTY = 1e-5
"""Weight below which nothing has landed."""


def splat(
    values: Float[Tensor, "batch channels height width"],
    grid: Float[Tensor, "batch height width 2"],
    fallback: Float[Tensor, "batch channels height2 width2"] | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Float[Tensor, "batch channels height2 width2"], Float[Tensor, "batch 1 height2 width2"]]:
    """Each value is written to the four cells around its point, and the mean of what landed in a cell is taken.

    ``restored * weight`` is exactly the transpose of ``grid_sample(..., align_corners=False)`` with zeros outside. Sums
    are made in single precision where the values are in half.

    Args:
        values: what is written.
        grid: (x, y) for each value, -1 and 1 at the borders.
        fallback: what stands where nothing landed; zero by default.
        size: height and width of the result; those of the values by default.

    Returns:
        The restored map, and the sum of weights in each cell.
    """
    batch, channels, height, width = values.shape
    rows, columns = size or (height, width)
    wide = torch.promote_types(values.dtype, torch.float32)
    place = ((grid.to(wide) + 1) * grid.new_tensor([columns, rows], dtype=wide) - 1) / 2
    corner = place.floor()
    part = place - corner
    ones = values.new_ones(batch, 1, height, width, dtype=wide)
    written = torch.cat([values.to(wide), ones], 1).permute(0, 2, 3, 1)
    base = rows * columns * torch.arange(batch, device=values.device).view(-1, 1, 1)
    indices, parts = [], []
    for right in (0, 1):
        for down in (0, 1):
            x, y = corner[..., 0] + right, corner[..., 1] + down
            weight = (part[..., 0] if right else 1 - part[..., 0]) * (part[..., 1] if down else 1 - part[..., 1])
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            flat = y.clamp(0, rows - 1).long() * columns + x.clamp(0, columns - 1).long()
            indices.append((base + flat).flatten())
            parts.append((written * (weight * inside)[..., None]).flatten(0, 2))
    summed = written.new_zeros(batch * rows * columns, channels + 1).index_add(0, torch.cat(indices), torch.cat(parts))
    summed = summed.view(batch, rows, columns, channels + 1).permute(0, 3, 1, 2)
    total, weight = summed[:, :-1], summed[:, -1:]
    landed = weight > EMPTY
    restored = (total / torch.where(landed, weight, 1.0)).to(values.dtype)
    empty = torch.zeros_like(restored) if fallback is None else fallback
    return torch.where(landed, restored, empty), weight


def folding_penalty(grid: Float[Tensor, "batch height width 2"]) -> Float[Tensor, ""]:
    """Mean of the negative part of the grid's Jacobian determinant, relative to that of the regular grid.

    Zero where the grid folds nowhere; add it to the loss where it does.
    """
    right = (grid[:, :-1, 1:] - grid[:, :-1, :-1]) * grid.shape[2] / 2
    down = (grid[:, 1:, :-1] - grid[:, :-1, :-1]) * grid.shape[1] / 2
    return (down[..., 0] * right[..., 1] - right[..., 0] * down[..., 1]).relu().mean()
