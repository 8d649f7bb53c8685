"""Transformer layers without normalisation: ``x + alpha * attention(x)``, then ``x + alpha * feed_forward(x)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurarium.layers.residual._rezero import ReZeroModule

Activation = str | Callable[[Tensor], Tensor]


def _activation(activation: Activation) -> Callable[[Tensor], Tensor]:
    if callable(activation):
        return activation
    known: dict[str, Callable[[Tensor], Tensor]] = {"relu": functional.relu, "gelu": functional.gelu}
    if activation not in known:
        raise ValueError(f"activation must be 'relu', 'gelu' or a function of one tensor, not {activation!r}")
    return known[activation]


def initialise_attention(attention: nn.MultiheadAttention) -> None:
    """Xavier-uniform query, key, value and output projections, each as a matrix of its own; zero biases (section 5)."""
    if attention.in_proj_weight is not None:
        for projection in attention.in_proj_weight.detach().chunk(3):
            nn.init.xavier_uniform_(projection)
    nn.init.xavier_uniform_(attention.out_proj.weight)
    for bias in (attention.in_proj_bias, attention.out_proj.bias):
        if bias is not None:
            nn.init.zeros_(bias)


class ReZeroTransformerEncoderLayer(ReZeroModule):
    """Self-attention and feed-forward with one scalar for both and no normalisation (section 5, eq. 11).

    Takes the arguments of `torch.nn.TransformerEncoderLayer` without those of its norms and keeps its submodule names,
    so it works inside `torch.nn.TransformerEncoder` (pass ``enable_nested_tensor=False``). Needs no learning-rate
    warm-up.

    Args:
        d_model: width of the tokens.
        nhead: attention heads; divides ``d_model``.
        dim_feedforward: width of the feed-forward network.
        dropout: dropout rate of attention weights, hidden units and both branches.
        activation: of the feed-forward network: "relu", "gelu" or a function.
        batch_first: tensors are [batch, length, d_model] instead of [length, batch, d_model].
        bias: biases in all projections.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: an unknown activation, or ``nhead`` does not divide ``d_model``.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        batch_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(device=device, dtype=dtype)
        if nhead < 1 or d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        self.self_attn = nn.MultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias, device=device, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias, device=device, dtype=dtype)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.norm1: nn.Module = nn.Identity()  # `rezero_` puts a user's norms here when told to keep them
        self.norm2: nn.Module = nn.Identity()
        self.activation = _activation(activation)
        initialise_attention(self.self_attn)

    def forward(
        self,
        src: Float[Tensor, "*batch length d_model"],
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "*batch length d_model"]:
        """Transform a batch of sequences; arguments as in `torch.nn.TransformerEncoderLayer.forward`.

        Args:
            src: tokens.
            src_mask: [length, length] (or [batch * nhead, length, length]); True or -inf where attention is forbidden.
            src_key_padding_mask: [batch, length]; True at padding.
            is_causal: a promise that ``src_mask`` is the causal mask, which then need not be read.
        """
        x = self.norm1(src)
        attended, _ = self.self_attn(
            x,
            x,
            x,
            attn_mask=src_mask,
            key_padding_mask=src_key_padding_mask,
            need_weights=False,
            is_causal=is_causal,
        )
        src = self.add(src, self.dropout1(attended))
        hidden = self.dropout(self.activation(self.linear1(self.norm2(src))))
        return self.add(src, self.dropout2(self.linear2(hidden)))


class ReZeroTransformerDecoderLayer(ReZeroModule):
    """Self-attention, attention to an encoder's output and feed-forward with one scalar for all, no normalisation.

    Takes the arguments of `torch.nn.TransformerDecoderLayer` without those of its norms and keeps its submodule names,
    so it works inside `torch.nn.TransformerDecoder`. See `ReZeroTransformerEncoderLayer` for the arguments and errors.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        batch_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(device=device, dtype=dtype)
        if nhead < 1 or d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        self.self_attn, self.multihead_attn = (
            nn.MultiheadAttention(
                d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, device=device, dtype=dtype
            )
            for _ in range(2)
        )
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias, device=device, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias, device=device, dtype=dtype)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.dropout3 = nn.Dropout(dropout)
        self.norm1: nn.Module = nn.Identity()
        self.norm2: nn.Module = nn.Identity()
        self.norm3: nn.Module = nn.Identity()
        self.activation = _activation(activation)
        initialise_attention(self.self_attn)
        initialise_attention(self.multihead_attn)

    def forward(
        self,
        tgt: Float[Tensor, "*batch length d_model"],
        memory: Float[Tensor, "*batch source d_model"],
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Float[Tensor, "*batch length d_model"]:
        """Transform target sequences given an encoder's output; arguments as in `torch.nn.TransformerDecoderLayer`."""
        x = self.norm1(tgt)
        attended, _ = self.self_attn(
            x,
            x,
            x,
            attn_mask=tgt_mask,
            key_padding_mask=tgt_key_padding_mask,
            need_weights=False,
            is_causal=tgt_is_causal,
        )
        tgt = self.add(tgt, self.dropout1(attended))
        attended, _ = self.multihead_attn(
            self.norm2(tgt),
            memory,
            memory,
            attn_mask=memory_mask,
            key_padding_mask=memory_key_padding_mask,
            need_weights=False,
            is_causal=memory_is_causal,
        )
        tgt = self.add(tgt, self.dropout2(attended))
        hidden = self.dropout(self.activation(self.linear1(self.norm3(tgt))))
        return self.add(tgt, self.dropout3(self.linear2(hidden)))
