"""Self-attention that knows where its tokens stand, in one of the usual ways."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from neurarium.layers.attention._positions import alibi_bias, rotate_positions, sinusoidal_positions

Positions = Literal["none", "rotary", "alibi", "relative"]


class PositionedAttention(nn.Module):
    """Multi-head self-attention whose scores know about places.

    Args:
        d_model: width of the tokens.
        nhead: heads; divides ``d_model``.
        positions: "none"; "rotary", queries and keys turned by their places; "alibi", a penalty that grows with the
            distance; "relative", a score of the query with its distance from the key, and biases (Transformer-XL).
        causal: each token sees itself and those before it only.
        dropout: rate on the attention weights.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: ``nhead`` does not divide ``d_model``, ``positions`` is unknown, or "rotary" meets an odd width.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        positions: Positions = "rotary",
        causal: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if nhead < 1 or d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        if positions not in get_args(Positions):
            raise ValueError(f"positions must be one of {', '.join(get_args(Positions))}, not {positions!r}")
        width = d_model // nhead
        if positions == "rotary" and width % 2:
            raise ValueError(f"rotary positions need heads of even width, but d_model / nhead is {width}")
        self.nhead = nhead
        self.positions: Positions = positions
        self.causal = causal
        self.dropout = dropout
        self.in_proj = nn.Linear(d_model, 3 * d_model, device=device, dtype=dtype)
        self.out_proj = nn.Linear(d_model, d_model, device=device, dtype=dtype)
        if positions == "relative":
            self.distance_proj = nn.Linear(d_model, d_model, bias=False, device=device, dtype=dtype)
            self.content_bias = nn.Parameter(torch.zeros(nhead, 1, width, device=device, dtype=dtype))
            self.distance_bias = nn.Parameter(torch.zeros(nhead, 1, width, device=device, dtype=dtype))

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Tokens after attention."""
        length = x.shape[1]
        q, k, v = self.in_proj(x).unflatten(-1, (3, self.nhead, -1)).permute(2, 0, 3, 1, 4)  # each [batch, head, ...]
        wide = torch.promote_types(q.dtype, torch.float32)
        places = torch.arange(length, device=x.device, dtype=wide)  # sixteen bits cannot tell place 300 from 301
        bias = None
        if self.positions == "rotary":
            q, k = rotate_positions(q, places), rotate_positions(k, places)
        elif self.positions == "alibi":
            bias = alibi_bias(self.nhead, length, device=q.device, dtype=q.dtype)
        elif self.positions == "relative":
            bias = self._distance_scores(q, places)
            q = q + self.content_bias.to(q.dtype)
        if self.causal and bias is not None:
            bias = bias.masked_fill(places > places[:, None], -torch.inf)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(
            q, k, v, bias, dropout_p=dropout, is_causal=self.causal and bias is None
        )  # fmt: skip
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _distance_scores(self, q: Tensor, places: Tensor) -> Tensor:
        """Scores of each query with its distance from each key [batch, head, length, length]."""
        length = len(places)
        d_model = self.out_proj.in_features + self.out_proj.in_features % 2
        distances = torch.arange(1 - length, length, device=q.device, dtype=places.dtype)
        waves = sinusoidal_positions(distances, d_model)[:, : self.out_proj.in_features]
        waves = waves.to(self.distance_proj.weight.dtype)
        keys = self.distance_proj(waves).to(q.dtype).unflatten(-1, (self.nhead, -1)).permute(1, 2, 0)
        scores = (q + self.distance_bias.to(q.dtype)) @ keys / q.shape[-1] ** 0.5
        index = (places[:, None] - places).long() + length - 1
        return scores.gather(-1, index.expand(*scores.shape[:2], length, length))
