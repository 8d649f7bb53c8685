"""A classifier's last layer made as wide as an objective on views needs it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from neurarium.objectives.views._label_augmentation import SelfSupervisedLabelAugmentation


def widen_classifier(model: nn.Module, sla: SelfSupervisedLabelAugmentation, layer: str | None = None) -> nn.Module:
    """A copy of a network of N outputs with as many as the objective needs, which starts as the network was.

    The row of class i is copied to all its joint labels (and to the student, for ``"sla+sd"``), so that a single pass
    predicts the same at first. Rows for transformations alone (``"mt"``) start as a new layer's do.

    Args:
        model: the network; it is not changed.
        sla: the objective.
        layer: name of the last layer; by default the only linear layer with N outputs.

    Raises:
        ValueError: no such layer, several that it could be, or one whose weight is computed from others.
    """
    n, m = sla.num_classes, sla.transform.num
    modules = dict(model.named_modules())
    fitting = [k for k, v in modules.items() if isinstance(v, nn.Linear) and v.out_features == n]
    if layer is None and len(fitting) != 1:
        found = f"several ({', '.join(fitting)})" if fitting else "none"
        raise ValueError(f"the model must have one linear layer with {n} outputs; it has {found}: name it in layer")
    name = fitting[0] if layer is None else layer
    old = modules.get(name)
    if not isinstance(old, nn.Linear) or old.out_features != n:
        raise ValueError(f"layer {name!r} must be a linear layer with {n} outputs")
    if is_parametrized(old):
        raise ValueError(f"layer {name!r} is parametrized; remove the parametrization first")
    if sla.mode == "da":
        return copy.deepcopy(model)
    fresh = nn.Linear(old.in_features, m, old.bias is not None).to(old.weight) if sla.mode == "mt" else old

    def widened(rows: torch.Tensor, new: torch.Tensor) -> nn.Parameter:
        first = rows if sla.mode == "mt" else rows.repeat_interleave(m, 0)
        parts = [first] if sla.mode == "sla" else [first, new]  # new: of the transformations, or the student's
        return nn.Parameter(torch.cat(parts).detach(), requires_grad=rows.requires_grad)

    wide = copy.deepcopy(model)
    last = wide.get_submodule(name)
    assert isinstance(last, nn.Linear)
    last.weight = widened(old.weight, fresh.weight)
    if old.bias is not None and fresh.bias is not None:
        last.bias = widened(old.bias, fresh.bias)
    last.out_features = sla.outputs
    return wide
