"""A causal network as a distribution over whole sequences."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.training import prediction


class SequencePredictor(nn.Module):
    """q(x_t | x_<t) at every place, the first included: a causal network behind a start symbol.

    Args:
        network: maps whole numbers [batch, length] to logits [batch, length, at least ``symbols``] of what comes next,
            seeing at each place what stands there and before it: a `CausalTransformer`, an embedding with a
            `SequenceReadout` behind it, a Hugging Face model. It must know ``symbols + 1`` numbers, of which the last
            is the start.
        symbols: size of the alphabet.

    Raises:
        ValueError: fewer than 2 symbols.
    """

    def __init__(self, network: nn.Module, symbols: int) -> None:
        super().__init__()
        if symbols < 2:
            raise ValueError(f"symbols must be at least 2, not {symbols}")
        self.network = network
        self.symbols = symbols

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length symbols"]:
        """Log-probabilities of all symbols at every place, given those before it.

        Raises:
            ValueError: the network gives fewer logits than there are symbols.
        """
        start = tokens.new_full((len(tokens), 1), self.symbols)
        logits = prediction(self.network(torch.cat([start, tokens[:, :-1]], 1)))
        if logits.shape[-1] < self.symbols:
            raise ValueError(f"network must give {self.symbols} logits or more, not {logits.shape[-1]}")
        return logits[..., : self.symbols].log_softmax(-1)

    def log_probs(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Log-probabilities in nats of the symbols that are there."""
        return self(tokens).gather(2, tokens[:, :, None])[:, :, 0]
