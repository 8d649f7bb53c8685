"""The classifier trained again on frozen features, every class as often as any other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.objectives import HeadInput
from neurarium.training import call, evaluation, unpack


def retrain_classifier(
    model: nn.Module,
    loader: Iterable[Any],
    layer: str | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Classifier re-training (Kang et al., 2020): keep the features, start the last layer anew, draw classes evenly.

    Features are computed once, in evaluation mode, and the layer is trained on them by SGD with momentum .9 whose rate
    falls to zero along a cosine; examples are drawn with replacement, each with probability 1 / (K n_k).

    Args:
        model: a trained classifier; only the named layer is changed.
        loader: the training set, once through.
        layer: name of the layer; by default the linear layer that is used last.
        epochs: as many draws as there are examples make one.
        batch_size: draws per step.
        learning_rate: at the start.
        weight_decay: of the layer.
        generator: of the draws and, on the CPU, of nothing else; the layer starts by its own ``reset_parameters``.

    Returns:
        The same model.

    Raises:
        ValueError: no such layer, no examples, or a layer that cannot be started anew.
    """
    parts, labels, name = [], [], ""
    with evaluation(model), torch.no_grad(), HeadInput(model, layer) as head:
        for batch in loader:
            x, y = unpack(batch)
            call(model, x)
            parts.append(head.features.detach())
            labels.append(y.to(parts[-1].device).long())
            name = head.calls[-1].name
    if not parts:
        raise ValueError("the loader gave no batches")
    classifier: Any = model.get_submodule(name)
    if not hasattr(classifier, "reset_parameters"):
        raise ValueError(f"layer {name!r} has no reset_parameters and cannot be started anew")
    classifier.reset_parameters()
    features, target = torch.cat(parts), torch.cat(labels)
    weight = torch.bincount(target).double().reciprocal()[target].cpu()
    optimizer = torch.optim.SGD(classifier.parameters(), learning_rate, momentum=0.9, weight_decay=weight_decay)
    per_epoch = math.ceil(len(target) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs * per_epoch, 1))
    for _ in range(epochs):
        draws = torch.multinomial(weight, per_epoch * batch_size, replacement=True, generator=generator)
        for rows in draws.to(target.device).split(batch_size):
            optimizer.zero_grad()
            cross_entropy(classifier(features[rows]), target[rows]).backward()
            optimizer.step()
            schedule.step()
    optimizer.zero_grad()
    return model
