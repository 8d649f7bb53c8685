"""Several supervisions of one network, each on its own level of a stack of projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class SupervisionLevel(nn.Module):
    """One kind of supervision and the representation on which it acts.

    Args:
        projector: makes this level's representation of the one below (of the features, for the first level).
        loss: ``loss(output, target) -> scalar``; the target is whatever this supervision knows of the examples:
            labels, or the keys of other views.
        head: makes the loss's input of the representation; the identity by default.
        weight: of the loss in the sum.
    """

    def __init__(
        self,
        projector: nn.Module,
        loss: Callable[[Tensor, Any], Tensor],
        head: nn.Module | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.projector, self.loss, self.weight = projector, loss, weight
        self.head = nn.Identity() if head is None else head

    def forward(self, below: Float[Tensor, "batch below"]) -> tuple[Tensor, Tensor]:
        """The representation of this level, and what its loss is to be given."""
        representation = self.projector(below)
        return representation, self.head(representation)


class HierarchicalSupervision(nn.Module):
    """Levels of supervision on top of each other (Wang et al., 2023, section 3.3).

    Supervisions that contradict each other, "all images differ" and "images of one class are alike", say, do not pull
    on one vector: the upper one reaches the lower one's representation only through its own projector, which can absorb
    what would undo it. The order is from fine to coarse.

    Args:
        levels: from the lowest to the highest.

    Raises:
        ValueError: no level.
    """

    def __init__(self, levels: Sequence[SupervisionLevel]) -> None:
        super().__init__()
        if not levels:
            raise ValueError("levels must hold at least one SupervisionLevel")
        self.levels = nn.ModuleList(levels)

    @property
    def stack(self) -> list[SupervisionLevel]:
        """The levels, from the lowest."""
        return [level for level in self.levels if isinstance(level, SupervisionLevel)]

    def represent(self, below: Float[Tensor, "batch features"]) -> tuple[list[Tensor], list[Tensor]]:
        """Representations of all levels, and what their losses are to be given."""
        representations, outputs = [], []
        for level in self.stack:
            below, output = level(below)
            representations.append(below)
            outputs.append(output)
        return representations, outputs

    def losses(self, outputs: Sequence[Tensor], targets: Sequence[Any]) -> list[Float[Tensor, ""]]:
        """The loss of each level, unweighted.

        Args:
            outputs: of `represent`.
            targets: one per level.

        Raises:
            ValueError: another number of targets than levels.
        """
        if len(targets) != len(self.levels):
            raise ValueError(f"targets must be one per level, {len(self.levels)}, not {len(targets)}")
        return [level.loss(o, t) for level, o, t in zip(self.stack, outputs, targets, strict=True)]

    def forward(self, below: Float[Tensor, "batch features"], targets: Sequence[Any]) -> Float[Tensor, ""]:
        """Weighted sum of the losses of all levels.

        Args:
            below: features of the examples.
            targets: what each level knows of them.
        """
        found = self.losses(self.represent(below)[1], targets)
        return torch.stack([level.weight * loss for level, loss in zip(self.stack, found, strict=True)]).sum()


def labelled_cross_entropy(logits: Float[Tensor, "batch classes"], target: Int[Tensor, batch]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the examples whose label is known; -1 stands for one that is not. 0 where none is."""
    target = target.long()
    return cross_entropy(logits, target, ignore_index=-1, reduction="sum") / (target >= 0).sum().clamp_min(1)
