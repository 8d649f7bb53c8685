"""REINFORCE with a moving baseline, over rollouts whose log-probabilities can be recomputed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Reinforce:
    """∇J ≈ 1/N Σ_n (R_n - b) ∇ log π(a_n), ascended by Adam (Williams, 1992).

    Args:
        parameters: the policy's.
        lr: Adam's rate; 0 leaves the policy as it is (the random-search control).
        decay: weight of the past in the baseline b, a moving average of the mean reward per update.
        credit: "rollout" credits each rollout with its own reward, "batch" all of them with their mean.

    Raises:
        ValueError: an unknown credit.
    """

    def __init__(
        self, parameters: Sequence[Tensor], lr: float = 3e-3, *, decay: float = 0.8, credit: str = "rollout"
    ) -> None:
        if credit not in ("rollout", "batch"):
            raise ValueError(f"credit must be rollout or batch, not {credit!r}")
        self.optimizer = torch.optim.Adam(parameters, lr) if lr > 0 else None
        self.decay, self.credit = decay, credit
        self.baseline: float | None = None

    def update(self, log_probs: Tensor, rewards: Sequence[float]) -> float:
        """One ascent step.

        Args:
            log_probs: of each rollout [rollouts], with a graph.
            rewards: one per rollout.

        Returns:
            The mean reward. The first update has no past: its own mean is the baseline.
        """
        given = torch.tensor(rewards, dtype=log_probs.dtype, device=log_probs.device)
        mean = float(given.mean())
        baseline = mean if self.baseline is None else self.baseline
        if self.optimizer is not None:
            credited = given if self.credit == "rollout" else given.mean().expand_as(given)
            self.optimizer.zero_grad()
            (-(credited - baseline) * log_probs).mean().backward()
            self.optimizer.step()
        self.baseline = self.decay * baseline + (1 - self.decay) * mean
        return mean
