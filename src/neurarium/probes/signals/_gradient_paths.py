"""How many expensive branches the paths cross that carry a residual network's gradient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import undisturbed


@runtime_checkable
class ByOrder(Protocol):
    """A learning rule that can tell paths of different orders apart (`HighwayBackprop` is one)."""

    model: nn.Module

    def gradients_by_order(self, x: Any, y: Tensor) -> Sequence[Sequence[Tensor]]:
        """Gradients at every block over paths that cross at most k branches; the last ones are exact."""


@dataclass(frozen=True)
class PathSpectrum(ProbeResult):
    """Gradients of a network of L blocks over paths that cross at most k = 0..L branches.

    Args:
        cosine: with the exact gradient with respect to all blocks' inputs, by k.
        block_cosine: the same for each block alone, first block first, by k.
        share: norm of what the paths that cross exactly k branches add, relative to the exact gradient, by k.
    """

    cosine: tuple[float, ...]
    block_cosine: tuple[tuple[float, ...], ...]
    share: tuple[float, ...]

    def summary(self) -> str:
        """A line per number of branches, up to the first that is exact to three digits."""
        lines = []
        for k, (cosine, share) in enumerate(zip(self.cosine, self.share, strict=True)):
            lines.append(f"at most {k} branches: cosine {cosine:+.3f}; exactly {k}: {share:.3g} of the norm")
            if cosine > 0.9995:
                break
        return "\n".join(lines)

    def plot(self, ax: Any) -> Any:
        """Share of the norm by number of branches, and the cosine of all paths up to it."""
        orders = range(len(self.share))
        ax.bar(orders, self.share, color="lightgrey", label="norm of the paths with exactly k branches")
        ax.plot(orders, self.cosine, marker="o", label="cosine of all paths up to k")
        ax.set_xlabel("branches crossed, k")
        ax.legend()
        return ax


def path_spectrum(rule: ByOrder, x: Any, y: Tensor) -> PathSpectrum:
    """Sort the gradient of one batch by the number of branches that its paths cross (Fagnou et al., 2025).

    ``.grad``, buffers and random state are left as they were. Costs as many backward passes as there are blocks.

    Args:
        rule: a `neurarium.learning.HighwayBackprop` around the network; its ``gamma`` counts.
        x: inputs.
        y: targets.

    Returns:
        Cosines and norms by number of branches.

    Raises:
        ValueError: the network has no block, or the gradient is zero.
    """
    with undisturbed(rule.model):
        orders = rule.gradients_by_order(x, y)
    flat = [torch.cat([g.double().flatten() for g in gradients[:-1]]) for gradients in orders]
    exact = flat[-1]
    if not exact.norm() > 0:
        raise ValueError("the gradient is zero or not finite: there are no paths to sort")
    steps = [flat[0], *(after - before for before, after in itertools.pairwise(flat))]
    return PathSpectrum(
        cosine=tuple(_cosine(g, exact) for g in flat),
        block_cosine=tuple(
            tuple(_cosine(a, b) for a, b in zip(gradients[:-1], orders[-1][:-1], strict=True)) for gradients in orders
        ),
        share=tuple(float(step.norm() / exact.norm()) for step in steps),
    )


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0, eps=1e-30))
