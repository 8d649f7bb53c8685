"""A restricted Boltzmann machine, dense or sparse, trained by contrastive divergence."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from neurarium.layers import SparseLinear


class RBM(nn.Module):
    """Binary hidden units over binary (or 0..1) visible ones: ``E(v, h) = −v·a − h·b − hᵀ W v``.

    `assign_credit` adds the contrastive-divergence gradient to ``.grad``, at existing connections only, so any
    optimizer trains it and `neurarium.compression.SparseEvolution` rewires it. With plain SGD the step is SET's
    ``ΔW_ij = lr (⟨v_i h_j⟩_data − ⟨v_i h_j⟩_model)``.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        density: share of the connections that exist; 1 for all.
        generator: source of places and initial values.
    """

    def __init__(
        self, visible: int, hidden: int, *, density: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.weights: nn.Linear | SparseLinear
        if density == 1:
            self.weights = nn.Linear(visible, hidden)
            weight = self.weights.weight
        else:
            self.weights = SparseLinear(visible, hidden, density, generator=generator)
            weight = self.weights.values
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 20)
            self.weights.bias.zero_()
        self.visible_bias = nn.Parameter(torch.zeros(visible))

    def hidden_probabilities(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch hidden"]:
        """``p(h = 1 | v)``."""
        hidden: Tensor = self.weights(v).sigmoid()
        return hidden

    def visible_probabilities(self, h: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch visible"]:
        """``p(v = 1 | h)``, without a gradient."""
        with torch.no_grad():
            weights = self.weights
            upward = weights.transposed(h) if isinstance(weights, SparseLinear) else h @ weights.weight
            return (upward + self.visible_bias).sigmoid()

    def free_energy(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, " batch"]:
        """``F(v) = −v·a − Σ_j log(1 + exp(b_j + W_j v))``; ``−F`` is the unnormalised log-probability."""
        return -v @ self.visible_bias - softplus(self.weights(v)).sum(1)

    @torch.no_grad()
    def gibbs(
        self, v: Float[Tensor, "batch visible"], steps: int = 1, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch visible"]:
        """Visible means after some steps of sampled hidden and mean-field visible units."""
        for _ in range(steps):
            p = self.hidden_probabilities(v)
            h = (torch.rand(p.shape, generator=generator).to(p) < p).to(p)
            v = self.visible_probabilities(h)
        return v

    def assign_credit(
        self, v: Float[Tensor, "batch visible"], steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Add the CD-``steps`` gradient to ``.grad``; returns the mean squared error of the reconstruction.

        The gradient of ``mean F(data) − mean F(model)`` is that of contrastive divergence.
        """
        model = self.gibbs(v, steps, generator)
        (self.free_energy(v).mean() - self.free_energy(model).mean()).backward()
        return (v - model).square().mean().detach()

    def forward(self, v: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch visible"]:
        """Mean-field reconstruction."""
        return self.visible_probabilities(self.hidden_probabilities(v))
