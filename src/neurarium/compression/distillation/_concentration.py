"""Knowledge concentration: one network for a large label set, taught by a specialist per group of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import softplus

from neurarium.data import LabelTree
from neurarium.training import JoinedBatches, call, evaluation, rows_of, training, unpack


@dataclass(frozen=True)
class SoftTargets:
    """The classes that a teacher thinks likeliest, and how likely; all others count as 0.

    Args:
        indices: of classes, [batch, kept].
        values: probabilities, [batch, kept]; 0 where a vertical has fewer classes than are kept.
    """

    indices: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: Tensor | slice) -> SoftTargets:
        return SoftTargets(self.indices[rows], self.values[rows])

    def dense(self, classes: int) -> Tensor:
        """[batch, classes]."""
        empty = torch.zeros(len(self.values), classes, device=self.values.device)
        return empty.scatter_add(1, self.indices.long(), self.values.float())


class KnowledgeConcentration:
    """Teaches a student over all classes from one teacher per vertical (Gao et al., 2017).

    The label of an example only chooses its teacher. Targets are the teacher's ``top_k`` probabilities within the
    vertical and 0 everywhere else; the loss is sigmoid cross-entropy over all classes, summed over classes. Targets are
    kept sparse, so a batch never needs a dense [batch, classes] array of them.

    Args:
        teachers: vertical -> module that gives logits of that vertical's classes; run in evaluation mode, and frozen:
            its parameters no longer require gradients.
        label_tree: the classes.
        top_k: probabilities kept.
        hard_weight: share of the true, multi-hot label in the targets' loss, in [0, 1].
        negatives: sample so many classes of other verticals per batch for the loss instead of all, weighted to
            the same expectation; for very large label sets.

    Raises:
        ValueError: a vertical without a teacher, or an argument out of range.
    """

    def __init__(
        self,
        teachers: Mapping[str, nn.Module],
        label_tree: LabelTree,
        *,
        top_k: int = 100,
        hard_weight: float = 0.0,
        negatives: int | None = None,
    ) -> None:
        missing = [name for name in label_tree.names if name not in teachers]
        if missing:
            raise ValueError(f"there is no teacher for vertical {missing[0]!r}")
        if top_k < 1 or not 0 <= hard_weight <= 1 or (negatives is not None and negatives < 1):
            given = f"{top_k}, {negatives} and {hard_weight}"
            raise ValueError(f"top_k and negatives must be at least 1 and hard_weight in [0, 1], not {given}")
        self.teachers = [teachers[name].requires_grad_(False) for name in label_tree.names]
        self.tree, self.top_k, self.hard_weight, self.negatives = label_tree, top_k, hard_weight, negatives

    @torch.no_grad()
    def targets(self, x: Tensor, y: Tensor) -> SoftTargets:
        """What the teachers say of a batch; one forward pass per vertical that occurs.

        Args:
            x: inputs.
            y: class indices [batch].

        Raises:
            ValueError: a teacher's output does not fit its vertical.
        """
        verticals, kept = self.tree.vertical(y), min(self.top_k, max(self.tree.sizes))
        indices = y.new_zeros(len(y), kept)
        values = torch.zeros(len(y), kept, device=x.device)
        for v in verticals.unique().tolist():
            rows = (verticals == v).nonzero().flatten()
            with evaluation(self.teachers[v]):
                logits = call(self.teachers[v], rows_of(x, rows))
            size, start = self.tree.sizes[v], self.tree.slices()[v].start
            if logits.shape != (len(rows), size):
                raise ValueError(
                    f"vertical {self.tree.names[v]!r} has {size} classes, its teacher returns {logits.shape[-1]}"
                )
            best = logits.sigmoid().topk(min(kept, size), dim=1)
            indices[rows, : best.indices.shape[1]] = best.indices + start
            values[rows, : best.values.shape[1]] = best.values.to(values)
        return SoftTargets(indices, values)

    def record(self, x: Tensor, y: Tensor, batch_size: int = 1024) -> SoftTargets:
        """``targets`` of a whole set, once, instead of a pass of the teachers per epoch.

        Takes six bytes per example and kept class: probabilities are rounded to half precision.
        """
        parts = [self.targets(a, b) for a, b in zip(x.split(batch_size), y.split(batch_size))]
        return SoftTargets(torch.cat([p.indices.int() for p in parts]), torch.cat([p.values.half() for p in parts]))

    def loss(self, logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The student's loss on a batch: sum over classes, mean over examples."""
        return self.loss_from(logits, self.targets(x, y), y)

    def loss_from(self, logits: Tensor, soft: SoftTargets, y: Tensor) -> Tensor:
        """The same with targets that were recorded.

        Raises:
            ValueError: logits of another number of classes.
        """
        if logits.shape != (len(y), len(self.tree)):
            raise ValueError(f"logits must be [{len(y)}, {len(self.tree)}], one per class, not {list(logits.shape)}")
        negative = self._negative_part(logits, y)
        agreement = (logits.gather(1, soft.indices.long()) * soft.values.to(logits.dtype)).sum()
        if self.hard_weight:
            true, counts = self.tree.lines(y)
            hard = (logits.gather(1, true) * counts).sum()
            agreement = (1 - self.hard_weight) * agreement + self.hard_weight * hard
        return (negative - agreement) / len(y)

    def _negative_part(self, logits: Tensor, y: Tensor) -> Tensor:
        """sum softplus(x) over all classes, or over the vertical's own and a sample of the others."""
        if self.negatives is None or self.negatives >= len(self.tree):
            return softplus(logits).sum()
        verticals, slices = self.tree.vertical(y), self.tree.slices()
        drawn = torch.randint(len(self.tree), (self.negatives,), device=y.device)
        elsewhere = self.tree.vertical(drawn) != verticals[:, None]
        total = (softplus(logits[:, drawn]) * elsewhere).sum() * (len(self.tree) / self.negatives)
        for v in verticals.unique().tolist():
            total = total + softplus(logits[verticals == v, slices[v]]).sum()
        return total

    def compress(
        self,
        student: nn.Module,
        loader: Iterable[Any],
        *,
        epochs: int = 5,
        learning_rate: float = 1e-3,
    ) -> nn.Module:
        """Train a student in place with Adam, and return it.

        Args:
            student: gives logits of all classes.
            loader: batches ``(x, class index)``.
            epochs: passes.
            learning_rate: Adam's.

        Raises:
            ValueError: no batches.
        """
        optimizer = torch.optim.Adam(student.parameters(), learning_rate)
        with training(student):
            for _ in range(epochs):
                batches = 0
                for x, y in map(unpack, JoinedBatches(loader)):
                    optimizer.zero_grad()
                    self.loss(call(student, x), x, y).backward()
                    optimizer.step()
                    batches += 1
                if not batches:
                    raise ValueError("loader gave no batches")
        return student


def vertical_precision(logits: Tensor, y: Tensor, label_tree: LabelTree) -> dict[str, float]:
    """Mean average precision of each vertical's classes over its own examples.

    Args:
        logits: [examples, classes].
        y: class indices [examples].
        label_tree: the classes; a class that contains another counts as present with it.

    Returns:
        By vertical; one of which there is no example is left out: nothing is known of it.
    """
    y, logits = y.cpu(), logits.detach().float().cpu()
    verticals, found = label_tree.vertical(y), {}
    for v, (name, part) in enumerate(zip(label_tree.names, label_tree.slices())):
        rows = verticals == v
        if not bool(rows.any()):
            continue
        score = logits[rows, part].numpy()
        truth = torch.zeros(score.shape).scatter_(1, label_tree.lines(y[rows])[0] - part.start, 1).numpy()
        present = [c for c in range(truth.shape[1]) if truth[:, c].any()]
        precisions = [float(average_precision_score(truth[:, c], score[:, c])) for c in present]
        found[name] = sum(precisions) / len(precisions)
    return found
