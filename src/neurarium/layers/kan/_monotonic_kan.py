"""Kolmogorov-Arnold layers whose curves never fall: B-splines with rising coefficients."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from neurarium.layers.kan._basis_product import basis_linear
from neurarium.layers.kan._bspline import BSplineBasis
from neurarium.layers.monotonic._monotonic_linear import Directions, check_directions


class MonotonicKANLinear(nn.Module):
    """``y_j = b_j + Σ_i φ_ji(x_i)`` with splines φ that rise, fall, or are free.

    A spline whose coefficients rise rises, so a held curve's coefficients are a running sum of ``softplus`` of its
    parameters. Beyond the grid the curves stay at their last value; free curves too.

    Args:
        in_features: size of an input.
        out_features: size of an output.
        monotonicity: 1, -1 or 0 for all inputs, one per input, or one per output and input.
        grid_size: number of intervals of the grid.
        degree: of the splines.
        grid_range: ends of the grid.
        bias: whether a constant is added to each output.
        generator: of the initial values; torch's global one by default.
        device: where the parameters live.
        dtype: of the parameters.

    Shape:
        x: [..., in_features]; output: [..., out_features].

    Raises:
        ValueError: directions that are not -1, 0 or 1 or do not fit the layer, or a grid that `BSplineBasis` refuses.
    """

    directions: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        monotonicity: Directions = 1,
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.grid_range = in_features, out_features, grid_range
        self.register_buffer("directions", check_directions(monotonicity, in_features, out_features).to(device=device))
        self.basis = BSplineBasis(in_features, grid_size, degree, grid_range, device=device, dtype=dtype)
        shape = (out_features, in_features, self.basis.size)
        self.steps = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Held curves near straight lines through zero, free ones near zero."""
        nn.init.normal_(self.steps, std=0.3, generator=generator)
        self.steps.sub_(torch.where(self.directions[..., None] == 0, 0.0, 2.0).to(self.steps))

    def curves(self) -> Float[Tensor, "outputs inputs functions"]:
        """The coefficients as they are used; those of held curves have mean 0."""
        rising = softplus(self.steps).cumsum(-1)
        rising = rising - rising.mean(-1, keepdim=True)
        signs = self.directions[..., None]
        return torch.where(signs == 0, self.steps, rising * signs.to(rising.dtype)) / self.in_features**0.5

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Sum the curves into each output."""
        output = basis_linear(x.clamp(*self.grid_range), self.basis, self.curves())
        return output if self.bias is None else output + self.bias
