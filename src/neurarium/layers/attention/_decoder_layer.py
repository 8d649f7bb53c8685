"""A pre-norm transformer layer, and its parts one by one for those who wire attention otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, scaled_dot_product_attention, silu

from neurarium.layers.attention._positions import rotate_positions

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PreNormParts:
    """The parts of a layer ``x + out(attention(norm1(x)))``, then ``x + feed_forward(norm2(x))``.

    Args:
        norm1: before attention.
        in_proj: to queries, keys and values, one after another in the last dimension.
        out_proj: of what the heads mixed.
        norm2: before the feed-forward network.
        feed_forward: the feed-forward network.
        nhead: attention heads.
        rotary: queries and keys are turned by their places.
        dropout: rate of attention weights.
    """

    norm1: Map
    in_proj: Map
    out_proj: Map
    norm2: Map
    feed_forward: Map
    nhead: int
    rotary: bool = False
    dropout: float = 0.0

    def project(self, x: Float[Tensor, "batch length d_model"], start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the heads [batch, head, length, width]; the first token's place is ``start``."""
        q, k, v = self.in_proj(self.norm1(x)).unflatten(-1, (3, self.nhead, -1)).permute(2, 0, 3, 1, 4)
        if self.rotary:
            places = torch.arange(start, start + x.shape[1], device=x.device, dtype=torch.float32)
            q, k = rotate_positions(q, places), rotate_positions(k, places)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
        """Exact attention; under ``causal`` the last query sees the last key, the one before it one key less ..."""
        queries, keys = q.shape[-2], k.shape[-2]
        mask = None
        if causal and 1 < queries < keys:
            mask = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
        return scaled_dot_product_attention(
            q, k, v, mask, dropout_p=self.dropout, is_causal=causal and queries == keys > 1
        )  # fmt: skip

    def finish(self, x: Float[Tensor, "batch length d_model"], mixed: Tensor) -> Float[Tensor, "batch length d_model"]:
        """The layer's output from its input and what its heads mixed."""
        x = x + self.out_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.norm2(x))


class DecoderLayer(nn.Module):
    """Causal attention with rotary positions and a gated feed-forward network, each after a norm, as decoders have it.

    Args:
        d_model: width of the tokens.
        nhead: attention heads; divides ``d_model``.
        dim_feedforward: width of the feed-forward network (SwiGLU); by default 8/3 of ``d_model``, rounded up to a
            multiple of 8, which has as many weights as a plain one of four times the width.
        rotary: turn queries and keys by their places; otherwise order is known from the causal mask alone.
        dropout: rate of attention weights and of both branches.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: ``nhead`` does not divide ``d_model``, or ``rotary`` meets heads of odd width.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int | None = None,
        rotary: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if nhead < 1 or d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        if rotary and d_model // nhead % 2:
            raise ValueError(f"rotary positions need heads of even width, but d_model / nhead is {d_model // nhead}")
        hidden = dim_feedforward or -(-8 * d_model // 24) * 8
        self.nhead = nhead
        self.rotary = rotary
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(d_model, device=device, dtype=dtype)
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False, device=device, dtype=dtype)
        self.out_proj = nn.Linear(d_model, d_model, bias=False, device=device, dtype=dtype)
        self.norm2 = nn.LayerNorm(d_model, device=device, dtype=dtype)
        self.linear1 = nn.Linear(d_model, 2 * hidden, bias=False, device=device, dtype=dtype)
        self.linear2 = nn.Linear(hidden, d_model, bias=False, device=device, dtype=dtype)

    def parts(self) -> PreNormParts:
        """The layer's parts, for other wirings."""
        rate = self.dropout if self.training else 0.0
        return PreNormParts(
            self.norm1, self.in_proj, self._out, self.norm2, self._feed_forward, self.nhead, self.rotary, rate
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        """Tokens after the layer; each saw itself and those before it."""
        parts = self.parts()
        return parts.finish(x, parts.attend(*parts.project(x), causal=True))

    def _out(self, mixed: Tensor) -> Tensor:
        return dropout(self.out_proj(mixed), self.dropout, self.training)

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, value = self.linear1(x).chunk(2, -1)
        return dropout(self.linear2(silu(gate) * value), self.dropout, self.training)


def pre_norm_parts(layer: nn.Module) -> PreNormParts:
    """The parts of a `DecoderLayer` or of torch's `TransformerEncoderLayer` with ``norm_first=True``.

    Args:
        layer: the layer; its weights are used where they are.

    Raises:
        ValueError: a layer whose norms come after the sums.
        TypeError: a layer of another kind; give its `PreNormParts` yourself.
    """
    if isinstance(layer, DecoderLayer):
        return layer.parts()
    if not isinstance(layer, nn.TransformerEncoderLayer):
        raise TypeError(f"the parts of a {type(layer).__name__} are not known: give parts=, a function to PreNormParts")
    if not layer.norm_first:
        raise ValueError(
            "the layer has its norms after the sums (norm_first=False); only pre-norm layers can be cut up"
        )
    attention = layer.self_attn
    rate = attention.dropout if layer.training else 0.0
    return PreNormParts(
        layer.norm1,
        partial(linear, weight=attention.in_proj_weight, bias=attention.in_proj_bias),
        lambda mixed: layer.dropout1(attention.out_proj(mixed)),
        layer.norm2,
        layer._ff_block,
        attention.num_heads,
        dropout=rate,
    )
