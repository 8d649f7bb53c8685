"""Initial weights that share something with learned ones: what of them matters is seen by comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from neurarium.training import copy_module

M = TypeVar("M", bound=nn.Module)


def matched_initialization(field: M, generator: torch.Generator | None = None) -> M:
    """A copy with normal weights of the mean and the standard deviation of each learned tensor.

    Args:
        field: a network with learned initial weights.
        generator: source of the draws, on the CPU.

    Returns:
        A new network; buffers and parameters of a single entry are those of ``field``.
    """

    def matched(value: Tensor) -> Tensor:
        return value.mean() + value.std() * torch.randn(value.shape, generator=generator).to(value)

    return _changed(field, matched)


def shuffled_initialization(field: M, generator: torch.Generator | None = None) -> M:
    """A copy with the learned numbers of each tensor in a random order.

    Args:
        field: a network with learned initial weights.
        generator: source of the orders, on the CPU.

    Returns:
        A new network; buffers are those of ``field``.
    """

    def shuffled(value: Tensor) -> Tensor:
        order = torch.randperm(value.numel(), generator=generator).to(value.device)
        return value.flatten()[order].view_as(value)

    return _changed(field, shuffled)


def _changed(field: M, change: Callable[[Tensor], Tensor]) -> M:
    other = copy_module(field)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.numel() > 1:
                parameter.copy_(change(parameter))
    return other
