"""What rules that send the output error back to the input share: a chain of layers, and the feedback matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.learning._rule import LearningRule, Loss

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True)
class Stage:
    """A linear or convolutional layer and the parameterless modules behind it, up to the next such layer."""

    name: str
    layer: nn.Module
    behind: tuple[nn.Module, ...]


@dataclass
class Pass:
    """One forward pass: what entered every layer, every activity h_l, the first layer's output, the dropout masks.

    The activity is the last tensor behind a layer that still has the shape of its output, so that pooling and
    flattening belong to the layer above.
    """

    inputs: list[Tensor] = field(default_factory=list)
    activities: list[Tensor] = field(default_factory=list)
    first: Tensor | None = None
    masks: list[Tensor] = field(default_factory=list)


class LayerChain:
    """A (nested) `Sequential` seen as layers in a row.

    Args:
        model: its modules are linear and convolutional layers, or have neither parameters nor buffers.

    Raises:
        ValueError: something else, with its name.
    """

    def __init__(self, model: nn.Module) -> None:
        leaves = list(_leaves("", model))
        for name, module in leaves:
            if type(module) not in _LAYERS and (
                any(True for _ in module.parameters()) or any(True for _ in module.buffers())
            ):
                raise ValueError(
                    f"{name or 'the model'!r} is a {type(module).__name__}: feedback to the input needs a Sequential "
                    "of linear and convolutional layers and modules without parameters or buffers"
                )
        places = [i for i, (_, module) in enumerate(leaves) if type(module) in _LAYERS]
        if len(places) < 2:
            raise ValueError("the model has no hidden layer to train with feedback: give at least two layers in a row")
        modules = [module for _, module in leaves]
        self.stem = tuple(modules[: places[0]])
        self.stages = [
            Stage(leaves[a][0], modules[a], tuple(modules[a + 1 : b]))
            for a, b in itertools.pairwise([*places, len(leaves)])
        ]

    def walk(
        self, x: Tensor, masks: list[Tensor], *, again: bool = False, weights: Sequence[Any] | None = None,
        first: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
        """A forward pass up to the last layer: what enters each layer, what leaves it, its activity.

        The last layer's activity is its output. Nothing of a layer is kept once the next one is asked for.

        Args:
            x: input [batch, ...].
            masks: receives the dropout masks; where ``again`` they are used in place of new ones.
            again: repeat the masks of an earlier pass.
            weights: (weight, bias) of every layer in place of its own.
            first: the first layer's output, where it is known.
        """
        given = iter(masks)

        def through(module: nn.Module, z: Tensor) -> Tensor:
            if not isinstance(module, _DROPOUTS):
                result: Tensor = module(z.clone() if getattr(module, "inplace", False) else z)
                return result
            if not module.training:
                return z
            if not again:
                masks.append(module(torch.ones_like(z)))
            return z * (next(given) if again else masks[-1])

        for module in self.stem:
            x = through(module, x)
        for i, stage in enumerate(self.stages):
            below = x
            if i == 0 and first is not None:
                output = first
            else:
                output = stage.layer(x) if weights is None else applied(stage.layer, x, *weights[i])
            h = x = output
            for module in stage.behind if stage is not self.stages[-1] else ():
                x = through(module, x)
                h = x if x.shape == h.shape else h
            yield below, output, h

    def run(self, x: Tensor) -> Pass:
        """A forward pass that keeps what a second one is held against."""
        found = Pass()
        for below, output, h in self.walk(x, found.masks):
            found.inputs.append(below)
            found.activities.append(h)
            found.first = output if found.first is None else found.first
        return found

    def finish(self, z: Tensor) -> Tensor:
        """From the last layer's output to the model's."""
        for module in self.stages[-1].behind:
            z = module(z)
        return z


def _leaves(prefix: str, module: nn.Module) -> Any:
    if isinstance(module, nn.Sequential):
        for key, child in module._modules.items():
            if child is not None:
                yield from _leaves(f"{prefix}.{key}" if prefix else key, child)
    else:
        yield prefix, module


def applied(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A layer with other weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    result: Tensor = layer._conv_forward(x, weight, bias)  # type: ignore[operator]
    return result


def outer(layer: nn.Module, cotangent: Tensor, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The vector-Jacobian product of one layer with respect to its weight and bias: a sum of outer products."""
    weight, bias = layer.weight, layer.bias
    if isinstance(layer, nn.Linear):
        c, h = cotangent.reshape(-1, cotangent.shape[-1]), x.reshape(-1, x.shape[-1])
        return c.T @ h if weight.requires_grad else None, c.sum(0) if bias is not None else None
    with torch.enable_grad():
        leaves = [p.detach().requires_grad_() for p in (weight, bias) if isinstance(p, Tensor)]
        z = applied(layer, x.detach(), *(leaves if len(leaves) == 2 else (leaves[0], None)))
        got = torch.autograd.grad(z, leaves, cotangent)
    return got[0], got[1] if len(got) == 2 else None


class InputFeedback(LearningRule):
    """Base of the rules that project the output error onto the input with a fixed matrix F [inputs, outputs].

    Args:
        model: a `Sequential` of linear and convolutional layers and modules without parameters.
        loss: mean over the batch of one loss per example; the error e is its derivative at the last layer's output,
            softmax minus one-hot for the cross-entropy.
        feedback_scale: F is uniform within ± feedback_scale · √(6 / outputs).
        factored: F = B_1 B_2 ... B_L with one Gaussian matrix per layer, of deviation
            (√(2 / inputs) · feedback_scale / √(product of hidden widths))^(1/L), which `WeightMirror` can train; all
            layers must be linear.
        generator: source of F; torch's own by default.

    Raises:
        ValueError: the model is no such chain, has no hidden layer, or more outputs than inputs.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        feedback_scale: float = 0.05,
        factored: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, loss)
        if feedback_scale < 0:
            raise ValueError(f"feedback_scale must be at least 0, not {feedback_scale}")
        self.chain = LayerChain(model)
        self.feedback_scale, self.factored, self.generator = feedback_scale, factored, generator
        self.layers: list[Any] = [stage.layer for stage in self.chain.stages]
        self.register_buffer("feedback", None)
        if factored and not all(isinstance(layer, nn.Linear) for layer in self.layers):
            raise ValueError("factored=True needs linear layers throughout: F is a product of one matrix per layer")
        self.linear_start = isinstance(self.layers[0], nn.Linear) and not [
            module for module in self.chain.stem if type(module) not in (nn.Flatten, nn.Identity)
        ]
        if isinstance(self.layers[0], nn.Linear):
            self._draw(self.layers[0].in_features)

    feedback: Float[Tensor, "inputs outputs"] | None
    """F; drawn at the first batch where the first layer is a convolution."""

    def refresh(self) -> None:
        """Multiply the factors out again after a change."""
        if self.factored:
            self.feedback = torch.linalg.multi_dot([self.get_buffer(f"factor_{i}") for i in range(len(self.layers))])

    def error(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The detached loss, and e [batch, outputs]: the derivative of each example's loss at the last layer."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            loss = self.loss(self.chain.finish(leaf), y)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient * len(z)

    def projected(self, e: Tensor, x: Tensor) -> Tensor:
        """F e in the shape of the input.

        Raises:
            ValueError: x is not floating-point, or not of the size that F was drawn for.
        """
        inputs = x[0].numel()
        if not x.is_floating_point() or e.dim() != 2:
            raise ValueError(f"x must be floating-point and the output [batch, classes], not {x.dtype} and {e.shape}")
        if self.feedback is None:
            self._draw(inputs)
        if self.feedback is None or self.feedback.shape != (inputs, e.shape[1]):
            raise ValueError(
                f"the feedback matrix is {tuple(self.feedback.shape) if self.feedback is not None else None}, but x "
                f"has {inputs} values per example and {e.shape[1]} outputs"
            )
        return (e @ self.feedback.T).view_as(x)

    def entering(self, e: Tensor) -> Tensor | None:
        """W_1 F e, what F e changes at the first layer's output; None where that layer does not see the input itself.

        W_1 F is as wide as there are outputs, so this is cheaper than to send F e through the layer.
        """
        if not self.linear_start or self.feedback is None:
            return None
        return e @ (self.layers[0].weight @ self.feedback).T

    def add(self, i: int, cotangent: Tensor, x: Tensor) -> None:
        """Add one layer's mean outer product to its ``.grad``."""
        layer = self.layers[i]
        if isinstance(layer, nn.Linear):  # straight into .grad
            c, h = (t.reshape(-1, t.shape[-1]).to(layer.weight.dtype) for t in (cotangent, x))
            if layer.weight.requires_grad:
                if layer.weight.grad is None:
                    layer.weight.grad = torch.zeros_like(layer.weight)
                layer.weight.grad.addmm_(c.T, h, alpha=1 / len(x))
            if layer.bias is not None and layer.bias.requires_grad:
                sums = c.sum(0) / len(x)
                layer.bias.grad = sums if layer.bias.grad is None else layer.bias.grad.add_(sums)
            return
        for parameter, gradient in zip((layer.weight, layer.bias), outer(layer, cotangent / len(x), x), strict=True):
            if parameter is None or gradient is None or not parameter.requires_grad:
                continue
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def _draw(self, inputs: int) -> None:
        last = self.layers[-1]
        outputs = last.out_features if isinstance(last, nn.Linear) else last.out_channels
        if outputs > inputs:
            raise ValueError(f"F is wider than the input: {outputs} outputs for {inputs} values per example")
        like = last.weight
        if not self.factored:
            bound = self.feedback_scale * math.sqrt(6 / outputs)
            self.feedback = (bound * (2 * torch.rand(inputs, outputs, generator=self.generator) - 1)).to(like)
            return
        sizes = [inputs, *(layer.out_features for layer in self.layers)]
        total = math.sqrt(2 / inputs) * self.feedback_scale / math.sqrt(math.prod(sizes[1:-1]))
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            factor = total ** (1 / len(self.layers)) * torch.randn(a, b, generator=self.generator)
            self.register_buffer(f"factor_{i}", factor.to(like))
        self.refresh()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take the matrix of a rule that has seen a batch into one that has not."""
        saved = state_dict.get(f"{prefix}feedback")
        if isinstance(saved, Tensor) and self.feedback is None:
            self.feedback = torch.empty_like(saved, device=next(self.model.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
