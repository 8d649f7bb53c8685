"""Language models over one vocabulary, speaking together without any training (Bochkov, 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.models.sequence._generation import continue_tokens

Average = Literal["logits", "probabilities", "confidence"]


class LogitMixture(nn.Module):
    """The average of what several models predict.

    Args:
        models: modules tokens -> logits of one vocabulary; used where they are.
        weights: of the models, positive numbers that are scaled to sum to 1; equal by default.
        average: of "logits" (the paper's; the normalised geometric mean of the probabilities), of "probabilities", or
            of probabilities weighted at each position by "confidence", exp(-entropy) of each model's prediction.

    Raises:
        ValueError: no model, weights of another number or none positive, an unknown average; in the forward pass,
            vocabularies of different sizes.
    """

    def __init__(
        self, models: Sequence[nn.Module], weights: Sequence[float] | None = None, average: Average = "logits"
    ) -> None:
        super().__init__()
        if not models:
            raise ValueError("models must hold at least one model")
        if average not in get_args(Average):
            raise ValueError(f"average must be one of {', '.join(get_args(Average))}, not {average!r}")
        given = list(weights) if weights is not None else [1.0] * len(models)
        if len(given) != len(models) or min(given) < 0 or sum(given) <= 0:
            raise ValueError(f"weights must be {len(models)} numbers, none negative and not all 0, not {given}")
        self.models = nn.ModuleList(models)
        self.weights = [w / sum(given) for w in given]
        self.average: Average = average

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length num_tokens"]:
        """Logits of the next token at each position."""
        logits = [model(tokens) for model in self.models]
        sizes = [each.shape[-1] for each in logits]
        if len(set(sizes)) > 1:
            raise ValueError(f"models must have one vocabulary, but theirs have sizes {sizes}")
        if self.average == "logits":
            return sum(w * each for w, each in zip(self.weights, logits, strict=True))
        said = torch.stack([each.log_softmax(-1) for each in logits])
        weights = said.new_tensor(self.weights).log().view(-1, 1, 1, 1)
        if self.average == "confidence":
            weights = (weights + (said.exp() * said).sum(-1, keepdim=True)).log_softmax(0)
        return (said + weights).logsumexp(0)

    def generate(
        self, tokens: Int[Tensor, "batch length"], count: int, *, generator: torch.Generator | None = None
    ) -> Int[Tensor, "batch longer"]:
        """Continue sequences by sampling ``count`` tokens."""
        return continue_tokens(lambda t: self(t)[:, -1], tokens, count, generator)
