"""Attention that looks at the best key alone (Pérez et al., 2019)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Score = Literal["dot", "negative-abs"]


class HardAttention(nn.Module):
    """Averages the values of the keys with the greatest score; several where scores are equal.

    The gradient is that of softmax attention with the same scores, so that it can be trained.

    Args:
        score: "dot", the product of query and key, or "negative-abs", minus its absolute value: the key nearest to
            being orthogonal to the query.

    Raises:
        ValueError: an unknown score.
    """

    def __init__(self, score: Score = "dot") -> None:
        super().__init__()
        if score not in ("dot", "negative-abs"):
            raise ValueError(f"score must be 'dot' or 'negative-abs', not {score!r}")
        self.score: Score = score

    def scores(
        self, query: Float[Tensor, "*batch queries width"], key: Float[Tensor, "*batch keys width"]
    ) -> Float[Tensor, "*batch queries keys"]:
        """Scores of all pairs."""
        product = query @ key.transpose(-1, -2)
        return product if self.score == "dot" else -product.abs()

    def forward(
        self,
        query: Float[Tensor, "*batch queries width"],
        key: Float[Tensor, "*batch keys width"],
        value: Float[Tensor, "*batch keys features"],
        mask: Bool[Tensor, "queries keys"] | None = None,
    ) -> Float[Tensor, "*batch queries features"]:
        """Values of the best keys.

        Args:
            query: what is looked for.
            key: what is looked at.
            value: what is found.
            mask: True where a query may look; everywhere by default.
        """
        scores = self.scores(query, key)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        best: Tensor = _Best.apply(scores)
        return (best @ value) / best.sum(-1, keepdim=True)  # a sum of ones first: the mean of integers is exact


class _Best(torch.autograd.Function):
    """1 where the score is the greatest, 0 elsewhere; backward as if it were the softmax."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        return (scores == scores.amax(-1, keepdim=True)).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (scores,) = ctx.saved_tensors
        soft = scores.softmax(-1)
        (gradient,) = gradients
        return soft * (gradient - (gradient * soft).sum(-1, keepdim=True))
