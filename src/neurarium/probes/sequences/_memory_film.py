"""What a network with a memory does to it, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult
from neurarium.training import evaluation


@dataclass(frozen=True)
class MemoryFilm(ProbeResult):
    """Actions on a memory over time.

    Args:
        names: of the actions.
        actions: their probabilities [batch, steps, memories, actions].
    """

    names: tuple[str, ...]
    actions: Tensor

    @property
    def sharpness(self) -> float:
        """Mean of the largest probability: 1 for a memory that is used as a discrete one."""
        return float(self.actions.amax(-1).double().mean())

    def summary(self) -> str:
        """Shares of the actions."""
        shares = self.actions.double().mean((0, 1, 2)).tolist()
        said = ", ".join(f"{name} {share:.2f}" for name, share in zip(self.names, shares, strict=True))
        return f"{said}; the chosen action has {self.sharpness:.3f} on average"

    def plot(self, ax: Any) -> Any:
        """The film of the first sequence: actions up, steps across."""
        film = self.actions[0].float().flatten(1).T.cpu()
        ax.imshow(film, aspect="auto", vmin=0, vmax=1, cmap="magma", interpolation="nearest")
        ax.set_yticks(range(len(film)), list(self.names) * (len(film) // len(self.names)))
        ax.set_xlabel("step")
        return ax


@torch.no_grad()
def memory_film(model: nn.Module, x: Float[Tensor, "batch steps features"]) -> MemoryFilm:
    """Record the actions of a network with a memory (`StackRNN`, `TapeRNN` or another with `trace`).

    Args:
        model: has ``trace(x).actions`` and ``action_names``.
        x: sequences.

    Raises:
        TypeError: the model has no such memory.
    """
    trace: Any = getattr(model, "trace", None)
    names: Any = getattr(model, "action_names", None)
    if not callable(trace) or names is None:
        raise TypeError(f"memory_film needs a network with a memory, such as StackRNN, not {type(model).__name__}")
    with evaluation(model):
        return MemoryFilm(tuple(names), trace(x).actions)
