"""Layers of piecewise affine operations, with the parameters of torch's own."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import dropout as true_dropout

from neurarium.layers import pam


class PAMLinear(nn.Linear):
    """`torch.nn.Linear` of piecewise affine products (`pam.linear`).

    Args:
        in_features: size of an input.
        out_features: size of an output.
        bias: add a vector that is learned.
        offset: see `pam.mul`.
        approximate_backward: see `pam.mul`.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, offset: float | None = None,
        approximate_backward: bool = True, device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_features, out_features, bias, device, dtype)
        self.offset = offset
        self.approximate_backward = approximate_backward

    def forward(self, input: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """The linear map."""
        return pam.linear(
            input, self.weight, self.bias, offset=self.offset, approximate_backward=self.approximate_backward
        )


class PAMConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` of piecewise affine products (`pam.conv2d`), padded with zeros.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: one number or two.
        stride: step.
        padding: zeros on each side; numbers only.
        dilation: distance of the kernel's points.
        groups: blocks of channels that do not mix.
        bias: add a number per channel that is learned.
        offset: see `pam.mul`.
        approximate_backward: see `pam.mul`.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: ``padding`` is a word.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] = 0, dilation: int | tuple[int, int] = 1,
        groups: int = 1, bias: bool = True, *, offset: float | None = None, approximate_backward: bool = True,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        if isinstance(padding, str):
            raise ValueError(f"padding must be one number or two, not {padding!r}")  # noqa: TRY004
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device=device, dtype=dtype
        )
        self.offset = offset
        self.approximate_backward = approximate_backward

    def forward(
        self, input: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """The convolution."""
        return pam.conv2d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,  # type: ignore[arg-type]
            offset=self.offset, approximate_backward=self.approximate_backward,
        )  # fmt: skip


class PAMLayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last dimension, of piecewise affine operations (`pam.layer_norm`).

    Args:
        num_features: size of the last dimension.
        eps: added to the variance.
        elementwise_affine: learn a gain, and a shift where ``bias``.
        bias: learn a shift.
        approximate_backward: see `pam.mul`.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True, *,
        approximate_backward: bool = True, device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, elementwise_affine, bias, device, dtype)
        self.approximate_backward = approximate_backward

    def forward(self, input: Float[Tensor, "*batch num_features"]) -> Float[Tensor, "*batch num_features"]:
        """The norm."""
        return pam.layer_norm(
            input, self.weight, self.bias, self.eps, approximate_backward=self.approximate_backward
        )  # fmt: skip


class PAMSoftmax(nn.Softmax):
    """`torch.nn.Softmax` of piecewise affine operations (`pam.softmax`).

    Args:
        dim: that sums to about one.
        approximate_backward: see `pam.mul`.
    """

    def __init__(self, dim: int = -1, *, approximate_backward: bool = True) -> None:
        super().__init__(dim)
        self.approximate_backward = approximate_backward

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The probabilities."""
        return pam.softmax(input, -1 if self.dim is None else self.dim, approximate_backward=self.approximate_backward)


class PAMGELU(nn.GELU):
    """`torch.nn.GELU` of piecewise affine operations (`pam.gelu`).

    Args:
        approximate: "none" or "tanh", as for torch; the form is that of "tanh" for both.
        approximate_backward: see `pam.mul`.

    Raises:
        ValueError: another ``approximate``.
    """

    def __init__(self, approximate: str = "none", *, approximate_backward: bool = True) -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
        super().__init__(approximate)
        self.approximate_backward = approximate_backward

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The input, weighted by about its normal probability."""
        return pam.gelu(input, approximate_backward=self.approximate_backward)


class PAMDropout(nn.Dropout):
    """`torch.nn.Dropout` whose scale is a piecewise affine product (`pam.dropout`).

    Args:
        p: probability of a zero, below 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The input with zeros, while training."""
        return pam.dropout(input, self.p, self.training)


class PAMMultiheadAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` with piecewise affine products, and softmax unless that is left as it is.

    Args:
        d_model: width of queries, keys, values and output.
        nhead: number of heads; divides ``d_model``.
        dropout: of the attention weights.
        bias: of the projections.
        batch_first: inputs are [batch, length, d_model], else [length, batch, d_model].
        true_softmax: leave softmax and the scaling of the logits ordinary.
        offset: see `pam.mul`.
        approximate_backward: see `pam.mul`.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: ``nhead`` does not divide ``d_model``.
    """

    def __init__(
        self, d_model: int, nhead: int, dropout: float = 0.0, bias: bool = True, batch_first: bool = False, *,
        true_softmax: bool = False, offset: float | None = None, approximate_backward: bool = True,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        if d_model % nhead:
            raise ValueError(f"nhead must divide d_model, but d_model is {d_model} and nhead {nhead}")
        super().__init__(d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype)
        self.true_softmax = true_softmax
        self.offset = offset
        self.approximate_backward = approximate_backward

    def forward(
        self,
        query: Float[Tensor, "a b d_model"],
        key: Float[Tensor, "c d d_model"],
        value: Float[Tensor, "c d d_model"],
        key_padding_mask: Shaped[Tensor, "batch source"] | None = None,
        need_weights: bool = True,
        attn_mask: Shaped[Tensor, ...] | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's: output, and attention weights where they are asked for.

        Args:
            query: what asks.
            key: what is asked.
            value: what is answered.
            key_padding_mask: [batch, source]; True (or -inf) where a key is to be ignored.
            need_weights: return the weights too.
            attn_mask: [length, source] or [batch x nhead, length, source]; True (or -inf) hides.
            average_attn_weights: average the weights over the heads.
            is_causal: a hint that ``attn_mask`` is causal, which needs no hint here.

        Raises:
            ValueError: ``is_causal`` without ``attn_mask``.
        """
        if is_causal and attn_mask is None:
            raise ValueError("is_causal needs attn_mask")
        if not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        with_bias = self.in_proj_bias is not None
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3) if with_bias else (None, None, None)
        heads = [self._heads(self._linear(x, w, b)) for x, w, b in zip((query, key, value), weights, biases)]
        mask = _added(attn_mask, query.dtype)
        if mask is not None and mask.ndim == 3:
            mask = mask.unflatten(0, (-1, self.num_heads))
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, query.dtype)[:, None, None]  # type: ignore[index]
            mask = padding if mask is None else mask + padding
        y, attended = self._attend(heads, mask)
        y = self._linear(y.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
        y = y if self.batch_first else y.transpose(0, 1)
        if not need_weights:
            return y, None
        return y, pam.mean(attended, 1) if average_attn_weights else attended

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return pam.linear(x, weight, bias, offset=self.offset, approximate_backward=self.approximate_backward)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _attend(self, heads: list[Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor]:
        def drop(weights: Tensor) -> Tensor:
            kind = true_dropout if self.true_softmax else pam.dropout
            return kind(weights, self.dropout, self.training)

        query, key, value = heads
        return pam.attention(
            query, key, value, mask, offset=self.offset, approximate_backward=self.approximate_backward,
            true_softmax=self.true_softmax, drop=drop if self.dropout and self.training else None,
        )  # fmt: skip


def _added(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask as something to add to logits."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)
    return mask.to(dtype)
