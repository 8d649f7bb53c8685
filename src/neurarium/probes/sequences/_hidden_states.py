"""The vectors that a model's read-out sees, and their picture in the plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import call, evaluation, find_module


@torch.no_grad()
def read_states(model: nn.Module, x: Any, layer: str | None = None) -> tuple[Tensor, Tensor]:
    """What goes into the last linear map of a model (or comes out of a named layer), and what the model answers.

    Args:
        model: any network.
        x: its input.
        layer: name of a module whose output is the state; the input of the last `nn.Linear` that is called by default.

    Returns:
        States and answers; where they have steps, [batch, steps, features].

    Raises:
        ValueError: there is no linear map, or the named layer is not called.
    """
    kept: dict[str, Tensor] = {}

    def keep_input(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        kept["state"] = inputs[0]

    def keep_output(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept["state"] = output[0] if isinstance(output, tuple) else output

    if layer is None:
        handles = [m.register_forward_pre_hook(keep_input) for m in model.modules() if isinstance(m, nn.Linear)]
    else:
        handles = [find_module(model, layer).register_forward_hook(keep_output)]
    try:
        with evaluation(model):
            answers = call(model, x)
    finally:
        for handle in handles:
            handle.remove()
    if "state" not in kept:
        raise ValueError("the model must call an nn.Linear, or layer name a module that it calls")
    return kept["state"].detach(), answers.detach()


@dataclass(frozen=True)
class StateMap(ProbeResult):
    """Hidden states on their first two principal axes.

    Args:
        points: [batch, steps, 2], or [batch, 1, 2] where states have no steps.
        explained: share of the variance on each of the two.
        answers: what the model answers there [batch, steps].
    """

    points: Tensor
    explained: tuple[float, float]
    answers: Tensor

    def summary(self) -> str:
        """One sentence."""
        first, second = self.explained
        return f"two directions hold {first + second:.1%} of the variance of the states ({first:.1%} and {second:.1%})"

    def plot(self, ax: Any) -> Any:
        """A point per state, coloured by the answer."""
        flat = self.points.reshape(-1, 2).cpu()
        ax.scatter(flat[:, 0], flat[:, 1], c=self.answers.reshape(-1).cpu(), s=8, alpha=0.6, cmap="viridis")
        ax.set_xlabel(f"first direction ({self.explained[0]:.0%})")
        ax.set_ylabel(f"second direction ({self.explained[1]:.0%})")
        return ax


def state_map(model: nn.Module, x: Any, layer: str | None = None) -> StateMap:
    """Principal components of a model's hidden states over sequences and steps.

    Args:
        model: any network.
        x: inputs, of which two or more states come.
        layer: as for `read_states`.

    Raises:
        ValueError: as for `read_states`, or there is one state only.
    """
    states, answers = read_states(model, x, layer)
    if states.dim() == 2:
        states, answers = states[:, None], answers[:, None]
    rows = states.flatten(0, -2)
    if len(rows) < 2:
        raise ValueError("state_map needs two states or more")
    centred = rows.double() - rows.double().mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    points = centred @ axes[:2].T
    share = sizes.square() / sizes.square().sum().clamp_min(1e-300)
    first, second = torch.cat([share, share.new_zeros(1)])[:2].tolist()
    shape = (*states.shape[:-1], points.shape[-1])
    return StateMap(points.to(rows.dtype).view(shape), (first, second), answers.argmax(-1))
