"""Annotators who behave alike share a vote: weights from the density of their embeddings."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Gamma

LEAST = 1e-3
CHUNK = 1 << 24


class AnnotatorWeights(nn.Module):
    """One over the density of an annotator's embedding, so that g copies of one count as one (section 4.3).

    With k(e_i, e_j) = exp(-gamma |e_i - e_j|²) the weights are proportional to 1 / sum_j k(e_i, e_j) and add up to the
    number of annotators. They teach the bandwidth gamma alone: the embeddings enter without a graph.

    Args:
        alpha: of the Gamma prior on gamma.
        beta: of the same; gamma starts at the mode (alpha - 1) / beta.

    Raises:
        ValueError: one of them is not positive.
    """

    def __init__(self, alpha: float = 1.25, beta: float = 0.25) -> None:
        super().__init__()
        if min(alpha, beta) <= 0:
            raise ValueError(f"alpha and beta must be positive, not {alpha} and {beta}")
        self.alpha, self.beta = alpha, beta
        self.gamma = nn.Parameter(torch.tensor(max(0.0, (alpha - 1) / beta)))

    def forward(self, embeddings: Float[Tensor, "annotators features"]) -> Float[Tensor, annotators]:
        """The weight of each annotator.

        No matrix of all pairs is kept: densities and their derivatives by gamma are added up in parts.
        """
        e, gamma = embeddings.detach(), self.gamma.clamp_min(LEAST)
        norms = e.square().sum(1)
        density, slope = torch.empty_like(norms), torch.empty_like(norms)
        with torch.no_grad():
            for rows in torch.arange(len(e), device=e.device).split(max(1, CHUNK // len(e))):
                squared = (norms[rows, None] + norms - 2 * e[rows] @ e.mT).clamp_min(0)
                kernel = torch.exp(-gamma.to(e.dtype) * squared)
                density[rows], slope[rows] = kernel.sum(1), -(squared * kernel).sum(1)
        rare = 1 / (density + slope * (gamma - gamma.detach()))  # the value of density, with its gradient
        return len(e) * rare / rare.sum()

    def penalty(self) -> Float[Tensor, ""]:
        """Minus the prior's log-density at gamma."""
        gamma = self.gamma.float().clamp_min(LEAST)
        prior = Gamma(gamma.new_tensor(self.alpha), gamma.new_tensor(self.beta), validate_args=False)
        return -prior.log_prob(gamma)
