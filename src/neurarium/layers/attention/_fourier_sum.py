"""Sums of sines and cosines of many inputs, one frequency at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 2**17
"""Numbers of a block of rows, whose sines and cosines exist at a time."""


def fourier_sum(
    x: Float[Tensor, "groups rows inputs"],
    cosines: Float[Tensor, "groups frequencies outputs inputs"],
    sines: Float[Tensor, "groups frequencies outputs inputs"],
) -> Float[Tensor, "groups rows outputs"]:
    """``y[g, n, o] = Σ_i Σ_m cosines[g, m, o, i] cos(m x[g, n, i]) + sines[g, m, o, i] sin(m x[g, n, i])``, m from 1.

    Keeps ``x`` and the coefficients alone: cosines and sines are made again in the backward pass, for some rows at a
    time. Those of ``m x`` come from those of ``(m - 1) x`` and ``x``, whatever the number of frequencies.
    """
    output: Tensor = _FourierSum.apply(x, cosines, sines)
    return output


def waves(x: Tensor, frequencies: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``cos(m x)`` and ``sin(m x)`` for m from 1 on, by the addition theorems."""
    cos, sin = first_cos, first_sin = x.cos(), x.sin()
    for m in range(frequencies):
        if m:
            cos, sin = cos * first_cos - sin * first_sin, sin * first_cos + cos * first_sin
        yield cos, sin


def row_blocks(x: Tensor) -> list[slice]:
    """Slices of the rows of [groups, rows, inputs] with about `BLOCK` numbers each."""
    some = max(64, BLOCK // max(1, x.shape[0] * x.shape[2]))
    return [slice(start, start + some) for start in range(0, max(1, x.shape[1]), some)]


class _FourierSum(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        parts = []
        for rows in row_blocks(x):
            output: Tensor | None = None
            for m, (cos, sin) in enumerate(waves(x[:, rows], cosines.shape[1])):
                product = cos @ cosines[:, m].mT
                output = product if output is None else output + product
                output = output + sin @ sines[:, m].mT
            assert output is not None
            parts.append(output)
        return torch.cat(parts, 1)

    @staticmethod
    def setup_context(ctx: Any, given: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*given)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, cosines, sines = ctx.saved_tensors
        for_x, for_coefficients = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:])
        slopes: list[Tensor] = []
        totals: dict[int, tuple[Tensor, Tensor]] = {}
        for rows in row_blocks(x):
            along, slope = gradient[:, rows], None
            for m, (cos, sin) in enumerate(waves(x[:, rows], cosines.shape[1])):
                if for_x:
                    steep = (m + 1) * ((along @ sines[:, m]) * cos - (along @ cosines[:, m]) * sin)
                    slope = steep if slope is None else slope + steep
                if for_coefficients:
                    part = along.mT @ cos, along.mT @ sin
                    totals[m] = (totals[m][0] + part[0], totals[m][1] + part[1]) if m in totals else part
            if slope is not None:
                slopes.append(slope)
        for_cosines, for_sines = (
            (torch.stack(each, 1) for each in zip(*totals.values(), strict=True)) if totals else (None, None)
        )
        return torch.cat(slopes, 1) if for_x else None, for_cosines, for_sines
