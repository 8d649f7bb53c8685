"""Universally slimmable training: the baseline that SortedNet is measured against."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import kl_div

from neurarium.compression.nested._sorted_net import SortedNet, SubNetwork
from neurarium.learning._rule import Loss


class SlimmableNet(SortedNet):
    """The same family, trained by the sandwich rule with in-place distillation (Yu & Huang, 2019).

    Each step trains the whole model on the labels, and the smallest member and ``per_step - 2`` random ones on the
    whole model's probabilities for the batch. Takes the arguments of `SortedNet`; ``per_step`` 4 is the authors'.
    """

    def loss(self, x: Any, y: Tensor, criterion: Loss) -> Tensor:
        """Add the mean gradient; returns the whole model's loss, detached."""
        output = self(x)
        whole = criterion(output, y)
        drawn = [self.family[0], *self.sample()[2:]]
        (whole / (1 + len(drawn))).backward()
        wanted = output.detach().softmax(-1)
        for sub in drawn:
            with self._trained(sub):
                student = kl_div(self(x).log_softmax(-1), wanted, reduction="batchmean") / (1 + len(drawn))
                student.backward()
        return whole.detach()

    def sample(self) -> list[SubNetwork]:
        """Largest, smallest, and random members between."""
        return [self.full, self.family[0], *super().sample()[: max(self.per_step - 2, 0)]]
