"""Make some activation maps look like others, and move, zoom or paste maps to ask for something else."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def map_alignment_loss(
    maps: Float[Tensor, "batch pairs height width"],
    targets: Float[Tensor, "batch pairs height_t width_t"],
    valid: Bool[Tensor, "batch pairs height_v width_v"] | None = None,
) -> Float[Tensor, ""]:
    """Minus the mean correlation of maps with their targets, over the positions of each map (Dravid et al., 2023).

    Neither the scale nor the mean of a map matters. Both are compared at the larger of the two sizes. A map that is
    constant has no correlation and counts as 0.

    Args:
        maps: a generator's activations; gradients flow into them.
        targets: what they should look like.
        valid: positions of the targets that count (those that a shift uncovered do not); of the targets' size.

    Raises:
        ValueError: the numbers of examples or pairs differ, or ``valid`` has another size than the targets.
    """
    if maps.shape[:2] != targets.shape[:2]:
        raise ValueError(f"maps are {tuple(maps.shape[:2])} (batch, pairs), targets {tuple(targets.shape[:2])}")
    if valid is not None and valid.shape != targets.shape:
        raise ValueError(f"valid has shape {tuple(valid.shape)}, targets {tuple(targets.shape)}")
    size = (max(maps.shape[2], targets.shape[2]), max(maps.shape[3], targets.shape[3]))
    x, y = (v if v.shape[2:] == size else F.interpolate(v, size, mode="bilinear") for v in (maps, targets))
    weight = torch.ones_like(y) if valid is None else F.interpolate(valid.to(y), size, mode="nearest")
    total = weight.sum((2, 3), keepdim=True).clamp_min(1)
    x, y = (v - (v * weight).sum((2, 3), keepdim=True) / total for v in (x, y))
    products = (x * y * weight).sum((2, 3))
    scale = ((x.square() * weight).sum((2, 3)) * (y.square() * weight).sum((2, 3))).clamp_min(1e-12).sqrt()
    return -(products / scale).mean()


def shift_maps(
    maps: Float[Tensor, "batch pairs height width"], down: int, right: int
) -> tuple[Float[Tensor, "batch pairs height width"], Bool[Tensor, "batch pairs height width"]]:
    """Maps moved by whole positions, and which positions still come from the map; the rest is 0.

    Args:
        maps: any maps.
        down: rows, negative for up.
        right: columns, negative for left.
    """
    height, width = maps.shape[2:]
    moved, valid = torch.zeros_like(maps), torch.zeros_like(maps, dtype=torch.bool)
    if abs(down) < height and abs(right) < width:
        to = (slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0)))
        of = (slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0)))
        moved[:, :, to[0], to[1]] = maps[:, :, of[0], of[1]]
        valid[:, :, to[0], to[1]] = True
    return moved, valid


def zoom_maps(
    maps: Float[Tensor, "batch pairs height width"], factor: float
) -> tuple[Float[Tensor, "batch pairs height width"], Bool[Tensor, "batch pairs height width"]]:
    """Maps enlarged (or shrunk) about their centre, and which positions come from the map.

    Args:
        maps: any maps.
        factor: above 1 enlarges.

    Raises:
        ValueError: ``factor`` is not positive.
    """
    if not factor > 0:
        raise ValueError(f"factor must be positive, not {factor}")
    theta = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], dtype=maps.dtype, device=maps.device)
    grid = F.affine_grid(theta.expand(len(maps), 2, 3), list(maps.shape), align_corners=False)
    valid = (grid.abs() <= 1).all(-1)[:, None].expand_as(maps)
    return F.grid_sample(maps, grid, align_corners=False), valid


def paste_maps(
    maps: Float[Tensor, "batch pairs height width"],
    patch: Float[Tensor, "batch pairs rows columns"],
    top: int,
    left: int,
) -> Float[Tensor, "batch pairs height width"]:
    """A copy of the maps with a patch laid over them at a place.

    Raises:
        ValueError: the patch reaches over the border.
    """
    rows, columns = patch.shape[2:]
    if top < 0 or left < 0 or top + rows > maps.shape[2] or left + columns > maps.shape[3]:
        raise ValueError(f"a patch of {rows} x {columns} at ({top}, {left}) does not fit into {tuple(maps.shape[2:])}")
    pasted = maps.clone()
    pasted[:, :, top : top + rows, left : left + columns] = patch
    return pasted
