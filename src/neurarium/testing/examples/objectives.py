"""How the components of `neurarium.objectives` are used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurarium import objectives
from neurarium.testing.examples._shared import loose, pixels, seed
from neurarium.testing.world import Example, ModuleExample, World

MODULES: dict[str, ModuleExample] = {
    "MomentumEncoder": lambda w: (objectives.MomentumEncoder(nn.Linear(8, 4)), (w.x(5, 8),)),
}  # fmt: skip

EXAMPLES: dict[str, Example] = {
    "HeadInput": lambda w: head_input(w),
    "FeatureLoss": lambda w: feature_loss(w),
    "LDAM": lambda w: objectives.LDAM([5, 3, 2]).to(w.device, w.dtype)(w.x(12, 3), w.y()),
    "LogitAdjustment": lambda w: objectives.LogitAdjustment([5, 3, 2]).to(w.device, w.dtype)(w.x(12, 3), w.y()),
    "DeferredReweighting": lambda w: objectives.DeferredReweighting([5, 3, 2], start=0).to(w.device, w.dtype)(
        w.x(12, 3), w.y()
    ),
    "FeatureDecay": lambda w: objectives.FeatureDecay(0.1, 12).to(w.device, w.dtype)(w.x(12, 3)),
    "NeuralCollapseRegularizer": lambda w: w.put(objectives.NeuralCollapseRegularizer(3, 4, generator=seed()))(
        w.x(12, 4), w.y()
    ),
    "map_alignment_loss": lambda w: objectives.map_alignment_loss(w.x(2, 3, 4, 4), w.x(2, 3, 4, 4, seed=1)),
    "paste_maps": lambda w: objectives.paste_maps(w.x(2, 3, 4, 4), w.x(2, 3, 2, 2), 1, 1),
    "shift_maps": lambda w: objectives.shift_maps(w.x(2, 3, 4, 4), 1, -1),
    "zoom_maps": lambda w: objectives.zoom_maps(w.x(2, 3, 4, 4), 1.5),
    "Guidance": lambda w: guided(w),
    "Taps": lambda w: tapped(w),
    "QuadraticPenalty": lambda w: quadratic(w),
    "distillation_loss": lambda w: objectives.distillation_loss(w.x(12, 3), w.x(12, 3, seed=1), w.y()),
    "info_nce": lambda w: objectives.info_nce(w.x(9, 4), w.x(9, 4, seed=1)),
    "lift_to_views": lambda w: objectives.lift_to_views(w.positive(3), 4),
    "linear_cka": lambda w: objectives.linear_cka(w.x(9, 4), w.x(9, 3, seed=1)),
    "logit_mse": lambda w: objectives.logit_mse(w.x(5, 3), w.x(5, 3, seed=1)),
    "prediction_entropy": lambda w: objectives.prediction_entropy(w.x(5, 3)),
    "response_labels": lambda w: objectives.response_labels(w.whole([1, 2, 3], [4, 5, 6]), w.whole(1, 2)),
    "response_loss": lambda w: objectives.response_loss(w.x(2, 4, 5), w.whole([-100, 1, 2, 3], [-100, -100, 1, 2])),
    "rsa": lambda w: objectives.rsa(w.x(9, 4), w.x(9, 3, seed=1)),
    "soft_cross_entropy": lambda w: objectives.soft_cross_entropy(w.x(5, 3), w.x(5, 3, seed=1)),
    "subspace_alignment": lambda w: objectives.subspace_alignment(
        torch.linalg.qr(w.x(6, 2))[0], torch.linalg.qr(w.x(6, 2, seed=1))[0]
    ),
}  # fmt: skip


def guided(w: World) -> Tensor:
    """One guided loss."""
    model = pixels(w)
    with objectives.Guidance(model, w.mlp(8, 6, 6, 3, seed=1)) as guidance:
        model(w.x(16, 8))
        return guidance.penalty()


def tapped(w: World) -> dict[str, Tensor]:
    """Outputs of all layers."""
    model = pixels(w)
    with objectives.Taps(model) as taps:
        model(w.x(5, 8))
        return dict(taps.outputs)


def quadratic(w: World) -> Tensor:
    """A spring on every parameter."""
    parameters = {name: p.detach() for name, p in pixels(w).named_parameters()}
    penalty = objectives.QuadraticPenalty().to(w.device)
    penalty.add({n: torch.ones_like(p) for n, p in parameters.items()}, {n: p + 1 for n, p in parameters.items()})
    return penalty(parameters)


def head_input(w: World) -> Any:
    """What reaches the last layer."""
    model = pixels(w)
    with objectives.HeadInput(model) as head:
        model(w.x(5, 8))
        return head.features


def feature_loss(w: World) -> Tensor:
    """A loss on outputs and features."""
    model = pixels(w)
    penalty = objectives.NeuralCollapseRegularizer(3, 10, generator=seed()).to(w.device, w.dtype)
    with objectives.FeatureLoss(model, loose, penalty) as loss:
        return loss(model(w.examples()), w.y().long())
