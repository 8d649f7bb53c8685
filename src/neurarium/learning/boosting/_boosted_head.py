"""A boosted hidden layer in place of a trained network's linear head."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.learning.boosting._gradient_boosting import GradientBoostedHead
from neurarium.training import call, copy_module, evaluation, replace_module, unpack


def boost_head(model: nn.Module, loader: Iterable[Any], *, head: str | None = None, **options: Any) -> nn.Module:
    """A copy of a model whose head is a `GradientBoostedHead`, fitted on the features that the frozen rest computes.

    Features are computed once, in evaluation mode and without gradients, and kept in memory. The new head stands where
    the old one was, so ``set_active`` on it trades accuracy against time in the model itself.

    Args:
        model: any module with a linear layer as its head; left untouched.
        loader: batches ``(x, y)`` of the training data; one pass is made.
        head: name of the linear layer to replace; by default the last one in the model.
        **options: what `GradientBoostedHead` takes, sizes excepted: they are the old head's (one output for the binary
            loss).

    Raises:
        ValueError: there is no such linear layer, it is called other than once per pass on rows of features, the loader
            is empty or as `GradientBoostedHead.fit`.
        TypeError: the loader has no length.
    """
    if not isinstance(loader, Sized):
        raise TypeError("loader must have a length: boosting needs all examples, so the data must be finite")
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    name = list(linear)[-1] if head is None and linear else head
    if not name or name not in linear:
        raise ValueError(f"head must name a linear layer inside the model (it has: {', '.join(linear) or 'none'})")
    result, old = copy_module(model), linear[name]
    features, targets = _features(result, result.get_submodule(name), loader)
    outputs = 1 if options.get("loss") == "binary" else old.out_features
    new = GradientBoostedHead(old.in_features, outputs, **options).fit(features, targets)
    return replace_module(result, name, new.to(old.weight))


def _features(model: nn.Module, head: nn.Module, loader: Iterable[Any]) -> tuple[Tensor, Tensor]:
    """What reaches the head for every example, and the targets."""
    caught: list[Tensor] = []
    targets: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach().cpu()))
    device = next(head.parameters()).device
    try:
        with torch.no_grad(), evaluation(model):
            for x, y in map(unpack, loader):
                call(model, x.to(device))
                targets.append(y.cpu())
    finally:
        handle.remove()
    if not targets:
        raise ValueError("loader gave no batch")
    if len(caught) != len(targets) or any(f.dim() != 2 or len(f) != len(y) for f, y in zip(caught, targets)):
        raise ValueError("the head must be called once per pass, on one row of features per example")
    return torch.cat(caught), torch.cat(targets)
