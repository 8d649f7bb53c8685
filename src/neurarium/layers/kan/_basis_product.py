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
from neurarium.layers.sparse_product import csr_matrix

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
    """Sparse rows: ``support`` entries for each input."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, basis: Basis) -> Tensor:
        table = weight.permute(1, 2, 0).flatten(0, 1).contiguous()
        parts = [
            embedding_bag(index, table, per_sample_weights=values, mode="sum")
            for _, index, values, _ in _entries(x, basis)
        ]
        return torch.cat(parts)

    setup_context = _Blocks.setup_context  # type: ignore[assignment]
    vmap = _Blocks.vmap

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():  # a second derivative is wanted
            return _Blocks.backward(ctx, gradient)
        x, weight = ctx.saved_tensors
        table = weight.permute(1, 2, 0).flatten(0, 1)
        gradient = gradient.contiguous()
        x_parts, total = [], None
        for rows, index, values, slopes in _entries(x, ctx.basis):
            count, entries = index.shape
            starts = torch.arange(0, (count + 1) * entries, entries, dtype=index.dtype)
            sparse = csr_matrix(starts, index.flatten(), values.flatten(), count, len(table))
            if ctx.needs_input_grad[0]:
                along = torch.sparse.sampled_addmm(sparse, gradient[rows], table.t(), beta=0.0).values()
                x_parts.append((along.view_as(slopes) * slopes).unflatten(1, (x.shape[1], -1)).sum(2))
            if ctx.needs_input_grad[1]:
                product = sparse.t() @ gradient[rows]
                total = product if total is None else total + product
        return (
            torch.cat(x_parts) if x_parts else None,
            None if total is None else total.unflatten(0, weight.shape[1:]).permute(2, 0, 1),
            None,
        )


def _entries(x: Tensor, basis: Basis) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """For some rows at a time, the columns, values and slopes of the entries that are not zero, [rows, entries]."""
    inputs = x.shape[1]
    some = max(1, 2 * BLOCK // (inputs * basis.support))
    along = torch.arange(basis.support)[:, None] + (torch.arange(inputs) * basis.size)[:, None, None]
    for start in range(0, len(x), some):
        rows = slice(start, start + some)
        first, values, slopes = basis.local(x[rows].t())
        index = (first[:, None] + along).int()
        index, values, slopes = (t.permute(2, 0, 1).flatten(1).contiguous() for t in (index, values, slopes))
        yield rows, index, values, slopes
