"""What a network costs: parameters, non-zero ones, bytes on disk, floating-point operations."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from neurarium.training import copy_module


@dataclass(frozen=True)
class Account:
    """The cost of one network.

    Args:
        parameters: stored parameters, shared ones counted once.
        nonzero: those of them that are not zero.
        bytes: size of the saved ``state_dict``, buffers and container included.
        flops: floating-point operations of one forward pass on the example (a multiply-add counts as two). Matrix
            products and convolutions are counted; a dense layer whose weights are mostly zero costs its full price.
    """

    parameters: int
    nonzero: int
    bytes: int
    flops: int

    @property
    def density(self) -> float:
        """Share of the parameters that are not zero."""
        return self.nonzero / self.parameters if self.parameters else 1.0

    def summary(self) -> str:
        """One line of text."""
        return (
            f"{self.parameters:,} parameters, {self.nonzero:,} non-zero ({self.density:.1%}); "
            f"{self.bytes:,} bytes on disk; {self.flops:,} FLOPs per forward pass"
        )


@torch.no_grad()
def account(model: nn.Module, example: Any) -> Account:
    """Measure a network. Neither its mode nor its buffers change.

    Args:
        model: the network.
        example: what its ``forward`` takes: a tensor, a tuple of positional or a mapping of keyword arguments. FLOPs
            are those of the whole example, so give one row for the cost of one prediction.
    """
    parameters = list(model.parameters())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    probe = copy_module(model).eval()  # a forward pass may move buffers
    with FlopCounterMode(display=False) as counter:
        if isinstance(example, Tensor):
            probe(example)
        elif isinstance(example, dict):
            probe(**example)
        elif isinstance(example, (tuple, list)):
            probe(*example)
        else:
            raise TypeError(f"example must be a tensor, a tuple or a dict, not {type(example).__name__}")
    return Account(
        parameters=sum(p.numel() for p in parameters),
        nonzero=sum(int(torch.count_nonzero(p)) for p in parameters),
        bytes=file.getbuffer().nbytes,
        flops=int(counter.get_total_flops()),
    )
