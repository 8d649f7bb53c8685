"""A discriminator's view of samples: how surely it tells them from data, and which divergence that amounts to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation


@dataclass(frozen=True)
class DiscriminatorReport(ProbeResult):
    """What a discriminator says of data and of samples.

    Args:
        real: its probability that each example is real.
        fake: the same for each sample.
        divergence: the Jensen-Shannon divergence in nats that its value stands for: a lower bound, up to chance.
    """

    real: Float[Tensor, " examples"]
    fake: Float[Tensor, " samples"]
    divergence: float

    @property
    def accuracy(self) -> float:
        """Share that it calls rightly, both kinds counting alike; 1/2 where it cannot tell."""
        right = [(self.real > 0.5).double().mean(), (self.fake <= 0.5).double().mean()]
        return float(right[0] + right[1]) / 2

    def summary(self) -> str:
        """Accuracy, means and divergence."""
        return (
            f"accuracy {self.accuracy:.3f}; mean D {float(self.real.mean()):.3f} on data and "
            f"{float(self.fake.mean()):.3f} on samples; Jensen-Shannon divergence at least {self.divergence:.4f} of "
            f"{math.log(2):.4f} nats"
        )

    def plot(self, ax: Any) -> Any:
        """Histograms of D on data and on samples."""
        for name, values in (("data", self.real), ("samples", self.fake)):
            ax.hist(values.detach().cpu().numpy(), bins=30, range=(0, 1), alpha=0.6, label=name, density=True)
        ax.set_xlabel("D")
        ax.set_ylabel("density")
        ax.legend()
        return ax


@torch.no_grad()
def discriminator_report(
    discriminator: nn.Module, real: Float[Tensor, "examples ..."], fake: Float[Tensor, "samples ..."]
) -> DiscriminatorReport:
    """Judge samples by a discriminator: the game's own, or better a fresh one trained on other samples.

    ``(V + log 4) / 2`` with the value ``V`` of the game is the Jensen-Shannon divergence for the best discriminator
    (theorem 1), and less for any other.

    Args:
        discriminator: gives one logit per row; used in evaluation mode.
        real: examples.
        fake: samples.
    """
    with evaluation(discriminator):
        on_real, on_fake = (call(discriminator, rows).flatten() for rows in (real, fake))
    value = -float(softplus(-on_real).double().mean()) - float(softplus(on_fake).double().mean())
    return DiscriminatorReport(on_real.sigmoid(), on_fake.sigmoid(), (value + math.log(4)) / 2)
