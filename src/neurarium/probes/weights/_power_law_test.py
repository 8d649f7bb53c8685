"""Whether degrees could come from the power law that fits them best: a Kolmogorov–Smirnov test by refitted samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from neurarium.probes._result import ProbeResult
from neurarium.probes.weights._topology import power_law


@dataclass(frozen=True)
class PowerLawTest(ProbeResult):
    """The fit and its p-value.

    Args:
        exponent: of the power law that fits best.
        tail: smallest degree of that fit.
        in_tail: how many units have at least so many connections.
        distance: Kolmogorov–Smirnov distance between the fit and the degrees from ``tail`` up.
        p_value: share of samples of the fitted law that lie at least as far from their own best fit; at 0.1 or below a
            power law is implausible (Clauset et al., 2009).
        distances: those of the samples.
    """

    exponent: float
    tail: int
    in_tail: int
    distance: float
    p_value: float
    distances: tuple[float, ...]

    @property
    def plausible(self) -> bool:
        """Whether the degrees may follow a power law from ``tail`` up."""
        return self.p_value > 0.1

    def summary(self) -> str:
        """The test in one line."""
        verdict = "plausible" if self.plausible else "implausible"
        return (
            f"a power law of exponent {self.exponent:.2f} from {self.tail} connections up ({self.in_tail} units) is "
            f"{verdict}: KS distance {self.distance:.3f}, p = {self.p_value:.2f} of {len(self.distances)} samples"
        )

    def plot(self, ax: Any) -> Any:
        """Distances of samples of the fitted law, and the degrees' own."""
        ax.hist(self.distances, bins=30)
        ax.axvline(self.distance, linestyle="--", color="black")
        ax.set(xlabel="KS distance", ylabel="samples of the fitted law")
        return ax


def power_law_test(degrees: Int[Tensor, " units"], samples: int = 200, *, seed: int = 0) -> PowerLawTest:
    """Test the hypothesis that degrees follow a power law from some degree up (Clauset et al., 2009, section 4).

    A sample has as many units; each is drawn from the fitted law with the tail's share, else from the degrees below it.
    The law is fitted to every sample anew, its start included, so that the test does not profit from the fit.

    Args:
        degrees: connections of each unit, as in `degree_distribution`; units without any are left out.
        samples: of the fitted law; the p-value's error is at most ½ / √samples.
        seed: of the samples.

    Raises:
        ValueError: fewer than two different degrees above 0.
    """
    known = degrees[degrees > 0].cpu().numpy().astype(float)
    if len(np.unique(known)) < 2:
        raise ValueError("degrees must hold at least two different numbers of connections")
    exponent, tail, distance = power_law(known)
    rng, below = np.random.default_rng(seed), known[known < tail]
    in_tail = len(known) - len(below)
    distances = []
    for _ in range(samples):
        drawn = rng.binomial(len(known), in_tail / len(known)) if len(below) else len(known)
        # the inverse of the distribution function that the fit is measured by
        high = np.floor((tail - 0.5) * (1 - rng.random(drawn)) ** (1 / (1 - exponent)) + 0.5)
        low = rng.choice(below, len(known) - drawn) if len(below) else below
        distances.append(power_law(np.concatenate([high, low]))[2])
    p_value = float(np.mean(np.array(distances) >= distance))
    return PowerLawTest(exponent, tail, in_tail, distance, p_value, tuple(distances))
