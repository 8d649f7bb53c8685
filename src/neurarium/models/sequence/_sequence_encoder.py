"""A transformer over feature sequences, with the way it knows places as an argument."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.layers import PositionedAttention, sinusoidal_positions

Places = Literal["none", "sinusoidal", "rotary", "alibi", "relative"]


class SequenceEncoder(nn.Module):
    """Linear embedding, post-norm transformer layers that see the whole sequence, linear read-out at every place.

    Args:
        input_size: features of an input.
        output_size: outputs per place.
        d_model: width of the tokens.
        nhead: attention heads; divides ``d_model``.
        num_layers: number of layers.
        dim_feedforward: width of the feed-forward networks; four times ``d_model`` by default.
        positions: "none", "sinusoidal" (added to the tokens), "rotary", "alibi" or "relative" (in attention).
        causal: each place sees itself and those before it only.
        dropout: rate of attention weights and of both branches.

    Raises:
        ValueError: a size below 1, ``nhead`` does not divide ``d_model``, or ``positions`` is unknown.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        d_model: int = 64,
        nhead: int = 8,
        num_layers: int = 5,
        dim_feedforward: int | None = None,
        positions: Places = "sinusoidal",
        causal: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(input_size, output_size, num_layers) < 1:
            raise ValueError("input_size, output_size and num_layers must be at least 1")
        if positions not in get_args(Places):
            raise ValueError(f"positions must be one of {', '.join(get_args(Places))}, not {positions!r}")
        self.positions: Places = positions
        inner = "none" if positions == "sinusoidal" else positions
        self.embedding = nn.Linear(input_size, d_model)
        width = dim_feedforward or 4 * d_model
        self.layers = nn.ModuleList(
            _Layer(PositionedAttention(d_model, nhead, inner, causal, dropout), d_model, width, dropout)
            for _ in range(num_layers)
        )
        self.head = nn.Linear(d_model, output_size)

    def forward(self, x: Float[Tensor, "batch length features"]) -> Float[Tensor, "batch length outputs"]:
        """Outputs at every place."""
        tokens = self.embedding(x)
        if self.positions == "sinusoidal":
            places = torch.arange(x.shape[1], device=x.device, dtype=tokens.dtype)
            tokens = tokens + sinusoidal_positions(places, tokens.shape[-1])
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(tokens)


class _Layer(nn.Module):
    """Norm(x + attention(x)), then Norm(x + feed-forward(x))."""

    def __init__(self, attention: nn.Module, d_model: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, dim_feedforward), nn.ReLU(), nn.Linear(dim_feedforward, d_model)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](x + self.dropout(self.attention(x)))
        return self.norms[1](x + self.dropout(self.feed_forward(x)))
