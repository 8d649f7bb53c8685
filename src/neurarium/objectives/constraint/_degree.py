"""What the powers of a polynomial cost."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def degree_penalty(coefficients: Float[Tensor, "... powers"], alpha: float) -> Float[Tensor, ...]:
    """``sum_j (alpha j^2 c_j)^2``: a soft preference for low degrees (Goldblum et al., 2024, section 5).

    Args:
        coefficients: of the powers 0, 1, 2, ... in the last dimension; the constant costs nothing.
        alpha: strength; the paper takes 0.01, and 0.001 for a target of degree 10.

    Raises:
        ValueError: ``alpha`` is negative.
    """
    if alpha < 0:
        raise ValueError(f"alpha must not be negative, not {alpha}")
    powers = torch.arange(coefficients.shape[-1], device=coefficients.device, dtype=coefficients.dtype)
    return (alpha * powers.square() * coefficients).square().sum(-1)
