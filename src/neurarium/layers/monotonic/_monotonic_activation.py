"""Three activations made of one convex function: itself, its reflection, and a bounded one that joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

RATIOS = (7.0, 7.0, 2.0)
Function = Callable[[Tensor], Tensor]


def _softplus(x: Tensor) -> Tensor:
    return F.softplus(x) - 0.6931471805599453


FUNCTIONS: dict[str, Function] = {"relu": F.relu, "elu": F.elu, "selu": F.selu, "softplus": _softplus}


class MonotonicActivation(nn.Module):
    """ρ(x) for some units, -ρ(-x) for others, and for the rest a bounded function put together of both.

    A network of non-negative weights and one convex activation is convex as well as monotonic, and cannot fit an
    S-curve; with these three it can approximate every monotonic function (Runje and Shankaranarayana, section 3). The
    bounded one is ρ(x + 1) - ρ(1) below zero and -ρ(1 - x) + ρ(1) above.

    Args:
        activation: "relu", "elu", "selu" or "softplus" (shifted to 0 at 0), or a function of a tensor that is convex,
            does not fall, is bounded below, and is 0 at 0.
        ratios: of convex, concave and bounded units; the first two counts are rounded, the rest are bounded.

    Shape:
        x: [..., units]; output: the same. The units keep their order: convex first, then concave, then bounded.

    Raises:
        ValueError: an unknown name, a function that falls, is not convex or is not 0 at 0, or bad ratios.
    """

    def __init__(self, activation: str | Function = "elu", ratios: Sequence[float] = RATIOS) -> None:
        super().__init__()
        if len(ratios) != 3 or min(ratios) < 0 or sum(ratios) <= 0:
            raise ValueError(f"ratios must be three numbers of at least 0, not all 0; not {tuple(ratios)}")
        if isinstance(activation, str) and activation not in FUNCTIONS:
            raise ValueError(f"activation must be one of {', '.join(FUNCTIONS)} or a function, not {activation!r}")
        if not isinstance(activation, str):
            check_convex(activation)
        self.activation = activation
        self.ratios = tuple(float(ratio) for ratio in ratios)

    @property
    def function(self) -> Function:
        """The convex function ρ."""
        return FUNCTIONS[self.activation] if isinstance(self.activation, str) else self.activation

    def counts(self, units: int) -> tuple[int, int, int]:
        """How many of so many units are convex, concave and bounded."""
        share = sum(self.ratios)
        convex = round(self.ratios[0] / share * units)
        concave = min(round(self.ratios[1] / share * units), units - convex)
        bounded = units - convex - concave
        if not self.ratios[2]:  # rounding must not make units of a kind that was not asked for
            concave, bounded = (concave + bounded, 0) if self.ratios[1] else (concave, 0)
            convex = units - concave
        return convex, concave, bounded

    def forward(self, x: Float[Tensor, "*batch units"]) -> Float[Tensor, "*batch units"]:
        """Each unit's activation."""
        rho = self.function
        convex, concave, bounded = x.split(self.counts(x.shape[-1]), -1)
        parts = [rho(convex)] if convex.shape[-1] else []
        if concave.shape[-1]:
            parts.append(-rho(-concave))
        if bounded.shape[-1]:
            top = rho(torch.ones((), dtype=x.dtype, device=x.device))
            above = bounded >= 0
            height = top - rho(torch.where(above, 1 - bounded, 1 + bounded))
            parts.append(torch.where(above, height, -height))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def extra_repr(self) -> str:
        """Function and ratios."""
        return f"{self.activation}, ratios={self.ratios}"


def check_convex(function: Function) -> None:
    """Refuse a function that cannot be the ρ of a `MonotonicActivation`, judged on a grid from -8 to 8.

    Raises:
        ValueError: it falls, is not convex, or is not 0 at 0; the message says where.
    """
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    values = function(grid)
    if values.shape != grid.shape or not bool(values.isfinite().all()):
        raise ValueError("activation must give a finite number for every number")
    steps = values.diff()
    falls = (steps < -1e-9).nonzero()
    if len(falls):
        raise ValueError(f"activation must not fall, and it does for inputs near {float(grid[falls[-1]]):.2f}")
    bends = (steps.diff() < -1e-9).nonzero()
    if len(bends):
        raise ValueError(f"activation must be convex, and it is not for inputs near {float(grid[bends[0] + 1]):.2f}")
    zero = float(function(torch.zeros(1, dtype=torch.float64)))
    if abs(zero) > 1e-6:
        raise ValueError(f"activation must be 0 at 0, not {zero:.3g}; subtract that")
