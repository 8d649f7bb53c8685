"""A dense network with a block for each function of a composition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class HopMLP(nn.Module):
    """Token embeddings, then a block per function, which sees its arguments: embeddings, or earlier blocks' outputs.

    Which block sees what is given; what flows between blocks is learned. All blocks are read out by one linear layer.

    Args:
        num_tokens: size of the vocabulary.
        hops: for each function the places of its arguments: below ``positions`` an input, from there on the output of
            an earlier block. Two hops by default: f2(f1(x1, x2), x3).
        positions: tokens of an input.
        embedding: features of tokens and of blocks' outputs.
        hidden: units of each block.

    Raises:
        ValueError: a size is below 1, or hops name a place that is not there yet.
    """

    def __init__(
        self,
        num_tokens: int,
        hops: Sequence[Sequence[int]] = ((0, 1), (3, 2)),
        positions: int = 3,
        embedding: int = 64,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        if min(num_tokens, positions, embedding, hidden) < 1 or not hops:
            raise ValueError("num_tokens, positions, embedding and hidden must be at least 1, and hops not empty")
        if any(not 0 <= place < positions + i for i, hop in enumerate(hops) for place in hop):
            raise ValueError("hops may only name inputs and the outputs of earlier blocks")
        self.hops, self.positions = tuple(tuple(hop) for hop in hops), positions
        self.tokens = nn.Embedding(num_tokens, embedding)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(len(hop) * embedding, hidden), nn.ReLU(), nn.Linear(hidden, embedding))
            for hop in self.hops
        )
        self.head = nn.Linear(embedding, num_tokens)

    def trace(self, x: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch hops num_tokens"]:
        """Logits read from every block: of the bridges, and last of the answer."""
        return self.head(torch.stack(self._states(x), 1))

    def forward(self, x: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch num_tokens"]:
        """Logits of the answer."""
        return self.head(self._states(x)[-1])

    def _states(self, x: Tensor) -> list[Tensor]:
        states = list(self.tokens(x).unbind(1))
        for hop, block in zip(self.hops, self.blocks, strict=True):
            states.append(block(torch.cat([states[place] for place in hop], -1)))
        return states[self.positions :]
