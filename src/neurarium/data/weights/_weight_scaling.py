"""Snapshots of a model's parameters brought to one scale, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6


class ScaledStates(NamedTuple):
    """What `scale_states` gives; ``scaled * std + mean`` are the states again.

    Attributes:
        scaled: the states, each tensor's entries with mean 0 and standard deviation 1 over entries and snapshots.
        mean: mean of the tensor that each entry belongs to, one column.
        std: what the entry was divided by, its tensor's standard deviation plus 1e-6, one column.
    """

    scaled: Float[Tensor, "parameters context"]
    mean: Float[Tensor, "parameters 1"]
    std: Float[Tensor, "parameters 1"]


def tensor_sizes(module: nn.Module) -> list[int]:
    """Number of entries of each parameter tensor, in the order of `named_parameters` (a tied tensor counts once)."""
    return [parameter.numel() for parameter in module.parameters()]


def scale_states(states: Float[Tensor, "parameters context"], sizes: Sequence[int]) -> ScaledStates:
    """Scale each parameter tensor by the mean and unbiased standard deviation over all entries and all snapshots.

    A tensor is one mean and one deviation for all its snapshots together, so that the movement from one snapshot to
    the next keeps its direction; (x - mean) / (std + 1e-6) as in the "std" scaling of the nowcasting paper.

    Args:
        states: one column for each snapshot, one row for each parameter, in the order of `named_parameters`.
        sizes: entries of each parameter tensor; see `tensor_sizes`.

    Raises:
        ValueError: ``states`` is not a matrix, or ``sizes`` do not add up to its rows.
    """
    if states.ndim != 2 or states.shape[1] < 1:
        raise ValueError(f"states must be [parameters, context], not of shape {tuple(states.shape)}")
    if sum(sizes) != len(states):
        raise ValueError(f"sizes add up to {sum(sizes)}, but states have {len(states)} rows")
    means, deviations = [], []
    for block in states.split(list(sizes)):
        means.append(block.mean() if block.numel() else block.new_zeros(()))
        # one number alone has no deviation
        deviations.append(block.std() if block.numel() > 1 else block.new_zeros(()))
    lengths = torch.tensor(list(sizes), device=states.device)
    mean = torch.stack(means).repeat_interleave(lengths)[:, None] if means else states.new_zeros(0, 1)
    std = torch.stack(deviations).repeat_interleave(lengths)[:, None] if means else states.new_ones(0, 1)
    std = std + EPSILON
    return ScaledStates((states - mean) / std, mean, std)
