"""Angle between a feedback matrix to the input and the network's forward weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from neurarium.probes._result import ProbeResult


@runtime_checkable
class FeedsInput(Protocol):
    """A rule with a feedback matrix from outputs to inputs (`Pepita` is one)."""

    model: nn.Module
    feedback: Tensor | None


@dataclass(frozen=True)
class FeedbackAngle(ProbeResult):
    """Degrees between F and (W_L ... W_1)ᵀ.

    Args:
        degrees: 90 is unrelated; PEPITA's learning drives it above 90, towards 180.
    """

    degrees: float

    def summary(self) -> str:
        """One line."""
        return f"angle between feedback and forward weights: {self.degrees:.1f}° (90° is unrelated)"

    def plot(self, ax: Any) -> Any:
        """One bar against 90°."""
        ax.bar([0], [self.degrees])
        ax.axhline(90, color="grey", linewidth=0.8)
        ax.set_ylabel("degrees")
        return ax


@torch.no_grad()
def feedback_angle(rule: FeedsInput) -> FeedbackAngle:
    """The angle between the rule's F [inputs, outputs] and the transposed product of the model's linear layers.

    (Srinivasan et al., 2024, section 4.) The matrices are taken as vectors.

    Args:
        rule: a rule with ``feedback``, on a chain of linear layers.

    Raises:
        ValueError: a layer that is not linear has weights, the layers do not follow each other, or F is not drawn or 0.
    """
    layers = [module for module in rule.model.modules() if module._parameters]
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        raise ValueError("the product of the weights is defined for linear layers only")
    product: Any = None
    for layer in layers:
        weight: Any = layer.weight
        if product is not None and weight.shape[1] != product.shape[0]:
            raise ValueError("the linear layers do not follow each other, so their weights have no product")
        product = weight if product is None else weight @ product
    if rule.feedback is None or rule.feedback.shape != product.T.shape:
        raise ValueError("the rule has no feedback matrix [inputs, outputs] of the model's size yet")
    a, b = rule.feedback.double().flatten(), product.T.double().flatten()
    if float(a.norm()) == 0 or float(b.norm()) == 0:
        raise ValueError("a matrix of zeros has no angle")
    cosine = float(a @ b / (a.norm() * b.norm()))
    return FeedbackAngle(math.degrees(math.acos(min(1.0, max(-1.0, cosine)))))
