"""A small training loop around any learning rule, and evaluation. Studies use them; nobody has to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from neurarium.training._batches import call, unpack
from neurarium.training._modes import evaluation, training

Penalty = Callable[[], Tensor]
"""``penalty() -> scalar`` whose gradient is added to the rule's (``EWC.penalty`` is one)."""


@runtime_checkable
class Rule(Protocol):
    """What the loop needs of a learning rule."""

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add gradients for a batch; returns the detached loss."""


def fit(
    rule: Rule,
    loader: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int = 1,
    penalties: Sequence[Penalty] = (),
    callbacks: Sequence[Callable[[int, float], object]] = (),
) -> list[float]:
    """Train for some passes over a loader.

    Each step: zero the gradients, ``rule.assign_credit``, add the gradients of the penalties, step the optimizer, call
    the callbacks. The rule trains in training mode, but for the layers that you froze with ``.eval()``; all modes are
    put back at the end.

    Args:
        rule: a learning rule.
        loader: batches in any form that `unpack` knows; iterated once per epoch.
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
    history: list[float] = []
    step = 0
    with training(rule) if isinstance(rule, nn.Module) else nullcontext():
        for epoch in range(1, epochs + 1):
            total, batches = None, 0
            for batch in loader:
                optimizer.zero_grad()
                loss = rule.assign_credit(*unpack(batch))
                for penalty in penalties:
                    extra = penalty()
                    if extra.requires_grad:
                        extra.backward()
                optimizer.step()
                precise = loss.detach().to(_widest(loss.device))  # summed where it is: no wait for the device per step
                total = precise if total is None else total + precise
                batches += 1
                step += 1
                if callbacks:
                    value = float(loss)
                    for callback in callbacks:
                        callback(step, value)
            if total is None:
                raise ValueError("loader gave no batches")
            mean = float(total) / batches
            history.append(mean)
            if not math.isfinite(mean):
                raise FloatingPointError(f"the loss is not finite in epoch {epoch}; lower the learning rate")
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    metric: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> float:
    """Mean of a per-batch metric over all examples, with the model in evaluation mode.

    Args:
        model: a module or learning rule; each of its modules' modes is put back afterwards.
        loader: batches in any form that `unpack` knows; the model is given them by `call`.
        metric: ``metric(output, y) -> mean over the batch``; accuracy of the largest output by default.
    """
    score = metric or accuracy
    total, count = 0.0, 0
    with evaluation(model):
        for batch in loader:
            x, y = unpack(batch)
            total += float(score(call(model, x), y)) * len(y)
            count += len(y)
    if count == 0:
        raise ValueError("loader gave no batches")
    return total / count


def accuracy(output: Tensor, y: Tensor) -> Tensor:
    """Share of examples whose largest output (last dimension) is the target class."""
    return (output.argmax(-1) == y).to(_widest(output.device)).mean()


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's devices have no float64
