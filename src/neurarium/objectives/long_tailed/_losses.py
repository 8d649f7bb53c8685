"""Cross-entropies for long tails: margins by class size, shifted logits, weights that set in late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Counts = Sequence[int] | Tensor
PerExample = Callable[[Tensor, Tensor], Tensor]


class LDAM(nn.Module):
    """Label-distribution-aware margins (Cao et al., 2019): the rarer the class, the larger the margin it must win by.

    Cross-entropy of ``scale`` (cos - margin at the target), where margin_k = ``max_margin`` (n_min / n_k)^(1/4).

    Args:
        class_counts: training examples of each class.
        max_margin: of the rarest class, in cosine.
        scale: on the cosines, before the softmax.
        weight: per class, as in `torch.nn.CrossEntropyLoss`.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: a class without examples.
    """

    margins: Tensor
    weight: Tensor | None

    def __init__(
        self,
        class_counts: Counts,
        max_margin: float = 0.5,
        scale: float = 30.0,
        weight: Tensor | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        counts = positive_counts(class_counts)
        self.scale, self.reduction = scale, reduction
        self.register_buffer("margins", (max_margin * (counts.min() / counts) ** 0.25).float())
        self.register_buffer("weight", weight)

    def forward(self, logits: Float[Tensor, "batch classes"], target: Int[Tensor, batch]) -> Tensor:
        """The loss.

        Args:
            logits: cosines between features and class vectors, as `NormalizedLinear` gives them.
            target: class of each example.
        """
        y = target.long()
        less = torch.zeros_like(logits).scatter(1, y[:, None], self.margins.to(logits.dtype)[y][:, None])
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        return cross_entropy(self.scale * (logits - less), y, weight, reduction=self.reduction)


class LogitAdjustment(nn.Module):
    """Cross-entropy of logits + tau log prior (Menon et al., 2021): predict with the bare logits.

    Args:
        class_counts: training examples of each class; the prior is their share.
        tau: strength of the shift.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: a class without examples.
    """

    shift: Tensor

    def __init__(self, class_counts: Counts, tau: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        counts = positive_counts(class_counts)
        self.reduction = reduction
        self.register_buffer("shift", (tau * (counts / counts.sum()).log()).float())

    def forward(self, logits: Float[Tensor, "batch classes"], target: Int[Tensor, batch]) -> Tensor:
        """The loss."""
        return cross_entropy(logits + self.shift.to(logits.dtype), target.long(), reduction=self.reduction)


class DeferredReweighting(nn.Module):
    """Any loss, plain at first, with classes weighted by `class_balanced_weights` after ``start`` training batches.

    Cao et al. (2019) switch the weights on when features have been learned. Batches are counted in training mode, and
    the count is part of the state.

    Args:
        class_counts: training examples of each class.
        start: batches before the weights set in.
        loss: ``loss(logits, target) -> [batch]``, one value per example (``reduction="none"``); cross-entropy by
            default.
        beta: of the weights.

    Raises:
        ValueError: a class without examples, or a negative start.
    """

    weight: Tensor
    batches: Tensor

    def __init__(self, class_counts: Counts, start: int, loss: PerExample | None = None, beta: float = 0.9999) -> None:
        super().__init__()
        if start < 0:
            raise ValueError(f"start must not be negative, not {start}")
        self.start = start
        self.loss = nn.CrossEntropyLoss(reduction="none") if loss is None else loss
        self.register_buffer("weight", class_balanced_weights(class_counts, beta))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self._seen = 0  # the count on the host, so that no step waits for a device

    def forward(self, logits: Float[Tensor, "batch classes"], target: Int[Tensor, batch]) -> Float[Tensor, ""]:
        """Mean of the losses, weighted once the start is over.

        Raises:
            ValueError: the loss does not give one value per example.
        """
        y = target.long()
        each = self.loss(logits, y)
        if each.shape != y.shape:
            raise ValueError('loss must give one value per example: build it with reduction="none"')
        late = self._seen >= self.start
        if self.training:
            self._seen += 1
            self.batches += 1
        if not late:
            return each.mean()
        weight = self.weight.to(each.dtype)[y]
        return (weight * each).sum() / weight.sum()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._seen = int(self.batches)


def class_balanced_weights(class_counts: Counts, beta: float = 0.9999) -> Float[Tensor, classes]:
    """(1 - beta) / (1 - beta^n_k), the inverse of the effective number of examples, with a mean of 1 over classes.

    Args:
        class_counts: training examples of each class.
        beta: 0 weighs all classes alike; towards 1 the weights go to 1/n_k.

    Raises:
        ValueError: a class without examples, or a beta outside 0 to 1.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, not {beta}")
    counts = positive_counts(class_counts)
    weight = (1 - beta) / (1 - beta**counts)
    return (weight / weight.mean()).float()


def positive_counts(class_counts: Counts) -> Tensor:
    """Counts as float64, or a `ValueError`."""
    counts = torch.as_tensor(class_counts).detach().cpu().double()
    if counts.dim() != 1 or not len(counts) or not bool((counts >= 1).all()):
        raise ValueError(f"class_counts must be a list of positive numbers, one per class, not {class_counts!r}")
    return counts
