"""Low-rank adaptation, the baseline that neuron-level fine-tuning is compared with (Hu et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from neurarium.layers._linear_maps import linear_maps
from neurarium.layers._low_rank import LowRank


class LowRankFineTuning:
    """Adds a low-rank term to the linear maps of a model and freezes everything else, in place.

    A small baseline for models of any kind (attention's stacked projections included); for large ones use ``peft``.

    Args:
        model: any module with linear layers.
        rank: of each term; None for the largest with which at most ``budget`` numbers are trained.
        alpha: scale of the term; twice the rank by default.
        modules: whose linear maps, as in `neurarium.layers.linear_maps`; the blocks by default.
        budget: trainable numbers to stay within where ``rank`` is None.
        generator: of the starting values.

    Raises:
        ValueError: neither or both of ``rank`` and ``budget``, a rank below 1, or a budget below that of rank 1.
    """

    def __init__(
        self,
        model: nn.Module,
        rank: int | None = None,
        alpha: float | None = None,
        modules: Sequence[str] | None = None,
        *,
        budget: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if (rank is None) == (budget is None):
            raise ValueError("give either rank or budget")
        maps = linear_maps(model, modules)
        per_rank = sum(sum(m.weight.shape) for m in maps.values())
        self.rank = rank if rank is not None else (budget or 0) // per_rank
        if self.rank < 1:
            raise ValueError(f"the rank would be below 1: one rank trains {per_rank} numbers")
        self.model = model
        self._required = {name: p.requires_grad for name, p in model.named_parameters()}
        model.requires_grad_(False)
        scale = float(alpha) if alpha is not None else 2.0 * self.rank
        self._owners = [(m.owner, m.weight_name) for m in maps.values()]
        for (owner, attribute), linear in zip(self._owners, maps.values(), strict=True):
            term = LowRank(linear.weight, self.rank, scale, generator)
            parametrize.register_parametrization(owner, attribute, term)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained, and nothing else."""
        return (p for p in self.model.parameters() if p.requires_grad)

    def trainable_count(self) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.parameters())

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Add the terms to the weights and take them away; returns the model."""
        for owner, attribute in self._owners:
            parametrize.remove_parametrizations(owner, attribute, leave_parametrized=True)
        self._owners = []
        for name, p in self.model.named_parameters():
            p.requires_grad_(self._required.get(name, True))
        return self.model
