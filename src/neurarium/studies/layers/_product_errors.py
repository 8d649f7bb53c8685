"""How far piecewise affine products are from true ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neurarium.layers import pam


def matmul_error(width: int, piecewise_affine: bool) -> float:
    """Relative error of one matrix product of standard normal numbers, [64, width] by [width, 64]."""
    a, b = torch.randn(64, width), torch.randn(width, 64)
    made = pam.matmul(a, b) if piecewise_affine else a @ b
    return float((made.double() - a.double() @ b.double()).norm() / (a.double() @ b.double()).norm())


def ratios() -> Iterator[dict[str, float]]:
    """Single products against true ones, over a grid of factors from 1 to 2."""
    for a, b in torch.cartesian_prod(torch.arange(16), torch.arange(16)):
        first, second = 1 + (a + 0.5) / 16, 1 + (b + 0.5) / 16
        yield {"a": float(first), "b": float(second), "ratio": float(pam.mul(first, second) / (first * second))}
