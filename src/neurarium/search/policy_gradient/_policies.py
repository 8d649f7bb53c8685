"""Recurrent policies over the layers of a network: which to remove, and how much to shrink what is left."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

FACTORS = tuple(k / 10 for k in range(1, 11))


class RemovalPolicy(nn.Module):
    """A bidirectional LSTM reads all layers and keeps or removes each: π(a_t | h_{t-1}, h_{t+1}, x_t).

    Args:
        features: numbers that describe a layer.
        hidden_size: of the LSTM, in each direction.
        num_layers: of the LSTM.
        keep: probability of keeping a layer at the start.

    Raises:
        ValueError: ``keep`` is not strictly between 0 and 1.
    """

    def __init__(self, features: int = 5, hidden_size: int = 30, num_layers: int = 2, keep: float = 0.8) -> None:
        super().__init__()
        if not 0 < keep < 1:
            raise ValueError(f"keep must lie strictly between 0 and 1, not {keep}")
        self.lstm = nn.LSTM(features, hidden_size, num_layers, bidirectional=True)
        self.head = nn.Linear(2 * hidden_size, 2)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # the start is the prior, whatever the layers
            self.head.bias.copy_(torch.tensor([math.log(1 - keep), math.log(keep)]))

    def forward(self, layers: Float[Tensor, "layers features"]) -> Float[Tensor, "layers 2"]:
        """Log-probabilities of removing (0) and keeping (1) each layer."""
        return self.head(self.lstm(layers)[0]).log_softmax(-1)

    @torch.no_grad()
    def sample(
        self, layers: Float[Tensor, "layers features"], generator: torch.Generator | None = None
    ) -> Int[Tensor, " layers"]:
        """One action per layer, drawn independently given the layers."""
        return torch.multinomial(self(layers).exp(), 1, generator=generator).squeeze(1)

    def log_prob(
        self, layers: Float[Tensor, "layers features"], actions: Int[Tensor, " layers"]
    ) -> Float[Tensor, " layers"]:
        """Log-probability of each action; where a layer must be kept the caller leaves it out."""
        return self(layers).gather(1, actions[:, None]).squeeze(1)


class ShrinkPolicy(nn.Module):
    """An LSTM that reads one dimension after the other, with the last factor it chose: π(a_t | a_{t-1}, h, x_t).

    Args:
        features: numbers that describe a dimension.
        factors: what a size can be multiplied by.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
    """

    def __init__(
        self, features: int = 6, factors: tuple[float, ...] = FACTORS, hidden_size: int = 30, num_layers: int = 2
    ) -> None:
        super().__init__()
        self.register_buffer("factors", torch.tensor(factors))
        self.factors: Tensor
        self.lstm = nn.LSTM(features + 1, hidden_size, num_layers)
        self.head = nn.Linear(hidden_size, len(factors))
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    @torch.no_grad()
    def sample(
        self, dimensions: Float[Tensor, "dimensions features"], generator: torch.Generator | None = None
    ) -> Int[Tensor, " dimensions"]:
        """One index into ``factors`` per dimension, each knowing those before."""
        state, last, actions = None, self.factors.new_ones(1), []
        for dimension in dimensions:
            hidden, state = self.lstm(torch.cat([dimension, last])[None], state)
            action = torch.multinomial(self.head(hidden)[0].softmax(-1), 1, generator=generator)
            last = self.factors[action]
            actions.append(action)
        return torch.cat(actions)

    def log_prob(
        self, dimensions: Float[Tensor, "dimensions features"], actions: Int[Tensor, " dimensions"]
    ) -> Float[Tensor, " dimensions"]:
        """Log-probability of each factor given those before."""
        last = torch.cat([self.factors.new_ones(1), self.factors[actions[:-1]]])
        hidden, _ = self.lstm(torch.cat([dimensions, last[:, None]], 1))
        return self.head(hidden).log_softmax(-1).gather(1, actions[:, None]).squeeze(1)
