"""How probabilistic programs and samplers are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import HalfNormal, Normal

from neurarium import learning, models, probes
from neurarium.testing.examples._shared import pixels, seed
from neurarium.testing.world import Example, ModuleExample, World


class Regression(models.ProbabilisticModule):
    """A line with unknown slopes and noise."""

    slope: Any
    noise: Any

    def __init__(self, like: Tensor) -> None:
        super().__init__(models.PointMass)
        self.slope = Normal(like.new_zeros(3), 1.0)
        self.noise = HalfNormal(like.new_ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """The mean at x."""
        mean = x @ self.slope
        self.y = Normal(mean, self.noise)
        return mean


MODULES: dict[str, ModuleExample] = {
    "ProbabilisticModule": lambda w: (Regression(torch.zeros(())), (w.x(5, 3),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "BayesianNetwork": lambda w: w.put(models.bayesianize(pixels(w))).kl(),
    "FlatPosterior": lambda w: flat(w)(w.x(4)),
    "HamiltonianMonteCarlo": lambda w: (
        learning.HamiltonianMonteCarlo(bell, 3).sample(w.x(2), 3, 4, generator=seed()).vectors.isfinite()
    ),
    "NoUTurnSampler": lambda w: learning.NoUTurnSampler(bell).sample(w.x(2), 3, 4, generator=seed()).vectors.isfinite(),
    "NormalApproximation": lambda w: models.NormalApproximation(Normal(w.x(3), 1.0)).mean,
    "PointMass": lambda w: models.PointMass(HalfNormal(w.positive(3))).point,
    "SameFamily": lambda w: models.SameFamily(Normal(w.x(3), w.positive(3))).arguments["loc"],
    "bayesianize": lambda w: w.put(models.bayesianize(pixels(w))).kl(),
    "elbo_loss": lambda w: lost(w),
    "laplace": lambda w: learning.laplace(bell, w.x(2)).covariance,
    "predictive": lambda w: probes.predictive(w.classifier(), w.x(5, 8), 2),
    "resample": lambda w: models.resample(executed(w)).slope,
}


def bell(v: Tensor) -> Tensor:
    """A normal density."""
    return -(v.square() * v.new_tensor([1.0, 0.5])).sum()


def executed(w: World) -> Any:
    """A program after an execution with its outcome known."""
    model = w.put(Regression(torch.zeros((), dtype=w.dtype)))
    model.observe(y=w.x(5, seed=1))
    model(w.x(5, 3))
    return model


def lost(w: World) -> Tensor:
    """Its loss."""
    return models.elbo_loss(executed(w))


def flat(w: World) -> Any:
    """Its density."""
    model = executed(w)
    return models.FlatPosterior(model, lambda: model(w.x(5, 3)))
