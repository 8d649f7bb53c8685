"""A normal distribution around the highest point of a density."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.learning.inference._hamiltonian import LogDensity


@dataclass(frozen=True)
class Laplace:
    """Laplace's approximation.

    Args:
        mean: the highest point.
        covariance: the inverse of the Hessian of minus the log-density there.
        log_evidence: of the integral of the density: exact for a normal one.
    """

    mean: Float[Tensor, " size"]
    covariance: Float[Tensor, "size size"]
    log_evidence: float

    def sample(self, samples: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "samples size"]:
        """Draws from it."""
        noise = torch.randn(samples, len(self.mean), generator=generator, dtype=self.mean.dtype)
        return self.mean + noise.to(self.mean.device) @ torch.linalg.cholesky(self.covariance).T


def laplace(density: LogDensity, start: Float[Tensor, " size"], steps: int = 200) -> Laplace:
    """Climb a density with L-BFGS, and take its curvature at the top.

    The covariance is the inverse Hessian (the released code of Borch takes its root).

    Args:
        density: log-density of a vector, up to a constant.
        start: where the climb begins.
        steps: iterations at most.

    Raises:
        ValueError: the curvature at the end is not that of a maximum.
    """
    x = start.detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -density(x)
        loss.backward()
        return loss

    optimizer.step(closure)
    top = x.detach()
    hessian = torch.autograd.functional.hessian(lambda v: -density(v), top)
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if int(failed):
        raise ValueError("the density has no maximum where the climb ended: its curvature is not positive there")
    height = float(density(top).detach())
    log_evidence = (
        height + 0.5 * len(top) * float(torch.log(torch.tensor(2 * torch.pi))) - float(factor.diagonal().log().sum())
    )
    return Laplace(top, torch.cholesky_inverse(factor), log_evidence)
