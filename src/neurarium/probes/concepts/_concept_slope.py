"""How much one concept's prediction moves when another one's is pushed, inside a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from neurarium.probes._result import ProbeResult


@dataclass(frozen=True)
class ConceptSlope(ProbeResult):
    """Change of two concepts' probabilities under a step that serves the first.

    Args:
        slope: largest mean change of the second concept divided by that of the first: 0 for independent concepts.
        first: largest mean change of a probability of the first concept.
        second: largest mean change of a probability of the second concept.
    """

    slope: float
    first: float
    second: float

    def summary(self) -> str:
        """The slope and both changes."""
        return f"slope {self.slope:.3f}: the step moves the concept by {self.first:.3f}, the other by {self.second:.3f}"

    def plot(self, ax: Any) -> Any:
        """Both changes."""
        ax.bar(["the concept itself", "the other concept"], [self.first, self.second])
        ax.set(ylabel="largest mean change of a probability")
        return ax


def concept_slope(
    latents: Tensor,
    targets: Tensor,
    concept: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    magnitude: float = 1.0,
) -> ConceptSlope:
    """Causal link of two concepts in a latent space (arXiv 2205.13997, section 4.1).

    Every latent takes one step down the gradient of the first concept's cross-entropy to its own class. Changes of
    probabilities are averaged over the examples of each class (over all of them the classes would cancel), and the
    largest one is kept.

    Args:
        latents: ``[examples, dim]``.
        targets: classes of the first concept ``[examples]``.
        concept: latents -> log-probabilities of the first concept.
        other: latents -> log-probabilities of the second concept.
        magnitude: length of the step in units of the gradient.

    Raises:
        ValueError: numbers of examples differ, or no step changes the first concept.
    """
    if len(latents) != len(targets):
        raise ValueError(f"there are {len(latents)} latents for {len(targets)} targets")
    with torch.enable_grad():
        z = latents.detach().clone().requires_grad_()
        loss = nll_loss(concept(z), targets.long(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, z)
    with torch.no_grad():
        moved = z - magnitude * gradient
        first = _largest_change(concept(z), concept(moved), targets)
        second = _largest_change(other(z), other(moved), targets)
    if first == 0:
        raise ValueError("no step changes the first concept: its gradient is zero everywhere")
    return ConceptSlope(second / first, first, second)


def _largest_change(before: Tensor, after: Tensor, targets: Tensor) -> float:
    change = after.exp() - before.exp()
    means = [change[targets == value].mean(0) for value in targets.unique()]
    return float(torch.stack(means).abs().max())
