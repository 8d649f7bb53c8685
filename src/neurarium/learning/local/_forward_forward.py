"""Forward-Forward: every block tells data with the right label from data with a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.learning._rule import LearningRule, Loss
from neurarium.learning.cutting._blocks import Blocks
from neurarium.learning.cutting._local_blocks import BypassCheck, find_entries, output_features, visiting


class ForwardForward(LearningRule):
    """Goodness g = mean a² of every block, pushed above θ for the right label and below it for a wrong one.

    (Hinton, 2022.) The label is written over the first C features of the input, so these must carry nothing (the dark
    border of an image). A block's loss is softplus(θ − g) for the example with its label and softplus(g − θ) for the
    same example with a random wrong one. Between blocks the activation is divided by its root mean square, so that the
    next block cannot read off the goodness. The model's readout is trained by ``loss`` on the normalised activation
    that the label-free example (1 / C in each label feature) gives. The model is of use only through the rule.

    Args:
        model: a chain of blocks and a readout to C classes; the input [batch, ...] has at least C values per example.
        loss: loss of the readout.
        threshold: θ; a number near the mean square of an activation at the start.
        num_classes: C; by default the outputs of the model's last layer.
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

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        threshold: float = 2.0,
        num_classes: int | None = None,
        blocks: Blocks = None,
        prediction: Literal["goodness", "readout"] = "goodness",
        local: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, loss)
        if prediction not in ("goodness", "readout"):
            raise ValueError(f"prediction must be 'goodness' or 'readout', not {prediction!r}")
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

    def forward(self, x: Tensor) -> Float[Tensor, "batch classes"]:
        """Total goodness of every label, or the readout."""
        if self.prediction == "readout":
            with self._normalising():
                output: Tensor = self.model(self.embed(x, None))
            return output
        return torch.stack(self.goodness(x)).sum(0)

    def goodness(self, x: Tensor) -> list[Float[Tensor, "batch classes"]]:
        """Every block's goodness for every label."""
        columns: list[list[Tensor]] = []
        for label in range(self.num_classes):
            found: list[Tensor] = []
            with self._normalising(found):
                self.model(self.embed(x, torch.full((len(x),), label, device=x.device)))
            columns.append(found)
        return [torch.stack(block, 1) for block in zip(*columns, strict=True)]

    def embed(self, x: Tensor, y: Tensor | None) -> Tensor:
        """``x`` with its label, one-hot at the example's largest magnitude, over its first C features."""
        flat = x.flatten(1).clone()
        if not flat.is_floating_point() or flat.shape[1] < self.num_classes:
            raise ValueError(
                f"x must be floating-point with at least {self.num_classes} values per example to write the label "
                f"on, not {x.dtype} of shape {tuple(x.shape)}"
            )
        height = flat.abs().amax(1, keepdim=True)
        if y is None:
            flat[:, : self.num_classes] = height / self.num_classes
        else:
            flat[:, : self.num_classes] = height * F.one_hot(y.long(), self.num_classes)
        return flat.view_as(x)

    def assign_credit(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the gradients of every block and of the readout; returns the readout's loss, detached."""
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
            output = self.model(torch.cat([self.embed(x, y), self.embed(x, wrong), self.embed(x, None)]))
        loss = self.loss(output[2 * rows :], y)
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
