"""The best discriminator for a generator that stands still, and the divergence that its value measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def optimal_discriminator(
    p_data: Float[Tensor, " places"], p_model: Float[Tensor, " places"]
) -> Float[Tensor, " places"]:
    """``D*(x) = p_data(x) / (p_data(x) + p_model(x))`` (proposition 1); 1/2 where neither has mass.

    Args:
        p_data: probabilities or densities at some places.
        p_model: the generator's, there.
    """
    total = p_data + p_model
    return torch.where(total > 0, p_data / total.clamp_min(torch.finfo(total.dtype).tiny), 0.5)


def game_value(
    p_data: Float[Tensor, " places"], p_model: Float[Tensor, " places"], d: Float[Tensor, " places"]
) -> Float[Tensor, ""]:
    """``V = E_data log D + E_model log(1 - D)`` for distributions over places; 0 log 0 is 0."""
    return torch.xlogy(p_data, d).sum() + torch.special.xlog1py(p_model, -d).sum()


def jensen_shannon(p: Float[Tensor, " places"], q: Float[Tensor, " places"]) -> Float[Tensor, ""]:
    """Jensen-Shannon divergence of two distributions over places, in nats: ``(V(D*) + log 4) / 2`` (theorem 1)."""
    middle = (p + q) / 2
    floor = torch.finfo(middle.dtype).tiny
    kept = [torch.xlogy(part, part / middle.clamp_min(floor)).sum() for part in (p, q)]
    return (kept[0] + kept[1]) / 2


@dataclass(frozen=True)
class GaussianDiscriminator:
    """The best discriminator between two normal laws: a logit that is a quadratic form, in closed form.

    ``log p_data(x) - log p_model(x)`` is ``-x' A x / 2 + b' x + c``, with ``A`` the difference of the precisions: a
    plane where the covariances are equal.

    Args:
        data_mean: of the data, ``[features]``.
        data_covariance: ``[features, features]``.
        model_mean: of the generator's samples.
        model_covariance: of them.

    Raises:
        ValueError: a covariance is not positive definite.
    """

    data_mean: Float[Tensor, " features"]
    data_covariance: Float[Tensor, "features features"]
    model_mean: Float[Tensor, " features"]
    model_covariance: Float[Tensor, "features features"]

    def __post_init__(self) -> None:
        for name in ("data_covariance", "model_covariance"):
            if bool(torch.linalg.cholesky_ex(getattr(self, name)).info):
                raise ValueError(f"{name} must be positive definite")

    @property
    def coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """``A``, ``b`` and ``c`` of the quadratic form."""
        forms = []
        for mean, covariance in (
            (self.data_mean, self.data_covariance), (self.model_mean, self.model_covariance),
        ):  # fmt: skip
            precision = torch.linalg.inv(covariance)
            linear = precision @ mean
            forms.append((precision, linear, -(mean @ linear + torch.logdet(covariance)) / 2))
        a, b, c = (first - second for first, second in zip(*forms, strict=True))
        return a, b, c

    def __call__(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """Logits; their sigmoid is D*."""
        a, b, c = self.coefficients
        return -((x @ a) * x).sum(1) / 2 + x @ b + c

    def divergence(self, points: int = 200_000, generator: torch.Generator | None = None) -> float:
        """Jensen-Shannon divergence in nats: by quadrature in one dimension, else by so many draws of each law."""
        if len(self.data_mean) == 1:
            return self._quadrature()
        total = 0.0
        for mean, covariance, sign in (
            (self.data_mean, self.data_covariance, -1), (self.model_mean, self.model_covariance, 1),
        ):  # fmt: skip
            z = torch.randn(points, len(mean), generator=generator, dtype=torch.float64).to(mean)
            x = mean + z @ torch.linalg.cholesky(covariance).T
            total -= float(torch.nn.functional.softplus(sign * self(x)).double().mean())
        return (total + math.log(4)) / 2

    def _quadrature(self) -> float:
        (mean_a, mean_b) = float(self.data_mean), float(self.model_mean)
        (sd_a, sd_b) = float(self.data_covariance) ** 0.5, float(self.model_covariance) ** 0.5
        low = min(mean_a - 12 * sd_a, mean_b - 12 * sd_b)
        high = max(mean_a + 12 * sd_a, mean_b + 12 * sd_b)
        x = torch.linspace(low, high, 40_001, dtype=torch.float64)
        densities = [
            torch.exp(-(((x - m) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
            for m, s in ((mean_a, sd_a), (mean_b, sd_b))
        ]
        return float(jensen_shannon(*densities) * (x[1] - x[0]))
