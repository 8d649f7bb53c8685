"""The nearest point of the probability simplex."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def project_simplex(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """The nearest row (Euclidean) of numbers that are not negative and sum to 1, by sorting (Duchi et al. 2008).

    Every entry is lowered by the same amount and cut at 0.

    Args:
        x: any rows.
    """
    ordered = x.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - 1
    counts = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    kept = (ordered * counts > excess).sum(-1, keepdim=True)
    return (x - excess.gather(-1, kept - 1) / kept).relu()
