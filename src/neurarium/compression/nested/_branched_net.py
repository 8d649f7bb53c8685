"""SortedNet members with something of their own: an output head each, or a part of the batch each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neurarium.compression.nested._sorted_net import SortedNet, SubNetwork
from neurarium.learning._rule import Loss


class BranchedNet(SortedNet):
    """A `SortedNet` whose members share less: with ``heads``, the early-exit baseline with one head per exit.

    With neither option it is `SortedNet`, bit for bit.

    Args:
        model: as in `SortedNet`.
        example: as in `SortedNet`.
        widths: as in `SortedNet`.
        heads: name of the output layer that every member gets a copy of, in its own size; "" shares it. The whole
            model keeps the layer itself. The copies are parameters of this module, not of the model: give
            ``net.parameters()`` to the optimizer.
        same_batch: False deals the batch out, so that each drawn member gets a part of its own; for parts of the size
            as before, make batches ``per_step`` times as large.
        options: of `SortedNet`.

    Raises:
        ValueError: as `SortedNet`; the model has no layer of that name, or it makes no sense without ``ordered``.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        *,
        heads: str = "",
        same_batch: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(model, example, widths, **options)
        self.heads, self.same_batch = heads, same_batch
        self.own = nn.ModuleList()
        if not heads:
            return
        if heads not in dict(model.named_modules()):
            raise ValueError(f"heads must name a layer of the model, and it has no {heads!r}")
        if blocks_own(self.blocks, heads):
            raise ValueError(f"heads names {heads!r}, which is one of the blocks that shallow members leave out")
        if not self.ordered:
            raise ValueError("heads cannot follow random sets of units: leave ordered=True, or share the head")
        self.own.extend(super(BranchedNet, self).extract(sub).get_submodule(heads) for sub in self.family[:-1])

    def head(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> nn.Module:
        """The output layer of a member.

        Raises:
            ValueError: no such member, or no heads.
        """
        if not self.heads:
            raise ValueError("all members share one output layer; give heads its name to part them")
        sub = self.member(width, depth)
        return self.model.get_submodule(self.heads) if sub == self.full else self.own[self.family.index(sub)]

    @contextmanager
    def at(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> Iterator[nn.Module]:
        """As in `SortedNet`, with the member's head."""
        sub = self.member(width, depth)
        with super().at(sub), self._headed(sub):
            yield self.model

    def extract(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> nn.Module:
        """As in `SortedNet`, with the member's head."""
        sub = self.member(width, depth)
        small = super().extract(sub)
        if self.heads and sub != self.full:
            small.set_submodule(self.heads, copy.deepcopy(self.head(sub)))
        return small

    def loss(self, x: Any, y: Tensor, criterion: Loss) -> Tensor:
        """Add the mean gradient of the drawn members, each on its part of the batch; returns their mean loss.

        If there are fewer examples than drawn members, the last members of the draw are left out.
        """
        if self.same_batch:
            return super().loss(x, y, criterion)
        drawn = self.sample()[: len(y)]
        parts = torch.arange(len(y), device=y.device).tensor_split(len(drawn))
        total = torch.zeros((), device=y.device)
        for sub, rows in zip(drawn, parts):
            own = tuple(part[rows] for part in x) if isinstance(x, tuple) else x[rows]
            with self._trained(sub):
                loss = criterion(self(own), y[rows]) / len(drawn)
                loss.backward()
            total += loss.detach()
        return total

    @contextmanager
    def _trained(self, sub: SubNetwork) -> Iterator[None]:
        with super()._trained(sub), self._headed(sub):
            yield

    @contextmanager
    def _headed(self, sub: SubNetwork) -> Iterator[None]:
        """The model ends in the member's head for as long as the block lasts."""
        if not self.heads or sub == self.full:
            yield
            return
        owner, _, key = self.heads.rpartition(".")
        table = self.model.get_submodule(owner)._modules
        shared = table[key]
        table[key] = self.head(sub)
        try:
            yield
        finally:
            table[key] = shared


def blocks_own(blocks: str, layer: str) -> bool:
    """Whether a layer lies within the list of blocks."""
    return bool(blocks) and (layer == blocks or layer.startswith(f"{blocks}."))
