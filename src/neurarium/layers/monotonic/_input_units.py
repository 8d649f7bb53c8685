"""Units that each read one input alone: the entrance of the second architecture of monotonic networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers.monotonic._monotonic_activation import RATIOS, Function, MonotonicActivation
from neurarium.layers.monotonic._monotonic_linear import Directions, check_directions, signed, warn_of_missing_kinds


class InputUnits(nn.Module):
    """Every input through units of its own: ``ρ(|w_iu|_t x_i + b_iu)`` (Runje and Shankaranarayana, Fig. 4).

    Args:
        in_features: number of inputs.
        units: per input.
        monotonicity: 1, -1 or 0 for all inputs or one per input.
        activation: of a `MonotonicActivation`, applied to each input's units.
        ratios: of convex, concave and bounded units.
        generator: of the initial values; torch's global one by default.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        x: [..., in_features]; output: [..., in_features * units], those of one input side by side.

    Raises:
        ValueError: what `MonotonicLinear` refuses.
    """

    directions: Tensor

    def __init__(
        self,
        in_features: int,
        units: int = 4,
        monotonicity: Directions = 1,
        activation: str | Function = "elu",
        ratios: Sequence[float] = RATIOS,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or units < 1:
            raise ValueError(f"in_features and units must be at least 1, not {in_features} and {units}")
        self.in_features, self.units = in_features, units
        signs = check_directions(monotonicity, in_features, 1)[0]
        self.register_buffer("directions", signs[:, None].to(device=device))
        self.activation = MonotonicActivation(activation, ratios)
        warn_of_missing_kinds(self.activation, units)
        self.weight = nn.Parameter(torch.empty(in_features, units, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(in_features, units, device=device, dtype=dtype))
        nn.init.uniform_(self.weight, -1.5, 1.5, generator=generator)
        nn.init.uniform_(self.bias, -1.0, 1.0, generator=generator)

    def constrained_weight(self) -> Float[Tensor, "inputs units"]:
        """The weights as they are used."""
        return signed(self.weight, self.directions)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Each input's units, side by side."""
        return self.activation(x[..., None] * self.constrained_weight() + self.bias).flatten(-2)
