"""Views of a whole that all have its centre, and of its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

SCALES = tuple((max(0.05, 0.1 * i), 0.1 * (i + 1)) for i in range(8))
"""Shares of the whole's area that the local views keep: .05 to .1, .1 to .2, ... .7 to .8."""


@dataclass(frozen=True)
class PartWholeBatch:
    """Views of wholes.

    Args:
        anchor: the wholes themselves [batch, channels, size, size].
        centered: most of each, round its centre, of the same size.
        local: smaller and smaller neighbourhoods of the centre [views, batch, channels, local, local].
        parts: the cells of a grid on the whole, row by row [parts, batch, channels, size, size].
    """

    anchor: Tensor
    centered: Tensor
    local: Tensor
    parts: Tensor


class PartWholeViews(nn.Module):
    """Draws a whole from each image, and views of it (Hosseinzadeh Taher, Gotway and Liang, 2024, section 3).

    At granularity n the whole is a random piece of 1 / 2^n of the image's sides; all of it at n = 0. Positions never
    vary between the views of a whole, scales do: each view has the centre of the whole.

    Args:
        size: side of wholes and parts in pixels.
        local_size: side of the local views.
        num_parts: P, a power of 4.
        local_views: how many, at most 8.
        rotation: largest turn of a view in degrees.
        jitter: largest change of brightness (in deviations of the view) and of contrast.
        margin: pixels that a piece keeps from the border, where the image is large enough.
        generator: of the draws.

    Raises:
        ValueError: a number of parts that is no power of 4, or another argument out of range.
    """

    def __init__(
        self,
        size: int = 224,
        local_size: int = 96,
        num_parts: int = 4,
        *,
        local_views: int = 8,
        rotation: float = 10.0,
        jitter: float = 0.2,
        margin: int = 50,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        side = math.isqrt(max(num_parts, 0))
        if num_parts < 1 or side * side != num_parts or side & (side - 1):
            raise ValueError(f"num_parts must be a power of 4 (1, 4, 16 ...), not {num_parts}")
        if min(size, local_size) < 1 or not 0 <= local_views <= len(SCALES) or min(rotation, jitter, margin) < 0:
            raise ValueError(
                "sizes must be positive, local_views from 0 to 8, rotation, jitter and margin not negative"
            )
        self.size, self.local_size, self.num_parts, self.side = size, local_size, num_parts, side
        self.local_views, self.rotation, self.jitter, self.margin = local_views, rotation, jitter, margin
        self.generator = generator

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "batch channels height width"], granularity: int = 0) -> PartWholeBatch:
        """Views of one whole of each image.

        Args:
            x: images.
            granularity: n, how often the sides are halved.

        Raises:
            ValueError: no images, or images too small for this granularity's parts.
        """
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(f"views need floating-point images [batch, channels, height, width], not {list(x.shape)}")
        least = self.side * 2**granularity
        if granularity < 0 or min(x.shape[2:]) < 2 * least:
            raise ValueError(f"images of {list(x.shape[2:])} are too small for parts of 1/{least} of their sides")
        center, half = self._wholes(x, granularity)
        local = [
            self._view(
                x,
                center,
                half,
                self._shape(x, *scale, 3 / 4.5 if i % 2 else 1, 1 if i % 2 else 4.5 / 3),
                self.local_size,
            )
            for i, scale in enumerate(SCALES[: self.local_views])
        ]
        ones = x.new_ones(len(x), 2)
        parts = []
        for row in range(self.side):
            for column in range(self.side):
                cell = torch.tensor([column, row], device=x.device, dtype=x.dtype)
                shift = half * ((2 * cell + 1) / self.side - 1)
                parts.append(self._view(x, center + shift, half, ones / self.side, self.size))
        return PartWholeBatch(
            self._view(x, center, half, ones, self.size),
            self._view(x, center, half, self._shape(x, 0.8, 1.0, 3 / 4, 4 / 3), self.size),
            torch.stack(local) if local else x.new_empty(0, len(x), x.shape[1], self.local_size, self.local_size),
            torch.stack(parts),
        )

    def _wholes(self, x: Tensor, granularity: int) -> tuple[Tensor, Tensor]:
        """Centres and half sides of the wholes, in units in which the image goes from -1 to 1; width first."""
        sides = torch.tensor(x.shape[:1:-1], device=x.device, dtype=x.dtype)  # width, height
        half = torch.full_like(sides, 0.5**granularity)
        room = 1 - half
        kept = torch.minimum(room, 2 * self.margin / sides)  # what the margin takes from each side, where there is room
        room = torch.where(room > kept, room - kept, room) if granularity else room * 0
        return room * (2 * self._uniform(x, 2) - 1), half.expand(len(x), 2)

    def _shape(self, x: Tensor, low: float, high: float, least: float, most: float) -> Tensor:
        """Width and height of a view as shares of the whole's, by area and ratio of sides."""
        area = low + (high - low) * self._uniform(x, 1)
        ratio = torch.exp(math.log(least) + (math.log(most) - math.log(least)) * self._uniform(x, 1))
        return torch.cat([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)

    def _view(self, x: Tensor, center: Tensor, half: Tensor, share: Tensor, size: int) -> Tensor:
        """A box of each image, turned a little, in other light."""
        angle = math.radians(self.rotation) * (2 * self._uniform(x, 1)[:, 0] - 1)
        box = half * share
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([
            torch.stack([box[:, 0] * cos, -box[:, 1] * sin, center[:, 0]], 1),
            torch.stack([box[:, 0] * sin, box[:, 1] * cos, center[:, 1]], 1),
        ], 1)  # fmt: skip
        grid = affine_grid(turn, [len(x), x.shape[1], size, size], align_corners=False)
        view = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        if self.jitter:
            light = self.jitter * (2 * self._uniform(x, 2) - 1)[:, :, None, None, None]
            mean, deviation = view.mean((1, 2, 3), keepdim=True), view.std((1, 2, 3), keepdim=True)
            view = (view - mean) * (1 + light[:, 0]) + mean + light[:, 1] * deviation
        return view

    def _uniform(self, x: Tensor, columns: int) -> Tensor:
        device = x.device if self.generator is None else self.generator.device
        return torch.rand(len(x), columns, device=device, generator=self.generator).to(x)


def coarse_to_fine(step: int, steps: Sequence[int]) -> int:
    """The granularity of a step: 0 for the first ``steps[0]``, 1 for the next ``steps[1]`` ..., then the last.

    Args:
        step: from 0.
        steps: of each granularity.
    """
    for granularity, count in enumerate(steps):
        if step < count:
            return granularity
        step -= count
    return len(steps) - 1
