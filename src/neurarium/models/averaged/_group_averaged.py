"""Any network made invariant or equivariant under permutations of its input coordinates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Frame = Callable[[Tensor], Tensor]
"""Inputs [batch, inputs] -> permutations [batch, few, inputs] that move along with the inputs."""


class GroupAveraged(nn.Module):
    """The mean of a module's outputs over all permutations of a group.

    Args:
        module: takes [batch, inputs]; an equivariant average needs outputs [batch, inputs].
        group: permutations, one in each row; closed under composition.
        equivariant: move each output back before averaging, so that permuted inputs give permuted outputs.

    Raises:
        ValueError: a row is no permutation.
    """

    def __init__(self, module: nn.Module, group: Int[Tensor, "order inputs"], *, equivariant: bool = False) -> None:
        super().__init__()
        if group.dim() != 2 or not torch.equal(group.sort(1)[0].cpu(), torch.arange(group.shape[1]).expand_as(group)):
            raise ValueError("group must hold a permutation of the input coordinates in each row")
        self.module = module
        self.equivariant = equivariant
        self.register_buffer("group", group.clone())
        self.group: Tensor

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, batch * shape]:
        """The average; all permuted inputs go through the module as one batch."""
        if x.shape[1] != self.group.shape[1]:
            raise ValueError(f"x has {x.shape[1]} coordinates, but the group permutes {self.group.shape[1]}")
        return _averaged(self.module, x, self.group.expand(len(x), *self.group.shape), self.equivariant)


class FrameAveraged(nn.Module):
    """The mean of a module's outputs over a few permutations that depend on the input (Puny et al., 2022).

    Args:
        module: takes [batch, inputs]; an equivariant average needs outputs [batch, inputs].
        frame: gives the permutations [batch, few, inputs] for inputs; `sorting_frame` for all permutations,
            `cyclic_frame` for cyclic ones.
        equivariant: move each output back before averaging.
    """

    def __init__(self, module: nn.Module, frame: Frame, *, equivariant: bool = False) -> None:
        super().__init__()
        self.module = module
        self.frame = frame
        self.equivariant = equivariant

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, batch * shape]:
        """The average over the frame."""
        return _averaged(self.module, x, self.frame(x), self.equivariant)


def _averaged(module: nn.Module, x: Tensor, permutations: Tensor, equivariant: bool) -> Tensor:
    count, few, inputs = permutations.shape
    moved = x[:, None].expand(count, few, inputs).gather(2, permutations)
    outputs = module(moved.reshape(count * few, inputs))
    outputs = outputs.reshape(count, few, *outputs.shape[1:])
    if equivariant:
        outputs = outputs.gather(2, permutations.argsort(2))
    return outputs.mean(1)


def sorting_frame(x: Float[Tensor, "batch inputs"]) -> Int[Tensor, "batch 1 inputs"]:
    """The permutation that sorts the coordinates: one element, for the group of all permutations.

    Args:
        x: inputs. Where some are equal, an invariant average does not notice which of them comes first.
    """
    return x.argsort(dim=1, stable=True)[:, None]


def cyclic_frame(x: Float[Tensor, "batch inputs"]) -> Int[Tensor, "batch 1 inputs"]:
    """The rotation that brings the largest coordinate to the front: one element, for the cyclic group.

    Args:
        x: inputs. Among rotations with equal largest coordinates, the one whose further coordinates are the largest
            in order is taken.
    """
    size = x.shape[1]
    steps = torch.arange(size, device=x.device)
    rotations = (steps[:, None] + steps) % size
    candidate = torch.ones_like(x, dtype=torch.bool)
    for place in range(size):
        values = x[:, rotations[:, place]].masked_fill(~candidate, -torch.inf)
        candidate &= values == values.amax(1, keepdim=True)
        if (candidate.sum(1) == 1).all():
            break
    return rotations[candidate.long().argmax(1)][:, None]
