"""The contract of the learning room, and backpropagation as its first member."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from neurarium.training import call

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(output, target) -> scalar``, a mean over the batch (``torch.nn.functional.cross_entropy`` is one)."""


class LearningRule(nn.Module, ABC):
    """A way to fill ``.grad``, wrapped around the user's model.

    Whatever a rule needs beside the model (feedback matrices, local heads) is its own parameter or buffer, so that
    ``rule.parameters()`` is what the optimizer takes and ``rule.state_dict()`` is all there is to save. Gradients are
    *added* to ``.grad``, as ``loss.backward()`` does: accumulation, clipping, penalties and all-reduce work unchanged.

    Args:
        model: any module; the rule says which structure it needs.
        loss: ``loss(output, target) -> scalar``.
    """

    slug: ClassVar[str]
    """Name on the command line; the class name in kebab-case unless the class says otherwise."""
    learning_rate: ClassVar[float] = 1e-3
    """Adam's rate that served this rule best on held-out MNIST images; `neurarium compare` uses it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "slug" not in cls.__dict__:
            cls.slug = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "model has no parameter to train: give a module with at least one that requires a gradient"
            )
        self.model = model
        self.loss = loss

    def forward(self, x: Any) -> Tensor:
        """The prediction for ``x``."""
        return call(self.model, x)

    @abstractmethod
    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add this rule's gradients for one batch to ``.grad``; returns the detached loss of the prediction."""


class Backprop(LearningRule):
    """The exact gradient, by reverse-mode differentiation: the reference that every other rule is held against."""

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradient of the loss; returns the detached loss."""
        loss = self.loss(call(self.model, x), y)
        loss.backward()
        return loss.detach()
