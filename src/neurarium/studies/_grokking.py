"""Full-batch training on a part of all pairs of a group's elements, which the studies of group operations share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import FiniteGroup, Split
from neurarium.learning import Backprop
from neurarium.training import fit

_MAKERS: dict[str, Callable[[int], FiniteGroup]] = {
    "Z": FiniteGroup.cyclic, "D": FiniteGroup.dihedral, "S": FiniteGroup.symmetric, "A": FiniteGroup.alternating,
}  # fmt: skip


def group_of(name: str) -> FiniteGroup:
    """``"Z31"``, ``"D59"``, ``"S4"`` or ``"A5"``."""
    return _MAKERS[name[0]](int(name[1:]))


def log_spaced(steps: int, count: int) -> list[int]:
    """Steps from 1 to the last, evenly apart on a logarithmic scale."""
    return sorted({round(step) for step in np.geomspace(1, steps, count)})


def grok(
    model: nn.Module,
    task: Split,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    at: Iterable[int] = (),
    look: Callable[[int], object] = lambda step: None,
) -> None:
    """AdamW with the papers' momenta on all training pairs at once.

    Args:
        model: trained in place.
        task: its training part is used.
        steps: how many.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        at: steps after which ``look`` is called.
        look: given the step.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay
    )  # fmt: skip
    wanted = set(at)
    fit(
        Backprop(model, cross_entropy),
        [(task.train.x, task.train.y)],
        optimizer,
        epochs=steps,
        callbacks=[lambda step, _: look(step) if step in wanted else None],
    )


@torch.no_grad()
def scores(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy."""
    logits = model(x)
    return float(cross_entropy(logits, y)), float((logits.argmax(1) == y).double().mean())
