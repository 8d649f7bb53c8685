"""Dense connections: every block reads what all blocks before it gave."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn


class DenseConnection(nn.Sequential):
    """x_k = block_k([x_0, x_1, ..., x_{k-1}]): each block's output is appended to its input (Huang et al., 2017).

    Works for images and series (``dim=1``) and for sequences of vectors (``dim=-1``), with any blocks: convolutions,
    recurrent layers whose first output is the sequence, linear maps.

    Args:
        blocks: modules in order, each reading as many channels as all before it gave together.
        dim: of the channels.
        final: "all" gives the concatenation of the input and all outputs, "last" the last block's output alone.

    Raises:
        ValueError: ``final`` is neither; or, in the forward pass, a block changes another dimension than ``dim``.
    """

    def __init__(self, *blocks: nn.Module, dim: int = 1, final: Literal["all", "last"] = "all") -> None:
        super().__init__(*blocks)
        if final not in ("all", "last"):
            raise ValueError(f"final must be 'all' or 'last', not {final!r}")
        self.dim = dim
        self.final = final

    def forward(self, x: Any) -> Any:
        """The input and all outputs along ``dim``, or the last output."""
        given: list[Tensor] = [x]
        for index, block in enumerate(self):
            made = block(given[0] if len(given) == 1 else torch.cat(given, self.dim))
            made = made[0] if isinstance(made, tuple) else made
            if not _fits(made, x, self.dim):
                raise ValueError(
                    f"block {index} maps {list(x.shape)} to {list(made.shape)}; "
                    f"only dimension {self.dim} may change in a dense connection"
                )
            given.append(made)
        if self.final == "last":
            return given[-1]
        return torch.cat(given, self.dim)


def _fits(made: Tensor, x: Tensor, dim: int) -> bool:
    first, second = list(made.shape), list(x.shape)
    if len(first) != len(second):
        return False
    del first[dim], second[dim]
    return first == second
