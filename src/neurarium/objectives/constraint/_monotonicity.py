"""A soft pull towards monotonicity: slopes of the wrong sign cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MonotonicityPenalty(nn.Module):
    """Mean over a batch of ``relu(-t_i ∂f/∂x_i)``, summed over held inputs: no guarantee, for any network.

    Args:
        monotonicity: 1, -1 or 0 for each input.
        strength: factor on the penalty.

    Raises:
        ValueError: directions that are not -1, 0 or 1, or none that holds.
    """

    directions: Tensor

    def __init__(self, monotonicity: Sequence[int], strength: float = 1.0) -> None:
        super().__init__()
        if not set(monotonicity) <= {-1, 0, 1} or not any(monotonicity):
            raise ValueError(f"monotonicity must be -1, 0 or 1 per input, not all 0; not {list(monotonicity)[:8]}")
        self.strength = strength
        self.register_buffer("directions", torch.tensor([float(t) for t in monotonicity]))

    def forward(self, model: nn.Module, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, ""]:
        """The penalty of a model on a batch, differentiable with respect to the model's parameters.

        Args:
            model: treats each row by itself; its outputs are summed.
            x: inputs.
        """
        point = x.detach().requires_grad_()
        slopes = torch.autograd.grad(model(point).sum(), point, create_graph=True)[0]
        return self.strength * torch.relu(-slopes * self.directions.to(slopes)).sum(-1).mean()
