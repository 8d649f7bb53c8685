"""Multi-head attention whose softmax may be any operator on scores, and its way into a network that exists."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from neurarium.layers._conversion import Conversion, swap
from neurarium.layers.attention._operator import AttentionOperator, SoftmaxOperator


class LearnableAttention(nn.Module):
    """`torch.nn.MultiheadAttention` with a learnable operator in the place of softmax, for a fixed number of keys.

    Args:
        d_model: width of queries, keys, values and output.
        nhead: number of heads; divides ``d_model``.
        num_tokens: number of keys, which for self-attention is that of the tokens.
        operator: what turns scores into weights: an `AttentionOperator` (a fresh one by default), `SoftmaxOperator`, or
            any module ``operator(scores, keep)``. Layers may share one.
        dropout: of the weights.
        bias: of the projections.
        batch_first: inputs are [batch, length, d_model], else [length, batch, d_model].
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: ``nhead`` does not divide ``d_model``, or the operator is for others.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        num_tokens: int,
        operator: nn.Module | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        if operator is None:
            operator = AttentionOperator(num_tokens, nhead, **where)
        if isinstance(operator, AttentionOperator) and (
            operator.num_tokens != num_tokens or operator.nhead not in (1, nhead)
        ):
            raise ValueError(
                f"operator is for {operator.num_tokens} tokens and {operator.nhead} heads, but the attention has "
                f"{num_tokens} and {nhead}"
            )
        self.embed_dim, self.num_heads, self.num_tokens, self.dropout = d_model, nhead, num_tokens, dropout
        self.batch_first = batch_first
        self._qkv_same_embed_dim = False  # torch's transformer layers then take no fast path around this module
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model, **where))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model, **where)) if bias else None
        self.out_proj = nn.Linear(d_model, d_model, bias, **where)
        self.operator = operator
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    @classmethod
    def like(cls, attention: nn.MultiheadAttention, num_tokens: int, operator: nn.Module) -> LearnableAttention:
        """One with the projections of an attention that exists: its parameters themselves."""
        made = cls(
            attention.embed_dim, attention.num_heads, num_tokens, operator, attention.dropout,
            attention.in_proj_bias is not None, attention.batch_first, device="meta",
        )  # fmt: skip
        made.in_proj_weight, made.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        made.out_proj, made.operator = attention.out_proj, operator
        return made.train(attention.training)

    def scores(
        self, query: Float[Tensor, "batch queries d_model"], key: Float[Tensor, "batch keys d_model"]
    ) -> Float[Tensor, "batch nhead queries keys"]:
        """Scaled products of queries and keys, batch first.

        Raises:
            ValueError: another number of keys than the functions are for.
        """
        if key.shape[1] != self.num_tokens:
            raise ValueError(
                f"learnable attention has one function per token position; {self.num_tokens} expected, "
                f"{key.shape[1]} given"
            )
        q, k = self._heads(query, 0), self._heads(key, 1)
        return (q @ (k / math.sqrt(k.shape[-1])).mT).movedim(0, 1)

    def forward(
        self,
        query: Float[Tensor, "a b d_model"],
        key: Float[Tensor, "c d d_model"] | None = None,
        value: Float[Tensor, "c d d_model"] | None = None,
        key_padding_mask: Shaped[Tensor, "batch keys"] | None = None,
        need_weights: bool = True,
        attn_mask: Shaped[Tensor, ...] | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's: output, and weights where they are asked for.

        Args:
            query: what asks.
            key: what is asked; the queries by default.
            value: what is answered; the keys by default.
            key_padding_mask: True (or -inf) where a key is to be ignored.
            need_weights: return the weights too.
            attn_mask: must be None for an `AttentionOperator`; True (or -inf) hides from any other operator.
            average_attn_weights: average the weights over the heads.
            is_causal: must be False for an `AttentionOperator`.

        Raises:
            ValueError: a mask of pairs or a causal one, whose hidden scores would enter the functions; or another
                number of keys.
        """
        key = query if key is None else key
        value = key if value is None else value
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        keep = self.kept(key_padding_mask, attn_mask, is_causal)
        scores = self.scores(query, key)
        v = self._heads(value, 2).movedim(0, 1)
        operator = self.operator
        narrow = isinstance(operator, AttentionOperator) and operator.project is None and not need_weights
        weights: Tensor | None = None
        if narrow and not (self.dropout and self.training):
            assert isinstance(operator, AttentionOperator)
            seen = v if keep is None else v.masked_fill(~keep.mT, 0.0)  # the columns of weights that are 0
            mixed = operator.compress(scores, keep) @ (operator.expansion.mT @ seen)
        else:
            weights = operator(scores, keep)
            mixed = dropout(weights, self.dropout, self.training) @ v
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        output = output if self.batch_first else output.transpose(0, 1)
        if not need_weights or weights is None:
            return output, None
        return output, weights.mean(1) if average_attn_weights else weights

    def _heads(self, x: Tensor, part: int) -> Tensor:
        """Queries, keys or values [heads, batch, length, width]: heads first, so that scores need no copy."""
        rows = slice(part * self.embed_dim, (part + 1) * self.embed_dim)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
        return linear(x, self.in_proj_weight[rows], bias).unflatten(-1, (self.num_heads, -1)).permute(2, 0, 1, 3)

    def kept(self, padding: Tensor | None, mask: Tensor | None, is_causal: bool) -> Tensor | None:
        """True for keys that may be attended to, [batch, 1 or heads, 1 or queries, keys]."""
        if isinstance(self.operator, AttentionOperator) and (mask is not None or is_causal):
            raise ValueError(
                "learnable attention takes no attn_mask and is not causal: every weight depends on all scores of a row"
            )
        if is_causal and mask is None:
            raise ValueError("is_causal needs attn_mask")
        keep = None if padding is None else _shown(padding)[:, None, None]
        if mask is not None:
            shown = _shown(mask)
            shown = shown.unflatten(0, (-1, self.num_heads)) if shown.dim() == 3 else shown
            keep = shown if keep is None else keep & shown
        return keep

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, nhead={self.num_heads}, num_tokens={self.num_tokens}"


def replace_attention(
    model: nn.Module, num_tokens: int, shared: bool = False, *, inplace: bool = False, **operator: Any
) -> Conversion:
    """Exchange every `torch.nn.MultiheadAttention` of a network for `LearnableAttention` with the same projections.

    Args:
        model: any network, with torch's transformer layers or attention of its own.
        num_tokens: number of tokens that every such layer sees.
        shared: one operator for all layers ("universal"), else one each ("blockwise").
        inplace: change the model itself instead of a copy.
        operator: arguments of `AttentionOperator`; or ``basis="softmax"`` for `SoftmaxOperator`.

    Raises:
        ValueError: nothing was found; the message says what was left. Or the heads differ and ``shared`` is True.
    """
    common: list[nn.Module] = []

    def make(attention: nn.MultiheadAttention) -> nn.Module:
        if operator.get("basis") == "softmax":
            return SoftmaxOperator()
        like = attention.in_proj_weight
        options: dict[str, Any] = {"device": like.device, "dtype": like.dtype} | operator
        return AttentionOperator(num_tokens, attention.num_heads, **options)

    def replacement(name: str, attention: Any) -> nn.Module | str:
        if not attention._qkv_same_embed_dim or attention.bias_k is not None or attention.add_zero_attn:
            return "attention with kdim, vdim, add_bias_kv or add_zero_attn is not known"
        if not shared or not common:
            common.append(make(attention))
        one = common[-1]
        if isinstance(one, AttentionOperator) and one.nhead not in (1, attention.num_heads):
            raise ValueError(
                f"{name} has {attention.num_heads} heads, and the shared operator is for {one.nhead}: "
                "use shared=False or nhead=1"
            )
        return LearnableAttention.like(attention, num_tokens, one)

    return swap(model, nn.MultiheadAttention, replacement, inplace=inplace)


def _shown(mask: Tensor) -> Tensor:
    """True where a mask does not hide."""
    if mask.dtype == torch.bool:
        return ~mask
    if bool(((mask != 0) & (mask != -torch.inf)).any()):
        raise ValueError("a mask must hide or not: True and False, or -inf and 0")
    return mask == 0
