"""A small and a large model, and one number that weighs them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.training import prediction


class TradeoffMixture(nn.Module):
    """Outputs ``c large + (1 - c) small`` of two frozen models, with ``c`` learned and drawn to 0 by a weight decay.

    One learner for few and for many examples: the data decide how much of the large model they pay for
    (Goldblum et al., 2024, section 5). Train it on the objective of the two plus `penalty`; to choose ``c`` among k
    values by cross-validation would cost log2 k bits.

    Args:
        small: the simpler model.
        large: the more flexible one, with outputs of the same shape.
        decay: half of it times ``c`` squared is the penalty.
        initial: first value of ``c``.

    Raises:
        ValueError: a negative decay.
    """

    def __init__(self, small: nn.Module, large: nn.Module, decay: float = 1e-4, initial: float = 0.5) -> None:
        super().__init__()
        if decay < 0:
            raise ValueError(f"decay must not be negative, not {decay}")
        self.small = small.requires_grad_(False)
        self.large = large.requires_grad_(False)
        self.decay = decay
        like = next((p for p in large.parameters() if p.is_floating_point()), torch.zeros(()))
        self.weight = nn.Parameter(torch.tensor(initial, dtype=like.dtype, device=like.device))

    def penalty(self) -> Float[Tensor, ""]:
        """What the large model's share costs."""
        return 0.5 * self.decay * self.weight.square()

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The weighted outputs; gradients reach ``weight`` alone."""
        with torch.no_grad():
            small, large = (prediction(model(*inputs, **named)) for model in (self.small, self.large))
        return small + self.weight * (large - small)
