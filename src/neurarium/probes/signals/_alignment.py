"""How far a rule's error signals point where backpropagation's do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from neurarium.objectives import Taps
from neurarium.probes._result import ProbeResult
from neurarium.training import undisturbed


@runtime_checkable
class Signalling(Protocol):
    """A learning rule that can say what it tells each block (`DirectFeedbackAlignment` is one)."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]

    def signals(self, x: Any, y: Tensor) -> Mapping[str, Tensor]:
        """δa by the name of the module at whose output it enters."""


@dataclass(frozen=True)
class Alignment(ProbeResult):
    """Cosine between a rule's signal and the true gradient, per block.

    Args:
        blocks: names of the modules.
        mean: mean cosine over examples, per block; learning wants it above 0.
        std: standard deviation over examples, per block.
    """

    blocks: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def summary(self) -> str:
        """A line per block."""
        rows = zip(self.blocks, self.mean, self.std, strict=True)
        return "\n".join(f"{name}: cosine {mean:+.3f} ± {std:.3f}" for name, mean, std in rows)

    def plot(self, ax: Any) -> Any:
        """Mean and deviation per block."""
        ax.errorbar(range(len(self.blocks)), self.mean, yerr=self.std, fmt="o", capsize=4)
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.set_xticks(range(len(self.blocks)), self.blocks)
        ax.set_ylabel("cosine with backpropagation's error")
        return ax


def alignment(rule: Signalling, x: Any, y: Tensor) -> Alignment:
    """Compare the signals of a rule with those of backpropagation on one batch, at the same weights.

    Neither ``.grad`` nor the model's mode changes; what is not an example's (gradients below 1e-8 of the largest) does
    not count (Launay et al., 2020, section 2).

    Args:
        rule: a rule with a ``signals`` method.
        x: inputs.
        y: targets.

    Returns:
        Cosines per example (per leading dimension), averaged for each block.

    Raises:
        ValueError: no example has a gradient to compare with.
    """
    with undisturbed(rule.model) as rewind:
        told = rule.signals(x, y)
        rewind()  # both passes see the same dropout masks
        with Taps(rule.model, list(told)) as taps:
            loss = rule.loss(rule.model(x), y)
            true = torch.autograd.grad(loss, [taps.outputs[name] for name in told])
    means, deviations = [], []
    for signal, gradient in zip(told.values(), true, strict=True):
        a, b = signal.flatten(1).double(), gradient.flatten(1).double()
        a, b = (torch.where(v.abs() < 1e-8 * v.abs().max(), 0.0, v) for v in (a, b))
        cosines = torch.cosine_similarity(a, b, dim=1, eps=1e-30)[(a.norm(dim=1) > 0) & (b.norm(dim=1) > 0)]
        if len(cosines) == 0:
            raise ValueError("no example has a gradient to compare with: is everything learnt, or the feedback zero?")
        means.append(float(cosines.mean()))
        deviations.append(float(cosines.std(correction=0)))
    return Alignment(tuple(told), tuple(means), tuple(deviations))
