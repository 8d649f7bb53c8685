"""A linear layer of which only some rows learn: gradients and optimizer state exist for those rows alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _SelectedRows(torch.autograd.Function):
    """y = x W' + b where W and b already hold the trained rows; the backward pass makes the gradient of those only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, row_bias: Tensor | None, index: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, index)
        ctx.with_bias = row_bias is not None
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, index = ctx.saved_tensors
        to_x = gradient @ weight if ctx.needs_input_grad[0] else None
        selected = gradient.flatten(0, -2).index_select(1, index)
        to_rows = selected.T @ x.flatten(0, -2) if ctx.needs_input_grad[3] else None
        to_bias = selected.sum(0) if ctx.with_bias and ctx.needs_input_grad[4] else None
        return to_x, None, None, to_rows, to_bias, None


class RowLinear(nn.Module):
    """A linear layer with trainable rows.

    A dense layer keeps one weight, into which the trained rows are written before each pass; its backward pass computes
    the gradient of these rows only. A layer whose weight is not floating point (a quantised base) is called as it is,
    and the outputs of the trained rows are put in place of its own.

    Args:
        base: an `nn.Linear`, or a quantised layer with ``in_features``; frozen from here on.
        index: the rows, int64 [n], without repetition.

    Attributes:
        rows: their weights, [n, in_features].
        row_bias: their biases, [n], or None.
    """

    def __init__(self, base: nn.Module, index: Tensor) -> None:
        super().__init__()
        self.base: Any = base.requires_grad_(False)
        weight = getattr(base, "weight", None)
        self.dense = isinstance(weight, Tensor) and weight.is_floating_point()
        whole, bias = (base.weight, base.bias) if isinstance(base, nn.Linear) and self.dense else _probe(base)
        self.register_buffer("index", index.to(whole.device), persistent=False)
        self.index: Tensor
        self.rows = nn.Parameter(whole.detach()[self.index].clone())
        self.row_bias = None if bias is None else nn.Parameter(bias.detach()[self.index].clone())

    @property
    def weight(self) -> Tensor:
        """The whole weight, trained rows in place."""
        self._write()
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The whole bias."""
        self._write()
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives with its trained rows."""
        if not self.dense:
            return self.base(x).index_copy(-1, self.index, F.linear(x, self.rows, self.row_bias))
        self._write()
        weight, bias = self.base.weight, self.base.bias
        rows: Tensor = self.rows
        row_bias: Tensor | None = self.row_bias
        device = x.device.type
        if torch.is_autocast_enabled(device):  # an autograd function of one's own is not cast by itself
            kind = torch.get_autocast_dtype(device)
            x, weight, rows = x.to(kind), weight.to(kind), rows.to(kind)
            bias, row_bias = (None if b is None else b.to(kind) for b in (bias, row_bias))
        return _SelectedRows.apply(x, weight, bias, rows, row_bias, self.index)

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """The layer as it was, with the trained rows in it.

        Raises:
            TypeError: a quantised layer cannot take them.
        """
        if not self.dense:
            raise TypeError(f"{type(self.base).__name__} is quantised and cannot take the trained rows; keep RowLinear")
        self._write()
        return self.base

    def _write(self) -> None:
        """Copy the trained rows into the weight. Through ``.data``: values change only after an optimizer step."""
        if self.dense:
            self.base.weight.data.index_copy_(0, self.index, self.rows.data)
            if self.row_bias is not None:
                self.base.bias.data.index_copy_(0, self.index, self.row_bias.data)


@torch.no_grad()
def _probe(base: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer that does not show them: its answers to the identity and to zero."""
    features = getattr(base, "in_features", None)
    if not isinstance(features, int):
        raise TypeError(f"{type(base).__name__} has neither a floating-point weight nor in_features")
    place = next(iter(base.parameters()), torch.zeros(())).device
    eye = torch.eye(features, device=place)
    answers, zero = base(eye), base(torch.zeros(1, features, device=place))[0]
    bias = getattr(base, "bias", None)
    has_bias = bias is not None and (not callable(bias) or bias() is not None)
    return (answers - zero).T.contiguous(), zero if has_bias else None


class ReplacedSlices(nn.Module):
    """A parametrization (`torch.nn.utils.parametrize`) with some rows or columns trainable, the rest frozen.

    Args:
        tensor: the parameter at the start.
        index: int64 indices along ``dim``.
        dim: 0 for rows, 1 for columns.
    """

    def __init__(self, tensor: Tensor, index: Tensor, dim: int = 0) -> None:
        super().__init__()
        self.register_buffer("index", index.to(tensor.device), persistent=False)
        self.index: Tensor
        self.dim = dim
        self.rows = nn.Parameter(tensor.detach().index_select(dim, self.index).clone())

    def forward(self, original: Tensor) -> Tensor:
        """The parameter with the trained slices in place."""
        return original.detach().index_copy(self.dim, self.index, self.rows)


class MaskedSlices(nn.Module):
    """A parametrization that lets only some rows or columns of a trainable parameter take effect.

    The others keep the values they had, whatever an optimizer (its weight decay, say) does to them.

    Args:
        tensor: the parameter at the start.
        index: int64 indices along ``dim``.
        dim: 0 for rows, 1 for columns.
    """

    def __init__(self, tensor: Tensor, index: Tensor, dim: int = 0) -> None:
        super().__init__()
        mask = torch.zeros(tensor.shape[dim], dtype=torch.bool, device=tensor.device)
        mask[index] = True
        shape = [1] * tensor.dim()
        shape[dim] = -1
        self.register_buffer("mask", mask.view(shape), persistent=False)
        self.register_buffer("kept", tensor.detach().clone(), persistent=False)
        self.mask: Tensor
        self.kept: Tensor

    def forward(self, original: Tensor) -> Tensor:
        """The parameter where it may move, its first value elsewhere."""
        return torch.where(self.mask, original, self.kept)
