"""Majority vote and Dawid-Skene on tables of labels, without a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class DawidSkene:
    """What expectation maximisation found.

    Args:
        probabilities: of the classes of each item [items, classes].
        confusion: P(label | true class) of each annotator [annotators, classes, classes].
        prior: of the classes.
        log_likelihood: of all labels, after each iteration.
    """

    probabilities: Tensor
    confusion: Tensor
    prior: Tensor
    log_likelihood: tuple[float, ...]

    @property
    def labels(self) -> Int[Tensor, items]:
        """The most probable class of each item."""
        return self.probabilities.argmax(1)


def votes(
    items: Int[Tensor, given], labels: Int[Tensor, given], num_items: int, num_classes: int
) -> Float[Tensor, "items classes"]:
    """How often each item was given each label."""
    counts = torch.zeros(num_items * num_classes, dtype=torch.float64, device=items.device)
    counts.index_add_(0, items.long() * num_classes + labels.long(), torch.ones_like(labels, dtype=torch.float64))
    return counts.view(num_items, num_classes)


def majority_vote(
    items: Int[Tensor, given],
    labels: Int[Tensor, given],
    num_items: int,
    num_classes: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, items]:
    """The label that each item was given most often; ties are drawn; -1 where nobody gave one.

    Args:
        items: which item each label is of.
        labels: what was said.
        num_items: of all items.
        num_classes: C.
        generator: of the ties, on the CPU.
    """
    counts = votes(items, labels, num_items, num_classes)
    ties = torch.rand(counts.shape, generator=generator).to(counts.device)
    return torch.where(counts.sum(1) > 0, (counts + 0.5 * ties).argmax(1), -1)


def dawid_skene(
    items: Int[Tensor, given],
    annotators: Int[Tensor, given],
    labels: Int[Tensor, given],
    num_items: int,
    num_annotators: int,
    num_classes: int,
    *,
    iterations: int = 100,
    tolerance: float = 1e-6,
    smoothing: float = 0.01,
) -> DawidSkene:
    """A confusion matrix per annotator and a class per item by expectation maximisation (Dawid and Skene, 1979).

    Starts from the shares of votes. A million labels take seconds: each step is two sums over the table.

    Args:
        items: which item each label is of.
        annotators: whose it is.
        labels: what was said.
        num_items: of all items; those without labels get the prior.
        num_annotators: of all annotators.
        num_classes: C.
        iterations: at most.
        tolerance: relative gain of the log-likelihood at which to stop.
        smoothing: added to each count of the matrices.

    Raises:
        ValueError: no labels, or indices out of range.
    """
    if not len(labels):
        raise ValueError("labels must hold at least one label")
    for name, part, end in (
        ("items", items, num_items),
        ("annotators", annotators, num_annotators),
        ("labels", labels, num_classes),
    ):
        if int(part.min()) < 0 or int(part.max()) >= end:
            raise ValueError(f"{name} must be from 0 to {end - 1}, not {int(part.min())} to {int(part.max())}")
    items, annotators, labels = items.long(), annotators.long(), labels.long()
    said = annotators * num_classes + labels
    share = votes(items, labels, num_items, num_classes)
    labelled = share.sum(1) > 0
    share = share / share.sum(1, keepdim=True).clamp_min(1)
    history: list[float] = []
    for _ in range(max(1, iterations)):
        prior = share[labelled].sum(0) + smoothing
        prior = prior / prior.sum()
        counts = torch.full(
            (num_annotators * num_classes, num_classes), smoothing, dtype=share.dtype, device=share.device
        )
        counts.index_add_(0, said, share[items])  # [annotator, label, true class]
        matrix = counts.view(num_annotators, num_classes, num_classes)
        matrix = (matrix / matrix.sum(1, keepdim=True)).log()
        joint = prior.log().repeat(num_items, 1).index_add_(0, items, matrix.flatten(0, 1)[said])
        total = torch.logsumexp(joint, 1)
        share = (joint - total[:, None]).exp()
        history.append(float(total[labelled].sum()))
        if len(history) > 1 and history[-1] - history[-2] <= tolerance * abs(history[-1]):
            break
    return DawidSkene(share, matrix.mT.exp(), prior, tuple(history))
