"""Activations as maps: channels of convolutions, tokens on their grid, vectors as maps of one position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.probes.similarity._units import Units


class Maps:
    """Reads the units of some layers as maps [batch, units, height, width], layers of one size joined.

    Args:
        model: any module, in evaluation mode.
        layers: names of modules, as `Units` takes them.
        grid: rows and columns of the tokens; by default a square, without the first token where one is too many.
        whole: run each pass to its end (``units.output``).
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], grid: tuple[int, int] | None = None, whole: bool = False
    ) -> None:
        self.units, self.grid = Units(model, layers, whole), grid
        self.sizes: dict[str, int] = {}  # units of each layer, by the order of the layers

    def read(self, batch: Any) -> dict[str, Float[Tensor, "batch units height width"]]:
        """The maps of each layer.

        Raises:
            ValueError: tokens that make no grid, or maps of three dimensions.
        """
        found = {name: self._as_map(name, value) for name, value in self.units.samples(batch).items()}
        self.sizes = {name: value.shape[1] for name, value in found.items()}
        return found

    def _as_map(self, name: str, value: Tensor) -> Tensor:
        if value.dim() == 4:
            return value
        if value.dim() == 2:
            return value[:, :, None, None]
        if value.dim() != 3:
            raise ValueError(f"the layer {name!r} gives maps of {value.dim() - 2} dimensions; only images are compared")
        tokens = value.shape[2]
        rows, columns = self.grid or (math.isqrt(tokens), math.isqrt(tokens))
        extra = tokens - rows * columns
        if self.grid is None and extra:  # a class token in front
            rows = columns = math.isqrt(tokens - 1)
            extra = tokens - rows * columns
        if extra not in (0, 1):
            raise ValueError(f"the {tokens} tokens of the layer {name!r} are no square; give grid=(rows, columns)")
        return value[:, :, extra:].unflatten(2, (rows, columns))


def at_size(value: Float[Tensor, "batch units height width"], size: tuple[int, int]) -> Tensor:
    """The maps at a larger size, bilinearly."""
    return value if value.shape[2:] == size else F.interpolate(value, size, mode="bilinear", align_corners=False)
