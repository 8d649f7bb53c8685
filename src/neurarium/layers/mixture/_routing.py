"""Which tokens go to which experts: the few with the largest score, or all a little."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """What a router says of tokens.

    Args:
        probabilities: of the experts, before any choice [tokens, experts].
        chosen: the experts that each token goes to [tokens, k].
        gates: what their outputs count; each row sums to 1 [tokens, k].
    """

    probabilities: Float[Tensor, "tokens experts"]
    chosen: Int[Tensor, "tokens k"]
    gates: Float[Tensor, "tokens k"]

    def shares(self) -> Float[Tensor, " experts"]:
        """Share of the tokens' choices that falls on each expert."""
        counts = torch.bincount(self.chosen.flatten(), minlength=self.probabilities.shape[1])
        return counts / max(1, self.chosen.numel())

    def imbalance(self) -> Float[Tensor, ""]:
        """``n Σ_e f_e P_e``, ``f`` shares of choices and ``P`` mean probabilities: 1 where all are equal, n where one
        expert gets all (Fedus et al. 2021). Differentiable in the probabilities.
        """
        return self.probabilities.shape[1] * (self.shares().to(self.probabilities) * self.probabilities.mean(0)).sum()


def route_top_k(logits: Float[Tensor, "tokens experts"], k: int) -> Routing:
    """The ``k`` most probable experts of each token, their probabilities brought to sum 1. In float32 at least."""
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
    largest, chosen = probabilities.topk(k, dim=1)
    return Routing(probabilities, chosen, largest / largest.sum(1, keepdim=True))


def route_soft(
    logits: Float[Tensor, "batch tokens slots"], padding_mask: Bool[Tensor, "batch tokens"] | None = None
) -> tuple[Float[Tensor, "batch tokens slots"], Float[Tensor, "batch tokens slots"]]:
    """How tokens are mixed into slots (sums to 1 over tokens), and how slots are mixed into tokens (1 over slots).

    Padded tokens get nothing of either; where all tokens are padded, neither do the slots (Puigcerver et al. 2023).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    combine = wide.softmax(2)
    if padding_mask is None:
        return wide.softmax(1), combine
    there = ~padding_mask[..., None]
    dispatch = wide.masked_fill(~there, torch.finfo(wide.dtype).min).softmax(1)
    return dispatch * there, combine * there
