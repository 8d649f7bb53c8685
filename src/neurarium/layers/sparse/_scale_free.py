"""A sparse layer's places with a few hubs and many units of few connections."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def draw_scale_free_positions(
    in_features: int,
    out_features: int,
    count: int,
    exponent: float = 3.0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " count"]:
    """``count`` different places of an [out, in] weight matrix, with power-law degrees on both sides; sorted.

    The static model of Goh, Kahng and Kim (2001, doi 10.1103/PhysRevLett.87.278701) between two groups of units: the
    k-th unit of a group, in a random order, is an end of a connection with probability in proportion to
    ``k^(−1 / (exponent − 1))``, and places that are taken are drawn again. Fixed graphs of this kind are what the
    Boltzmann machines of Mocanu et al. (2016, arXiv 1604.05978) start from.
    `SparseLinear.set_positions` takes the places.

    Args:
        in_features: size of each input row.
        out_features: size of each output row.
        count: connections; at most half of all places.
        exponent: of the degrees' tail, above 2.
        generator: source of the draws, on the CPU.

    Raises:
        ValueError: ``exponent`` is not above 2, or ``count`` is not between 1 and half of the places.
    """
    if not exponent > 2:
        raise ValueError(f"exponent must be above 2, not {exponent}")
    total = in_features * out_features
    if not 1 <= count <= total // 2:
        raise ValueError(f"count must be between 1 and {total // 2}, half of all places, not {count}")
    ends = [
        torch.arange(1, units + 1, dtype=torch.float64)[torch.randperm(units, generator=generator)]
        ** (-1 / (exponent - 1))
        for units in (out_features, in_features)
    ]
    drawn = torch.empty(0, dtype=torch.long)
    while len(drawn) < count:
        rows, columns = (
            torch.multinomial(weights, count - len(drawn), replacement=True, generator=generator) for weights in ends
        )
        drawn = torch.cat([drawn, rows * in_features + columns]).unique()
    return drawn
