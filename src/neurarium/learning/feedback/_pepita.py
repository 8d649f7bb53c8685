"""PEPITA: two forward passes, the second on an input that the output error has perturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.learning._rule import Loss
from neurarium.learning.feedback._input_feedback import InputFeedback, Pass, outer


class Pepita(InputFeedback):
    """Every hidden layer learns from the difference of its activities in two forward passes.

    (Dellaferrera and Kreiman, 2022; Srinivasan et al., 2024, section 2.) With h_l the activities for x and h'_l those
    for x + F e, e the output error, ``.grad`` receives the batch mean of (h_l − h'_l) h'_{l−1}ᵀ in hidden layers and of
    e h'_{L−1}ᵀ in the last; biases the same with 1 in place of the input. No derivative of a nonlinearity is applied:
    it is in the difference, to first order in F. No graph is built (but over the loss, and over one convolution at a
    time). Both passes have the same dropout masks.

    Args:
        model: a `Sequential` of linear and convolutional layers and modules without parameters or buffers.
        loss: mean over the batch of one loss per example.
        update: ``"pepita"``; ``"hebbian"``: h_l h_{l−1}ᵀ − h'_l h'_{l−1}ᵀ, a Hebbian and an anti-Hebbian product;
            ``"time-local"``: the same, but the second pass runs with weights that the first product has already
            changed, W − local_rate · h_l h_{l−1}ᵀ; with plain SGD at this rate the sum is what two steps in turn give.
        local_rate: the optimizer's learning rate, for ``"time-local"``.
        feedback_scale: F is uniform within ± feedback_scale · √(6 / outputs). Too small and h − h' is rounding noise,
            too large and the update is no longer adaptive feedback alignment (`AdaptiveFeedbackAlignment`).
        factored: F as a product of one matrix per layer, for `WeightMirror`.
        generator: source of F; torch's own by default.

    Raises:
        ValueError: an unknown ``update``; the model is no such chain, has no hidden layer, or more outputs than inputs;
            at a batch: an input that is not floating-point.
    """

    slug: ClassVar[str] = "pepita"
    learning_rate: ClassVar[float] = 1e-3

    def __init__(
        self,
        model: nn.Module,
        loss: Loss = F.cross_entropy,
        *,
        update: str = "pepita",
        local_rate: float = 0.01,
        feedback_scale: float = 0.05,
        factored: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, loss, feedback_scale=feedback_scale, factored=factored, generator=generator)
        if update not in ("pepita", "hebbian", "time-local"):
            raise ValueError(f"update must be 'pepita', 'hebbian' or 'time-local', not {update!r}")
        self.update, self.local_rate = update, local_rate

    @torch.no_grad()
    def assign_credit(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the updates of every layer; returns the detached loss of the clean pass."""
        clean = self.chain.run(x)
        loss, e = self.error(clean.activities[-1], y)
        last = len(self.layers) - 1
        for i, (below, _, perturbed) in enumerate(self._perturbed(x, e, clean)):
            if i == last:
                self.add(i, e, below)
            elif self.update == "pepita":
                self.add(i, clean.activities[i] - perturbed, below)
            else:
                self.add(i, clean.activities[i], clean.inputs[i])
                self.add(i, -perturbed, below)
        return loss

    @torch.no_grad()
    def signals(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """h_l − h'_l by the name of the hidden layer at whose output it stands for the gradient (`alignment`)."""
        clean = self.chain.run(x)
        e = self.error(clean.activities[-1], y)[1]
        names = [stage.name for stage in self.chain.stages[:-1]]
        moved = [h for _, _, h in self._perturbed(x, e, clean)]
        return {n: h - p for n, h, p in zip(names, clean.activities, moved, strict=False)}

    def _perturbed(self, x: Tensor, e: Tensor, clean: Pass) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The second pass, layer by layer."""
        moved = x + self.projected(e, x)
        if self.update == "time-local":
            return self.chain.walk(moved, clean.masks, again=True, weights=self._ahead(clean))
        entering = self.entering(e)
        first = None if entering is None or clean.first is None else clean.first + entering
        return self.chain.walk(moved, clean.masks, again=True, first=first)

    def _ahead(self, clean: Pass) -> Sequence[tuple[Tensor, Tensor | None]]:
        """The weights after the first, Hebbian half of the update; the last layer's are untouched."""
        ahead: list[tuple[Tensor, Tensor | None]] = []
        for layer, h, x in zip(self.layers[:-1], clean.activities, clean.inputs, strict=False):
            weight, bias = outer(layer, h * (self.local_rate / len(h)), x)
            ahead.append(
                (
                    layer.weight if weight is None else layer.weight - weight,
                    layer.bias if bias is None else layer.bias - bias,
                )
            )
        return [*ahead, (self.layers[-1].weight, self.layers[-1].bias)]
