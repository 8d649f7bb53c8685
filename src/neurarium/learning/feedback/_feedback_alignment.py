"""Feedback alignment: backpropagation through fixed random weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from neurarium.learning._rule import LearningRule, Loss
from neurarium.training import buffer_key, call

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class FeedbackAlignment(LearningRule):
    """The error passes every linear and convolutional layer through a fixed random matrix in place of Wᵀ.

    The baseline of Launay et al., 2020 (Lillicrap et al., 2016). Everything else, nonlinearities and norms included,
    has its true derivative. Costs one more forward product per layer.

    Args:
        model: any module with linear or convolutional layers.
        loss: ``loss(output, target) -> scalar``.
        generator: source of the feedback weights; torch's own by default. They are drawn as torch draws a layer's
            weights, uniform within 1 / sqrt(fan-in), and are buffers.

    Raises:
        ValueError: the model has no linear or convolutional layer, or one whose weight is parametrized.
    """

    slug: ClassVar[str] = "feedback-alignment"
    learning_rate: ClassVar[float] = 1e-3

    def __init__(self, model: nn.Module, loss: Loss, *, generator: torch.Generator | None = None) -> None:
        super().__init__(model, loss)
        self.layers = {name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)}
        if not self.layers:
            raise ValueError(f"{type(model).__name__} has no linear or convolutional layer to give random feedback")
        for name, module in self.layers.items():
            if is_parametrized(module, "weight"):
                raise ValueError(f"the weight of {name!r} is parametrized, so random feedback cannot take its place")
            weight = module.weight.detach()
            bound = weight[0].numel() ** -0.5
            drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
            self.register_buffer("feedback_" + buffer_key(name), drawn.to(weight))

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradients; returns the detached loss."""
        with self._random_feedback():
            loss = self.loss(call(self.model, x), y)
        loss.backward()
        return loss.detach()

    @contextmanager
    def _random_feedback(self) -> Iterator[None]:
        """A layer sees a detached input; the input's gradient comes through a term of value zero with weights B."""
        handles = []
        for name, module in self.layers.items():
            inputs: list[Tensor] = []

            def detach(module: nn.Module, arguments: Any, inputs: list[Tensor] = inputs) -> Any:
                inputs.append(arguments[0])
                return (arguments[0].detach(), *arguments[1:])

            def attach(
                module: nn.Module, arguments: Any, output: Tensor, inputs: list[Tensor] = inputs, name: str = name
            ) -> Tensor:
                given = inputs.pop()
                if not given.requires_grad:
                    return output
                weights = {"weight": self.get_buffer("feedback_" + buffer_key(name))}
                if isinstance(module.bias, Tensor):
                    weights["bias"] = torch.zeros_like(module.bias)
                # the module's own forward, without the hooks that got us here
                through = functional_call(_Bare(module), {f"layer.{k}": v for k, v in weights.items()}, (given,))
                return output + (through - through.detach())

            handles += [module.register_forward_pre_hook(detach), module.register_forward_hook(attach)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Bare(nn.Module):
    """Calls a layer's forward without its hooks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer.forward(x)
        return output
