"""Sums over all later steps, each carried back by the product of the diagonals in between: a reversed linear scan."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def cumulative_sum_product(
    values: Float[Tensor, steps * shape],
    diagonals: Tensor | None = None,
    *,
    parallel: bool | None = None,
) -> Float[Tensor, steps * shape]:
    """``u_i = Σ_{j >= i} a_j K_j K_{j−1} ... K_{i+1}``, that is ``u_L = a_L`` and ``u_i = a_i + u_{i+1} K_{i+1}``.

    (CumSumProd of Fagnou et al., 2025.) The parallel form doubles its reach in each of ⌈log2 L⌉ passes over
    all steps (Hillis and Steele, 1986): more work, but no step waits for its neighbour.

    Args:
        values: a_i along the first dimension.
        diagonals: K_{i+1} in row i: one row fewer than ``values``, diagonal matrices given by their diagonals, of a
            shape that broadcasts to that of ``values``. None stands for the identity.
        parallel: use the parallel form; by default on any device but the CPU, where the loop is faster.

    Returns:
        u_i along the first dimension.

    Raises:
        ValueError: ``diagonals`` has not one row fewer than ``values``.
    """
    if len(values) == 0:
        return values
    if diagonals is None:
        return values.flip(0).cumsum(0).flip(0)
    if len(diagonals) != len(values) - 1:
        raise ValueError(f"diagonals must have {len(values) - 1} rows, one fewer than values, not {len(diagonals)}")
    if parallel is None:
        parallel = values.device.type != "cpu"
    if parallel:
        return _doubling(values, diagonals)
    return Accumulate.apply(values, diagonals)


class Accumulate(torch.autograd.Function):
    """The loop as one operation of the graph: its gradient is the same recurrence, the other way."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, diagonals: Tensor) -> Tensor:
        rows = list(values)
        for i in range(len(rows) - 2, -1, -1):
            rows[i] = torch.addcmul(rows[i], rows[i + 1], diagonals[i])
        return torch.stack(rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], output)
        ctx.save_for_forward(inputs[1], output)

    @staticmethod
    def jvp(ctx: Any, values: Tensor, diagonals: Tensor) -> Tensor:
        factors, sums = ctx.saved_tensors
        return cumulative_sum_product(torch.cat([values[:-1] + sums[1:] * diagonals, values[-1:]]), factors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        diagonals, sums = ctx.saved_tensors
        values = cumulative_sum_product(upstream.flip(0), diagonals.flip(0)).flip(0)
        return values, (values[:-1] * sums[1:]).sum_to_size(diagonals.shape)


def accumulate_(values: Tensor, diagonals: Tensor) -> Tensor:
    """`cumulative_sum_product` in place, without a graph."""
    if values.device.type != "cpu":
        return values.copy_(_doubling(values, diagonals))
    for row, after, diagonal in zip(
        *(part.unbind()[::-1] for part in (values[:-1], values[1:], diagonals)), strict=True
    ):
        row.addcmul_(after, diagonal)
    return values


def _doubling(values: Tensor, products: Tensor) -> Tensor:
    reach = 1
    while reach < len(values):  # products[i] carries from i + reach to i
        values = torch.cat([torch.addcmul(values[:-reach], values[reach:], products), values[-reach:]])
        products = products[:-reach] * products[reach:]
        reach *= 2
    return values
