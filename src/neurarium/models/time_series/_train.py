"""Training of series classifiers as Wang, Yan and Oates (2017) train them: no validation, the lowest training loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.training import training

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def train_time_series(
    model: nn.Module,
    x: Float[Tensor, "series channels steps"],
    y: Int[Tensor, " series"],
    lengths: Int[Tensor, " series"] | None = None,
    *,
    epochs: int = 100,
    batch_size: int = 0,
    optimizer: Make | None = None,
    schedule: Literal["cosine", "plateau"] = "cosine",
    patience: int = 50,
    floor: float = 1e-4,
    generator: torch.Generator | None = None,
    watch: Callable[[int, float], Any] | None = None,
) -> list[float]:
    """Train in place; the model ends with the weights of the epoch whose training loss was lowest.

    Args:
        model: gives logits for ``model(x)``, or ``model(x, lengths)`` where lengths are given.
        x: series, shorter ones filled up behind their end.
        y: class indices.
        lengths: steps of each series; all by default.
        epochs: passes over the series.
        batch_size: by default the paper's: a tenth of the series, at least 2 and at most 16.
        optimizer: makes it for the parameters; by default Adam at the paper's rate of 1e-3.
        schedule: "cosine" falls to zero over the epochs; "plateau" is the paper's: the rate is halved when the training
            loss has not fallen for ``patience`` epochs, down to ``floor``. It needs many hundred epochs.
        patience: of the plateau.
        floor: least rate on the plateau.
        generator: of the order of the series and of dropout; torch's own by default.
        watch: called after each epoch with its number, from 1, and its loss.

    Returns:
        Mean training loss of each epoch.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: x, y and lengths are not equally many, or fewer than two series.
    """
    if len(x) != len(y) or (lengths is not None and len(lengths) != len(x)):
        raise ValueError(f"x, y and lengths must be equally many, not {len(x)}, {len(y)} and {lengths}")
    if len(x) < 2:
        raise ValueError("a network with batch normalisation cannot be trained on fewer than two series")
    size = batch_size or max(2, min(len(x) // 10, 16))
    steps = optimizer(model.parameters()) if optimizer else torch.optim.Adam(model.parameters(), 1e-3)
    decay: Any = (
        torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs)
        if schedule == "cosine"
        else torch.optim.lr_scheduler.ReduceLROnPlateau(steps, factor=0.5, patience=patience, min_lr=floor)
    )
    best, state, losses = math.inf, copy.deepcopy(model.state_dict()), []
    with training(model), torch.random.fork_rng(devices=[], enabled=generator is not None):
        if generator is not None:
            seed = int(torch.randint(2**31, (), generator=generator))
            torch.default_generator.manual_seed(seed)  # dropout has no other way
        for epoch in range(1, epochs + 1):
            total = 0.0
            for rows in _batches(len(x), size, generator):
                steps.zero_grad()
                part = rows.to(x.device)
                output = model(x[part]) if lengths is None else model(x[part], lengths[part])
                loss = cross_entropy(output, y[part])
                loss.backward()
                steps.step()
                total += float(loss.detach()) * len(rows)
            losses.append(total / len(x))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(f"the loss is not finite in epoch {epoch}; lower the learning rate")
            decay.step(*([losses[-1]] if schedule == "plateau" else []))
            if losses[-1] < best:
                best, state = losses[-1], copy.deepcopy(model.state_dict())
            if watch:
                watch(epoch, losses[-1])
    model.load_state_dict(state)
    return losses


def _batches(count: int, size: int, generator: torch.Generator | None) -> list[Tensor]:
    """Rows in a new order; a last one that would be alone joins the batch before."""
    parts = list(torch.randperm(count, generator=generator).split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
