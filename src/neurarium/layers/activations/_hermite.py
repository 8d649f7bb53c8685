"""An activation given by its Hermite coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class HermiteActivation(nn.Module):
    """sum_p a_p h_p(x), with h_p the orthonormal probabilists' Hermite polynomials, scaled to unit second moment.

    On a standard normal input the output has the mean a_0 and the second moment 1, so that signals neither grow nor
    fade over depth. The coefficients are what theories of wide networks speak of: sum_p a_p^2 c^p is the correlation of
    the outputs at two inputs of correlation c.

    Args:
        coefficients: a_0, a_1, ...; divided by the root of the sum of their squares.

    Raises:
        ValueError: no coefficients, or all of them 0.
    """

    def __init__(self, coefficients: Sequence[float] = (0.0, 1.0)) -> None:
        super().__init__()
        norm = math.sqrt(sum(a * a for a in coefficients))
        if not norm or not math.isfinite(norm):
            raise ValueError("coefficients must be finite numbers, one of them not 0")
        self.coefficients = tuple(float(a) / norm for a in coefficients)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Elementwise, by Clenshaw's recurrence."""
        after, now = x.new_zeros(()), x.new_zeros(())
        for p in range(len(self.coefficients) - 1, 0, -1):
            after, now = now, self.coefficients[p] + x / math.sqrt(p + 1) * now - math.sqrt((p + 1) / (p + 2)) * after
        return self.coefficients[0] + x * now - math.sqrt(1 / 2) * after

    def extra_repr(self) -> str:
        return "(" + ", ".join(f"{a:.4g}" for a in self.coefficients) + ")"
