"""How much of the gradient at a point depends on which target of a family is to be learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.training import undisturbed


@dataclass(frozen=True)
class GradientSignal:
    """Variance over targets of the expected gradient.

    Args:
        variance: Var_f E ∇ loss, estimated without bias from two independent halves of the sample; it may come out
            slightly negative where there is no signal.
        squared_norm: squared norm of the gradient's mean over targets, estimated in the same way.
        targets: how many.
    """

    variance: float
    squared_norm: float
    targets: int

    def summary(self) -> str:
        """Both, and their ratio."""
        return f"variance over {self.targets} targets {self.variance:.3g}; common part {self.squared_norm:.3g}"


def gradient_signal(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    functions: Sequence[Callable[[Any], Tensor]],
    sample: Float[Tensor, samples * shape],
) -> GradientSignal:
    """What gradient descent sees of the choice among targets (Shalev-Shwartz et al., 2017): little, if it is hard.

    Args:
        model: at any point, as a rule before training; left as it was, and used in the mode that it is in.
        loss: of outputs and targets, both [batch], mean over the batch.
        functions: the targets; a few members of a family.
        sample: inputs, half of which go into each of two independent estimates.

    Raises:
        ValueError: fewer than two functions or four inputs.
    """
    if len(functions) < 2 or len(sample) < 4:
        raise ValueError(f"need two functions and four inputs at least, not {len(functions)} and {len(sample)}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    halves = []
    with undisturbed(model), torch.enable_grad():
        for part in sample.chunk(2):
            output = model(part).reshape(len(part))
            rows = []
            for function in functions:
                value = loss(output, function(part).reshape(len(part)).to(output))
                gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
                rows.append(torch.cat([g.flatten() for g in gradients if g is not None]).double())
            halves.append(torch.stack(rows))
    first, second = (half - half.mean(0) for half in halves)
    variance = float((first * second).sum() / (len(functions) - 1))
    mean = float((halves[0].mean(0) * halves[1].mean(0)).sum())
    return GradientSignal(variance, mean, len(functions))
