"""Copy weights with re-init: class rows trained apart, centred, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.continual._strategy import Strategy
from neurarium.models import FrozenEncoder


class CopyWeightReinit(Strategy):
    """CWR* on frozen features (Lomonaco et al., 2020): a temporary head per task, whose rows are consolidated.

    While a task lasts, a linear head is trained by SGD on its classes; it starts at zero, or at the consolidated rows
    of classes that are back. ``end_task`` subtracts the mean of its rows and copies each to the consolidated head; rows
    of a class that is there already are averaged, weighted by the root of past over present examples.

    It learns by ``observe``, a step per batch. Classes are indices from 0.

    Args:
        encoder: as for `NearestMeanClassifier`.
        lr: of the temporary head.
    """

    weight: Tensor
    bias: Tensor
    past: Tensor
    counts: Tensor
    temporary: Tensor
    temporary_bias: Tensor

    def __init__(self, encoder: nn.Module | Callable[[Any], Any] | None = None, *, lr: float = 0.01) -> None:
        super().__init__(encoder if isinstance(encoder, FrozenEncoder) else FrozenEncoder(encoder))
        if lr <= 0:
            raise ValueError(f"lr must be positive, not {lr}")
        self.lr = lr
        self.register_buffer("weight", torch.zeros(0, 0))
        self.register_buffer("bias", torch.zeros(0))
        self.register_buffer("past", torch.zeros(0))
        self.register_buffer("counts", torch.zeros(0))
        self.register_buffer("temporary", torch.zeros(0, 0))
        self.register_buffer("temporary_bias", torch.zeros(0))

    @torch.no_grad()
    def observe(self, x: Any, y: Tensor) -> None:
        """One SGD step of the temporary head on the classes of the task.

        Raises:
            ValueError: labels that are no class indices, or not one per example.
        """
        z = self.model(x)
        y = y.to(z.device).long()
        if len(y) != len(z) or int(y.min()) < 0:
            raise ValueError(f"y must be {len(z)} class indices from 0, one per example, not {y.tolist()[:8]}")
        new = int(y.max()) + 1 - len(self.bias)
        if new > 0:
            self.weight, self.temporary = (
                torch.cat([old.to(z).view(-1, z.shape[1]), z.new_zeros(new, z.shape[1])])
                for old in (self.weight, self.temporary)
            )
            self.bias, self.past, self.counts, self.temporary_bias = (
                torch.cat([old.to(z), z.new_zeros(new)])
                for old in (self.bias, self.past, self.counts, self.temporary_bias)
            )
        weight, bias = self.temporary, self.temporary_bias
        self.counts += torch.bincount(y, minlength=len(self.bias)).to(self.counts)
        mine = (self.counts > 0).nonzero().flatten()  # classes of this task
        logits = z @ weight[mine].T + bias[mine]
        if len(mine) == 1:  # a softmax over one class has no gradient: raise its score, as a logistic unit would
            gradient = torch.sigmoid(logits) - 1
        else:
            gradient = logits.softmax(1) - (y[:, None] == mine).to(logits)
        weight[mine] -= self.lr * gradient.T @ z / len(z)
        bias[mine] -= self.lr * gradient.mean(0)

    @torch.no_grad()
    def end_task(self, loader: Any = None) -> None:
        """Consolidate the rows of the task's classes."""
        mine = (self.counts > 0).nonzero().flatten()
        if not len(mine):
            return
        weight, bias = self.temporary[mine], self.temporary_bias[mine]
        if len(mine) > 1:
            weight, bias = weight - weight.mean(), bias - bias.mean()
        share = (self.past[mine] / self.counts[mine]).sqrt()
        self.weight[mine] = (self.weight[mine] * share[:, None] + weight) / (share[:, None] + 1)
        self.bias[mine] = (self.bias[mine] * share + bias) / (share + 1)
        self.past[mine] += self.counts[mine]
        self.counts.zero_()
        self.temporary, self.temporary_bias = self.weight.clone(), self.bias.clone()

    @torch.no_grad()
    def predict(self, x: Any) -> Tensor:
        """Scores with a column per class index, minus infinity for one that was not learned; usable within a task too.

        Raises:
            ValueError: nothing was observed.
        """
        if not len(self.bias):
            raise ValueError("no class has been observed yet")
        mine = self.counts > 0
        weight = torch.where(mine[:, None], self.temporary, self.weight)
        bias = torch.where(mine, self.temporary_bias, self.bias)
        scores = self.model(x) @ weight.T + bias
        return scores.masked_fill(self.past + self.counts == 0, -torch.inf)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("weight", "bias", "past", "counts", "temporary", "temporary_bias"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.weight.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
