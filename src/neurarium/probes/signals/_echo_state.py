"""Does a recurrent network forget where it started, and how far back do its gradients reach?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation


@dataclass(frozen=True)
class EchoState(ProbeResult):
    """Distance of two states under one input, and size of a gradient on its way back.

    Args:
        distances: largest absolute difference of two states (over units and sequences) after 0, 1, 2, ... steps.
        gradients: mean over sequences of the 1-norm of the gradient of a random combination of the last states (with
            weights of 1-norm 1), 0, 1, 2, ... steps before the end. It cannot exceed ``(gamma ||W||_inf)^steps``.
        rate: factor per step by which the distance falls, from the start to where rounding takes over.
    """

    distances: tuple[float, ...]
    gradients: tuple[float, ...]
    rate: float

    @property
    def forgets(self) -> bool:
        """Whether two starts came closer."""
        return self.rate < 1.0

    def summary(self) -> str:
        """One sentence."""
        verb = "approach" if self.forgets else "do not approach"
        return (
            f"two starts {verb} each other (factor {self.rate:.3g} a step); after {len(self.gradients) - 1} steps back "
            f"{self.gradients[-1] / max(self.gradients[0], 1e-300):.2g} of the gradient is left"
        )

    def plot(self, ax: Any) -> Any:
        """Both over the number of steps, on a logarithmic axis."""
        ax.plot(self.distances, label="distance of two starts")
        ax.plot(self.gradients, label="gradient, steps before the end")
        ax.set_yscale("log")
        ax.set_xlabel("steps")
        ax.legend()
        return ax


def forgetting_rate(rnn: nn.Module, inputs: Tensor, *, generator: torch.Generator | None = None) -> EchoState:
    """Run a recurrent layer from two random states under the same input, and send a gradient back through it.

    Args:
        rnn: a recurrent layer as torch calls it, ``rnn(inputs, state) -> (states, last state)`` with one state tensor
            [layers * directions, batch, hidden] in one direction: `nn.RNN`, `nn.GRU`, `SigmoidRNN`.
        inputs: as the layer takes them (``batch_first`` is obeyed).
        generator: of the two states (uniform in 0 to 1) and of the gradient's weights; torch's own by default.

    Raises:
        ValueError: the layer reads in two directions, or fewer than two steps are given.
        TypeError: its state is not one tensor (an LSTM).
    """
    if getattr(rnn, "bidirectional", False):
        raise ValueError("forgetting_rate needs a layer of one direction: a backward pass has no start to forget")
    if isinstance(rnn, nn.LSTM):
        raise TypeError("forgetting_rate needs a layer with one state tensor; an LSTM has two")
    x = inputs.detach().transpose(0, 1) if getattr(rnn, "batch_first", False) else inputs.detach()
    if x.dim() != 3 or len(x) < 2:
        raise ValueError(f"inputs must be batched sequences of two steps or more, not {tuple(inputs.shape)}")
    shape = (int(getattr(rnn, "num_layers", 1)), x.shape[1], int(getattr(rnn, "hidden_size", 0)))
    with evaluation(rnn):
        starts = [torch.rand(shape, generator=generator).to(x) for _ in range(2)]
        weights = torch.randn(shape[1:], generator=generator).to(x)
        with torch.no_grad():
            distances = [float((starts[0] - starts[1]).abs().max())]
            h, other = starts
            for step in x:
                h, other = _step(rnn, step, h), _step(rnn, step, other)
                distances.append(float((h - other).abs().max()))
        gradients = _gradients(rnn, x, starts[0], weights / weights.abs().sum(1, keepdim=True))
    floor = 1e3 * torch.finfo(x.dtype).eps * distances[0]
    last = next((t for t, d in enumerate(distances) if d <= floor), len(distances) - 1)
    rate = (max(distances[last], 1e-300) / distances[0]) ** (1 / last) if last else math.nan
    return EchoState(tuple(distances), tuple(gradients), rate)


def _step(rnn: nn.Module, x: Tensor, state: Tensor) -> Tensor:
    time = 1 if getattr(rnn, "batch_first", False) else 0
    return rnn(x.unsqueeze(time), state)[1]


def _gradients(rnn: nn.Module, x: Tensor, start: Tensor, weights: Tensor) -> list[float]:
    """1-norm of the gradient at every state of the top layer's combination, from the last state to the first."""
    with torch.enable_grad():
        states = [start.clone().requires_grad_()]
        for step in x:
            states.append(_step(rnn, step, states[-1]))
        found = torch.autograd.grad((weights * states[-1][-1]).sum(), states)
    return [float(g.abs().sum((0, 2)).mean()) for g in reversed(found)]
