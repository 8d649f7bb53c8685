"""Sensors that read the field itself, at points or pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurarium.layers.forward_maps._forward_map import ForwardMap


def pixel_grid(
    height: int, width: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "pixels 2"]:
    """Centres of an image's pixels in [-1, 1]^2, row by row: x to the right, y downwards.

    Args:
        height: rows.
        width: columns.
        device: of the result.
        dtype: of the result.
    """
    rows, columns = (
        (2 * torch.arange(n, device=device, dtype=dtype or torch.get_default_dtype()) + 1) / n - 1
        for n in (height, width)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1)


class PointSamples(ForwardMap):
    """The field itself at given points: the parameters are coordinates [*batch, points, dimensions]."""

    def points(self, parameters: Float[Tensor, "*batch points dimensions"]) -> Tensor:
        """The points."""
        return parameters

    def forward(self, values: Float[Tensor, "*batch points channels"], parameters: Tensor) -> Tensor:
        """The values."""
        return values


class PixelMask(ForwardMap):
    """Some pixels of an image: the parameters are their indices [*batch, observed], counted row by row.

    Args:
        height: rows of the image.
        width: its columns.
    """

    grid: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.register_buffer("grid", pixel_grid(height, width), persistent=False)

    def points(self, parameters: Int[Tensor, "*batch observed"]) -> Float[Tensor, "*batch observed 2"]:
        """Centres of the observed pixels."""
        return self.grid[parameters]

    def describe(self, parameters: Int[Tensor, "batch observed"]) -> Float[Tensor, "batch observed 2"]:
        """The pixels' centres."""
        return self.points(parameters)

    def forward(self, values: Float[Tensor, "*batch observed channels"], parameters: Tensor) -> Tensor:
        """The values: only observed pixels were asked for."""
        return values

    def extra_repr(self) -> str:
        return f"height={self.height}, width={self.width}"
