"""Forward-Forward: every block tells data with the right label from data with a wrong one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.learning._rule import LearningRule, Loss
from neurarium.learning.cutting._blocks import Blocks
from neurarium.learning.cutting._local_blocks import BypassCheck, find_entries, output_features, visiting


class ForwardForward(LearningRule):
    """Goodness g = mean a² of every block, pushed above θ for the right label and below it for a wrong one.

    (Hinton, 2022.) The label is written over the first C features of the input, which must then carry nothing (the dark
    border of an image), or beside the input (``label="pad"``). A block's loss is softplus(θ − g) for the example with
    its label and softplus(g − θ) for the same example with a random wrong one. Between blocks the activation is divided
    by its root mean square, so that the next block cannot read off the goodness. The model's readout is trained by
    ``loss`` on the normalised activation that the label-free example (1 / C in each label feature) gives. The model is
    of use only through the rule.

    Args:
        model: a chain of blocks and a readout to C classes; the input [batch, ...] has at least C values per example.
        loss: loss of the readout.
        threshold: θ; a number near the mean square of an activation at the start.
        num_classes: C; by default the outputs of the model's last layer.
        label: ``"overlay"``: over the first C features; ``"pad"``: in C features more, whose weights into the first
            linear or convolutional layer are the rule's own. Tables, whose first columns tell something, need it.
        blocks: see `find_blocks`.
        prediction: ``"goodness"``: try all C labels, C passes, and give the sum of every block's goodness;
            ``"readout"``: one pass of the label-free example.
        local: cut the network at its blocks; False sends the gradients of all goodness losses through the whole
            network, which tells apart what the contrastive objective does and what locality does.
        generator: source of the wrong labels, on the labels' device; torch's own by default.

    Raises:
        ValueError: no hidden block, fewer than two classes; at a batch: labels that are no class indices, or inputs too
            small to hold a label.
    """

    slug: ClassVar[str] = "forward-forward"
    learning_rate: ClassVar[float] = 3e-3
    label_layer: nn.Module

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        threshold: float = 2.0,
        num_classes: int | None = None,
        label: Literal["overlay", "pad"] = "overlay",
        blocks: Blocks = None,
        prediction: Literal["goodness", "readout"] = "goodness",
        local: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, loss)
        if prediction not in ("goodness", "readout"):
            raise ValueError(f"prediction must be 'goodness' or 'readout', not {prediction!r}")
        if label not in ("overlay", "pad"):
            raise ValueError(f"label must be 'overlay' or 'pad', not {label!r}")
        self.num_classes = output_features(model)[0] if num_classes is None else num_classes
        if self.num_classes < 2:
            raise ValueError("forward-forward needs at least 2 classes: it learns from labels, right and wrong")
        self.entries = find_entries(model, blocks)
        if not self.entries:
            raise ValueError(
                f"{type(model).__name__} has no hidden block below its output; name them with blocks=[...]"
            )
        self.threshold, self.prediction, self.local, self.generator = threshold, prediction, local, generator
        self.layer_losses: list[Tensor] = []
        self._bypass = BypassCheck()
        self.label_weight: nn.Parameter | None = None
        if label == "pad":
            self._widen()

    def forward(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """Total goodness of every label, or the readout."""
        if self.prediction == "readout":
            with self._normalising():
                return self._run(x, [None])
        return torch.stack(self.goodness(x)).sum(0)

    def goodness(self, x: Tensor) -> list[Float[Tensor, "batch classes"]]:
        """Every block's goodness for every label."""
        columns: list[list[Tensor]] = []
        for label in range(self.num_classes):
            found: list[Tensor] = []
            with self._normalising(found):
                self._run(x, [torch.full((len(x),), label, device=x.device)])
            columns.append(found)
        return [torch.stack(block, 1) for block in zip(*columns, strict=True)]

    def codes(self, x: Tensor, y: Tensor | None) -> Float[Tensor, "batch classes"]:
        """What is written for a label: one-hot at the example's largest magnitude, or as much for none of them."""
        height = x.flatten(1).abs().amax(1, keepdim=True)
        if y is None:
            return (height / self.num_classes).expand(-1, self.num_classes)
        return height * F.one_hot(y.long(), self.num_classes)

    def embed(self, x: Tensor, y: Tensor | None) -> Tensor:
        """``x`` with its label over its first C features."""
        flat = x.flatten(1).clone()
        if not flat.is_floating_point() or flat.shape[1] < self.num_classes:
            raise ValueError(
                f"x must be floating-point with at least {self.num_classes} values per example to write the label "
                f"on, not {x.dtype} of shape {tuple(x.shape)}; label='pad' writes it beside x"
            )
        flat[:, : self.num_classes] = self.codes(x, y)
        return flat.view_as(x)

    def _run(self, x: Tensor, labels: Sequence[Tensor | None]) -> Tensor:
        """The model on the examples with each of several labels, one after another in one batch."""
        if self.label_weight is None:
            output: Tensor = self.model(torch.cat([self.embed(x, y) for y in labels]))
            return output
        weight, codes = self.label_weight, torch.cat([self.codes(x, y) for y in labels])

        def add(layer: nn.Module, inputs: Any, z: Tensor) -> Tensor:
            share = F.linear(codes, weight)
            last = isinstance(layer, nn.Linear)
            between = [1] * (z.dim() - 2)
            return z + share.view(len(z), *(between if last else []), -1, *([] if last else between))

        handle = self.label_layer.register_forward_hook(add, prepend=True)
        try:
            output = self.model(torch.cat([x] * len(labels)))
        finally:
            handle.remove()
        return output

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the gradients of every block and of the readout; returns the readout's loss, detached."""
        if not isinstance(x, Tensor):
            raise TypeError(f"ForwardForward needs one tensor of inputs, not {type(x).__name__}")
        wrong = self.wrong_labels(y)
        rows = len(y)
        total = torch.zeros((), device=x.device)
        self.layer_losses = []

        def contrast(i: int, a: Tensor) -> Tensor:
            nonlocal total
            g = _goodness(a[: 2 * rows]) - self.threshold
            loss = 0.5 * (F.softplus(-g[:rows]).mean() + F.softplus(g[rows:]).mean())
            self.layer_losses.append(loss.detach())
            if not self.local:
                total = total + loss
                return _normalised(a if i + 1 < len(self.entries) else a.detach())  # the readout stays apart
            self._bypass.check(loss, self.entries[i - 1])
            if loss.requires_grad:
                loss.backward()
            return _normalised(a.detach())

        with visiting(self.entries, contrast):
            output = self._run(x, [y, wrong, None])
        loss = self.loss(output[2 * rows :], y.long())
        if self.local:
            self._bypass.check(loss, self.entries[-1])
            self._bypass.done()
        elif total.requires_grad:
            total.backward()
        if loss.requires_grad:
            loss.backward()
        return loss.detach()

    def wrong_labels(self, y: Tensor) -> Tensor:
        """For each label another one, all equally likely.

        Raises:
            ValueError: ``y`` is not one class index per example.
        """
        if y.is_floating_point() or y.dim() != 1:
            raise ValueError(f"forward-forward needs one class index per example, not {y.dtype} of {tuple(y.shape)}")
        if len(y) and y.device.type == "cpu" and not 0 <= int(y.min()) <= int(y.max()) < self.num_classes:
            raise ValueError(f"labels must lie in 0..{self.num_classes - 1}; they go from {y.min()} to {y.max()}")
        shift = torch.randint(1, self.num_classes, y.shape, generator=self.generator, device=y.device)
        return (y + shift) % self.num_classes

    def _widen(self) -> None:
        """Weights from C label features into the first layer, as torch would draw them for a layer so much wider."""
        kinds = (nn.Linear, nn.modules.conv._ConvNd)
        layer = next((module for module in self.model.modules() if isinstance(module, kinds)), None)
        if layer is None:
            raise ValueError("label='pad' needs a linear or convolutional layer that the input reaches first")
        weight: Tensor = layer.weight
        outputs, inputs = weight.shape[0], weight[0].numel()
        bound = (inputs + self.num_classes) ** -0.5
        self.label_weight = nn.Parameter(weight.new_empty(outputs, self.num_classes).uniform_(-bound, bound))
        self.__dict__["label_layer"] = layer  # the model's: not a module of this one a second time

    @contextmanager
    def _normalising(self, found: list[Tensor] | None = None) -> Iterator[None]:
        def visit(i: int, a: Tensor) -> Tensor:
            if found is not None:
                found.append(_goodness(a))
            return _normalised(a)

        with visiting(self.entries, visit):
            yield


def _goodness(a: Tensor) -> Float[Tensor, " batch"]:
    return a.flatten(1).square().mean(1)


def _normalised(a: Tensor) -> Tensor:
    """Each example divided by its root mean square."""
    scale = _goodness(a).sqrt() + 1e-4
    return a / scale.view(-1, *[1] * (a.dim() - 1))
