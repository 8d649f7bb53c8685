"""The product of basis functions and coefficients, never holding batch × inputs × functions.

``y[n, o] = Σ_i Σ_m weight[o, i, m] · B_m(x[n, i])`` as one autograd function that keeps ``x`` and ``weight`` alone:
values and slopes are made again in the backward pass, for some inputs and rows at a time. Where a basis is local and
fine, only the few functions that differ from zero are touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch.utils.checkpoint import checkpoint

from neurarium.layers.kan._basis import Basis
from neurarium.layers.sparse._sparse_product import csr_matrix

BLOCK = 2**17
"""Basis values that exist at a time (1/2 MiB in float32: they stay in the cache)."""
SPARSE = 8
"""The local path is taken from this many functions for each that differs from zero."""


def basis_linear(
    x: Float[Tensor, "*batch features"], basis: Basis, weight: Float[Tensor, "outputs inputs functions"]
) -> Float[Tensor, "*batch outputs"]:
    """Every output's sum, over the inputs, of a weighted sum of basis functions.

    Differentiable any number of times in ``x`` and ``weight``, and in the basis' own parameters where it has some. Half
    precision and autocast are computed in float32 and rounded at the end.

    Args:
        x: inputs, any number of leading dimensions.
        basis: `BSplineBasis`, `FourierBasis` ... or your own.
        weight: coefficients.

    Raises:
        ValueError: the last dimension of ``x`` is not the number of inputs, or the basis has another size.
    """
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must have {weight.shape[1]} inputs in its last dimension, not {x.shape[-1]}")
    if basis.size != weight.shape[2]:
        raise ValueError(f"weight must have {basis.size} coefficients an edge for this basis, not {weight.shape[2]}")
    rows = x.reshape(-1, x.shape[-1])
    kind = weight.dtype
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
    exact = torch.promote_types(weight.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        rows, weight = rows.to(exact), weight.to(exact)
        if any(p.requires_grad for p in basis.parameters()):
            output = _with_trained_basis(rows, basis, weight)
        else:
            output = (_Local if _use_local(rows, basis) else _Blocks).apply(rows, weight, basis)
    return output.to(kind).reshape(*x.shape[:-1], weight.shape[0])


def basis_columns(x: Float[Tensor, "inputs batch"], basis: Basis, inputs: slice) -> Tensor:
    """``basis.columns(x, inputs)`` that keeps ``x`` alone for the backward pass."""
    columns: Tensor = _Columns.apply(x, basis, inputs)
    return columns


def blocks(inputs: int, batch: int, size: int) -> Iterator[tuple[slice, list[slice]]]:
    """Slices of the inputs, each with slices of the rows, so that a pair holds about `BLOCK` basis values."""
    rows = max(1, min(batch, max(512, BLOCK // (size * inputs))))
    some = max(1, BLOCK // (size * rows))
    for start in range(0, inputs, some):
        yield slice(start, min(start + some, inputs)), [slice(r, r + rows) for r in range(0, max(batch, 1), rows)]


def _use_local(x: Tensor, basis: Basis) -> bool:
    fine = 0 < SPARSE * basis.support <= basis.size
    return fine and x.device.type == "cpu" and len(x) > 0 and torch.backends.mkl.is_available()


def _with_trained_basis(x: Tensor, basis: Basis, weight: Tensor) -> Tensor:
    def part(x: Tensor, weight: Tensor, inputs: slice) -> Tensor:
        return basis.columns(x, inputs).flatten(0, 1).t() @ weight.flatten(1).t()

    output = x.new_zeros(len(x), len(weight))
    for inputs, _ in blocks(x.shape[1], len(x), basis.size):
        output = output + checkpoint(part, x[:, inputs].t(), weight[:, inputs], inputs, use_reentrant=False)
    return output


class _Columns(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, basis: Basis, inputs: slice) -> Tensor:
        return basis.columns(x, inputs)

    @staticmethod
    def setup_context(ctx: Any, given: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.basis, ctx.inputs = given
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return (gradient * ctx.basis.columns_and_slopes(x, ctx.inputs)[1]).sum(1), None, None


class _Blocks(torch.autograd.Function):
    """Dense blocks of basis values."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, basis: Basis) -> Tensor:
        turned = x.t().contiguous()
        sums: dict[int, Tensor] = {}
        for inputs, some in blocks(x.shape[1], len(x), basis.size):
            part = weight[:, inputs].flatten(1).t()
            for rows in some:
                columns = basis.columns(turned[inputs, rows], inputs).flatten(0, 1).t()
                before = sums.get(rows.start)
                sums[rows.start] = columns @ part if before is None else torch.addmm(before, columns, part)
        return torch.cat(list(sums.values()))

    @staticmethod
    def setup_context(ctx: Any, given: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.basis = given
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        basis, (for_x, for_weight) = ctx.basis, ctx.needs_input_grad[:2]
        turned, gradient = x.t().contiguous(), gradient.contiguous()
        x_parts: list[Tensor] = []
        weight_parts: list[Tensor] = []
        for inputs, some in blocks(x.shape[1], len(x), basis.size):
            part = weight[:, inputs].flatten(1).t()
            x_row: list[Tensor] = []
            total: Tensor | None = None
            for rows in some:
                if for_x:
                    columns, slopes = basis.columns_and_slopes(turned[inputs, rows], inputs)
                    x_row.append(((part @ gradient[rows].t()).view(slopes.shape) * slopes).sum(1))
                else:
                    columns = basis.columns(turned[inputs, rows], inputs)
                if for_weight:
                    product = gradient[rows].t() @ columns.flatten(0, 1).t()
                    total = product if total is None else total + product
            if for_x:
                x_parts.append(torch.cat(x_row, 1))
            if total is not None:
                weight_parts.append(total)
        return (
            torch.cat(x_parts).t() if for_x else None,
            torch.cat(weight_parts, 1).view(weight.shape) if for_weight else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], x: Tensor, weight: Tensor, basis: Basis) -> tuple[Tensor, int]:
        if dims[1] is None:
            x = x.movedim(dims[0], 0)
            return _Blocks.apply(x.flatten(0, 1), weight, basis).unflatten(0, x.shape[:2]), 0
        each = [x if dims[0] is None else x.select(dims[0], i) for i in range(info.batch_size)]
        return torch.stack([_Blocks.apply(e, weight.select(dims[1], i), basis) for i, e in enumerate(each)]), 0


class _Local(torch.autograd.Function):
    """Sums over the ``support`` functions that differ from zero at each input."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, basis: Basis) -> Tensor:
        table = weight.permute(1, 2, 0).flatten(0, 1).contiguous()
        parts = []
        for rows in _some_rows(x, basis):
            first, values, _ = basis.local(x[rows].t().contiguous())
            entries = _rows_first(values)
            parts.append(embedding_bag(_places(first, basis), table, per_sample_weights=entries, mode="sum"))
        return torch.cat(parts)

    setup_context = _Blocks.setup_context  # type: ignore[assignment]
    vmap = _Blocks.vmap

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():  # a second derivative is wanted
            return _Blocks.backward(ctx, gradient)
        x, weight = ctx.saved_tensors
        basis, (for_x, for_weight) = ctx.basis, ctx.needs_input_grad[:2]
        gradient, table = gradient.contiguous(), weight.permute(1, 2, 0).flatten(0, 1)
        total = torch.zeros_like(table).unflatten(0, weight.shape[1:])
        x_parts = []
        for rows in _some_rows(x, basis):
            first, values, slopes = basis.local(x[rows].t().contiguous())
            if for_x:
                places = _places(first, basis)
                starts = torch.arange(0, places.numel() + 1, places.shape[1], dtype=places.dtype)
                pattern = csr_matrix(starts, places.flatten(), _rows_first(values).flatten(), len(places), len(table))
                along = torch.sparse.sampled_addmm(pattern, gradient[rows], table.t(), beta=0.0).values()
                along = along.view(len(places), x.shape[1], -1).permute(1, 2, 0)
                x_parts.append((along * slopes).sum(1))
            if for_weight:
                _add_by_interval(total, first, values, gradient[rows])
        return (
            torch.cat(x_parts, 1).t() if for_x else None,
            total.permute(2, 0, 1) if for_weight else None,
            None,
        )


def _add_by_interval(total: Tensor, first: Tensor, values: Tensor, gradient: Tensor) -> None:
    """``total[i, first[i, n] + r] += values[i, r, n] * gradient[n]``, rows sorted by interval once an input."""
    support = values.shape[1]
    intervals = total.shape[1] - support + 1
    first, order = first.contiguous().sort(dim=1)
    each = torch.arange(intervals, dtype=first.dtype).expand(len(first), -1).contiguous()
    starts = torch.searchsorted(first, each) + torch.arange(len(first))[:, None] * first.shape[1]
    for r in range(support):
        along = values[:, r].gather(1, order).flatten()
        sums = embedding_bag(order.flatten(), gradient, starts.flatten(), per_sample_weights=along, mode="sum")
        total[:, r : r + intervals] += sums.view(len(first), intervals, -1)


def _some_rows(x: Tensor, basis: Basis) -> Iterator[slice]:
    """Slices of the rows with about `BLOCK` values that differ from zero."""
    some = max(1, 2 * BLOCK // (x.shape[1] * basis.support))
    return (slice(start, start + some) for start in range(0, len(x), some))


def _places(first: Tensor, basis: Basis) -> Tensor:
    """Which rows of the table [inputs * size, outputs] a row of the batch sums, [rows, inputs * support]."""
    along = torch.arange(basis.support) + (torch.arange(len(first)) * basis.size)[:, None]
    return (first.t()[..., None] + along).flatten(1).int()


def _rows_first(values: Tensor) -> Tensor:
    return values.permute(2, 0, 1).flatten(1).contiguous()
