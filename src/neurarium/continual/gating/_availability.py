"""Availability: how free each unit or weight still is to change, and what uses it up."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def updated_availability(availability: Tensor, relevance: Tensor, rate: float = 0.01, leak: float = 0.0) -> Tensor:
    """clip(A - rate A (r / mean(r) - leak), 0, 1): relevant units lose availability, idle ones get it back.

    Args:
        availability: A, in [0, 1].
        relevance: r >= 0, of the same shape; only its proportions count. Where all of it is 0, nothing changes.
        rate: of decay per step.
        leak: relative relevance below which availability grows back; 0 for never.
    """
    mean = relevance.mean()
    if not mean > 0:
        return availability.clone()
    return (availability - rate * availability * (relevance / mean - leak)).clamp(0, 1)


class Availability(nn.Module):
    """Two copies of A: the one in force while a context is learned, and the one that its learning wears down.

    Args:
        like: a tensor whose shape, device and dtype A takes. All of it starts at 1.
    """

    in_force: Tensor
    working: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("in_force", torch.ones_like(like))
        self.register_buffer("working", torch.ones_like(like))

    def wear(self, relevance: Tensor, rate: float, leak: float) -> None:
        """One training step's relevance; see `updated_availability`."""
        self.working = updated_availability(self.working, relevance, rate, leak)

    def commit(self) -> None:
        """A new context starts: what was worn down comes into force."""
        self.in_force = self.working.clone()

    @property
    def untouched(self) -> bool:
        """Whether everything is still fully available."""
        return bool((self.in_force == 1).all())
