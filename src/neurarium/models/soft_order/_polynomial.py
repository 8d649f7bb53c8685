"""A polynomial of high degree that would rather be of a low one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.objectives import degree_penalty


class SoftDegreePolynomial(nn.Module):
    """Least squares on powers of x, with `degree_penalty` on the coefficients, solved in one go.

    With ``alpha`` 0 it is plain least squares; with a very large one the mean. In between it takes high powers where
    the data pay for them, at any number of examples (Goldblum et al., 2024, section 5).

    Args:
        degree: highest power.
        alpha: how much a power costs.

    Raises:
        ValueError: a negative number.
    """

    def __init__(self, degree: int, alpha: float = 0.0) -> None:
        super().__init__()
        if degree < 0 or alpha < 0:
            raise ValueError(f"degree and alpha must not be negative, not {degree} and {alpha}")
        self.degree = degree
        self.alpha = alpha
        self.register_buffer("coefficients", torch.zeros(degree + 1))
        self.coefficients: Tensor

    def fit(self, x: Float[Tensor, " examples"], y: Float[Tensor, " examples"]) -> SoftDegreePolynomial:
        """Set the coefficients to the minimiser of ``sum (f(x) - y)^2 + degree_penalty``.

        Args:
            x: inputs, best in [-1, 1]: powers of larger ones differ by orders of magnitude.
            y: targets.

        Raises:
            ValueError: no example.
        """
        if not len(x):
            raise ValueError("fit needs an example or more")
        costs = self.alpha * torch.arange(self.degree + 1, dtype=torch.float64) ** 2
        table = torch.cat([self._powers(x.cpu().double()), costs.diag()])
        wanted = torch.cat([y.cpu().double(), torch.zeros(self.degree + 1, dtype=torch.float64)])
        found = torch.linalg.lstsq(table, wanted[:, None], driver="gelsd").solution[:, 0]
        self.coefficients = found.to(self.coefficients)
        return self

    def penalty(self) -> Float[Tensor, ""]:
        """What the coefficients cost."""
        return degree_penalty(self.coefficients, self.alpha)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Values at x."""
        return self._powers(x) @ self.coefficients

    def _powers(self, x: Tensor) -> Tensor:
        return x[..., None] ** torch.arange(self.degree + 1, device=x.device)
