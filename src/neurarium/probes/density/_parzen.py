"""The log-likelihood of data under a window around every sample: an estimate for models without a density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class ParzenLikelihood(ProbeResult):
    """Log-likelihood under Gaussian windows.

    Args:
        each: of every example, in nats.
        bandwidth: deviation of the windows.
        candidates: bandwidths that were tried.
        validation: mean log-likelihood of the validation examples for each; empty where the bandwidth was given.
    """

    each: Float[Tensor, " examples"]
    bandwidth: float
    candidates: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Over the examples."""
        return float(self.each.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, over the examples; the samples' own scatter is not in it."""
        return float(self.each.std()) / math.sqrt(len(self.each))

    def summary(self) -> str:
        """Mean, error and bandwidth."""
        return (
            f"log-likelihood {self.mean:.1f} ± {self.standard_error:.1f} nats of {len(self.each)} examples, "
            f"windows of deviation {self.bandwidth:.3g}"
        )

    def plot(self, ax: Any) -> Any:
        """Validation likelihood by bandwidth; the likelihoods' histogram where there was no search."""
        if self.candidates:
            ax.semilogx(self.candidates, self.validation, marker="o")
            ax.set_xlabel("deviation of the windows")
            ax.set_ylabel("log-likelihood of validation examples")
        else:
            ax.hist(self.each.cpu().numpy(), bins=40)
            ax.set_xlabel("log-likelihood")
            ax.set_ylabel("examples")
        return ax


def parzen_log_likelihood(
    samples: Float[Tensor, "samples ..."],
    x: Float[Tensor, "examples ..."],
    bandwidth: float | None = None,
    *,
    validation: Float[Tensor, "others ..."] | None = None,
    candidates: Sequence[float] = (),
) -> ParzenLikelihood:
    """Mean over samples of a normal density around each, at every example (Goodfellow et al., 2014, section 5).

    The estimate varies much and is poor in many dimensions, and favours what lies close to training data: compare
    models under one protocol with it, and trust no single number.

    Args:
        samples: of the model.
        x: examples that neither the model nor the bandwidth has seen.
        bandwidth: deviation of the windows; None chooses the candidate of the best likelihood of ``validation``.
        validation: examples to choose the bandwidth by.
        candidates: by default 20 from 0.03 to 1 times the data's deviation, evenly in the logarithm.

    Raises:
        ValueError: neither a bandwidth nor validation examples, or shapes that differ.
    """
    if samples.shape[1:] != x.shape[1:]:
        raise ValueError(f"samples of {list(samples.shape[1:])} cannot stand for examples of {list(x.shape[1:])}")
    centres, rows = samples.flatten(1), x.flatten(1)
    if bandwidth is not None:
        if bandwidth <= 0:
            raise ValueError(f"bandwidth must be positive, not {bandwidth}")
        return ParzenLikelihood(_log_density(centres, rows, [bandwidth])[0], bandwidth)
    if validation is None:
        raise ValueError("give a bandwidth, or validation examples to choose it by")
    held = validation.flatten(1)
    if not candidates:
        spread = float(held.std(0).square().mean().sqrt())
        candidates = (spread * torch.logspace(math.log10(0.03), 0, 20, dtype=torch.float64)).tolist()
    found = [float(each.mean()) for each in _log_density(centres, held, candidates)]
    best = candidates[max(range(len(found)), key=found.__getitem__)]
    return ParzenLikelihood(_log_density(centres, rows, [best])[0], best, tuple(candidates), tuple(found))


def _log_density(
    centres: Tensor, rows: Tensor, bandwidths: Sequence[float], part: int = 500
) -> list[Float[Tensor, " examples"]]:
    """For each bandwidth the log-density of every row; distances, the dear part, are computed once for all."""
    found: list[list[Tensor]] = [[] for _ in bandwidths]
    for some in rows.split(part):
        squared = torch.cdist(some, centres).square()
        for place, width in enumerate(bandwidths):
            constant = math.log(len(centres)) + centres.shape[1] / 2 * math.log(2 * math.pi * width**2)
            found[place].append((-squared / (2 * width**2)).logsumexp(1).double() - constant)
    return [torch.cat(parts) for parts in found]
