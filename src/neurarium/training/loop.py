"""A small training loop around any learning rule, and evaluation. Studies use them; nobody has to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Penalty = Callable[[], Tensor]
"""``penalty() -> scalar`` whose gradient is added to the rule's (``EWC.penalty`` is one)."""


class Rule(Protocol):
    """What the loop needs of a learning rule."""

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add gradients for a batch; returns the detached loss."""

    def train(self, mode: bool = True) -> Any:
        """Switch dropout and batch statistics on or off."""


def fit(
    rule: Rule,
    loader: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int = 1,
    penalties: Sequence[Penalty] = (),
    callbacks: Sequence[Callable[[int, float], object]] = (),
) -> list[float]:
    """Train for some passes over a loader.

    Each step: zero the gradients, ``rule.assign_credit``, add the gradients of the penalties, step the optimizer, call
    the callbacks.

    Args:
        rule: a learning rule.
        loader: batches ``(x, y)``; iterated once per epoch.
        optimizer: over ``rule.parameters()``.
        epochs: passes over the loader.
        penalties: scalars added to the objective; one that returns a constant (no graph) adds nothing.
        callbacks: called after each step as ``callback(step, loss)``, ``step`` from 1, ``loss`` without the penalties.

    Returns:
        Mean loss of each epoch.

    Raises:
        FloatingPointError: the loss of an epoch is not finite; the message names the epoch.
    """
    if epochs < 0:
        raise ValueError(f"epochs must not be negative, not {epochs}")
    rule.train()
    history: list[float] = []
    step = 0
    for epoch in range(1, epochs + 1):
        total, batches = torch.zeros((), dtype=torch.float64), 0
        for x, y in loader:
            optimizer.zero_grad()
            loss = rule.assign_credit(x, y)
            for penalty in penalties:
                extra = penalty()
                if extra.requires_grad:
                    extra.backward()
            optimizer.step()
            total += loss.double().cpu()
            batches += 1
            step += 1
            for callback in callbacks:
                callback(step, float(loss))
        if batches == 0:
            raise ValueError("loader gave no batches")
        history.append(float(total) / batches)
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss is not finite in epoch {epoch}; lower the learning rate")
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    metric: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> float:
    """Mean of a per-batch metric over all examples, with the model in evaluation mode.

    Args:
        model: a module or learning rule; its mode is put back afterwards.
        loader: batches ``(x, y)``.
        metric: ``metric(output, y) -> mean over the batch``; accuracy of the largest output by default.
    """
    score = metric or accuracy
    was_training = model.training
    model.eval()
    try:
        total, count = 0.0, 0
        for x, y in loader:
            total += float(score(model(x), y)) * len(y)
            count += len(y)
    finally:
        model.train(was_training)
    if count == 0:
        raise ValueError("loader gave no batches")
    return total / count


def accuracy(output: Tensor, y: Tensor) -> Tensor:
    """Share of examples whose largest output (last dimension) is the target class."""
    return (output.argmax(-1) == y).double().mean()
