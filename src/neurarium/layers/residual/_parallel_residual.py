"""A stack of residual layers as one broad layer: all branches read the stack's input (Bermeitinger et al., 2023)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers.residual._residual import _Residual


class ParallelResidual(_Residual):
    """``x + Σ_i branch_i(x)``: the first order of the stack x <- x + branch_1(x), x <- x + branch_2(x), ...

    Multiplied out, the stack is the sum over all ordered subsets of its branches; here the products of two and more
    are dropped. The parameters are the stack's, number for number. Every learning rule sees one block, and all branches
    keep one common input for the backward pass.

    Args:
        branches: modules that keep the shape of their input; further arguments of `forward` go to all of them. None at
            all gives the identity.
        scale: start of a learnable factor for each branch; None for no factors. With d branches of independent values
            1 / sqrt(d) keeps the variance that one branch would give.

    Raises:
        ValueError: in the forward pass, if a branch changes the shape.
    """

    scale: nn.Parameter | None

    def __init__(self, *branches: nn.Module, scale: float | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.scale = None
        if scale is not None:
            like = next((p for p in self.branches.parameters() if p.is_floating_point()), torch.zeros(()))
            self.scale = nn.Parameter(like.new_full((len(branches),), scale))

    def branch(self, x: Float[Tensor, "*shape"], *args: Any, **kwargs: Any) -> Float[Tensor, "*shape"]:
        """What all branches add."""
        total = torch.zeros_like(x)
        for index, branch in enumerate(self.branches):
            total = total + self._scaled(index, checked(x, branch(x, *args, **kwargs), f"branch {index}"))
        return total

    def merge(self, x: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``x + z``."""
        return x + z

    def carry(self, x: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> float:
        """1."""
        return 1.0

    def _scaled(self, index: int, change: Tensor) -> Tensor:
        return change if self.scale is None else self.scale[index] * change


class Increment(nn.Module):
    """``block(x) - x``: what a block adds to its input, for blocks whose branch is not a module of its own.

    Args:
        block: keeps the shape of its input.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Float[Tensor, "*shape"], *args: Any, **kwargs: Any) -> Float[Tensor, "*shape"]:
        """The change.

        Raises:
            ValueError: the block changes the shape.
        """
        return checked(x, self.block(x, *args, **kwargs), "a block") - x


def checked(x: Tensor, made: Any, what: str) -> Tensor:
    """What was made of x, if it has the shape of x."""
    if not isinstance(made, Tensor) or made.shape != x.shape:
        found = list(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise ValueError(f"{what} maps {list(x.shape)} to {found}: it must keep the shape to be residual")
    return made
