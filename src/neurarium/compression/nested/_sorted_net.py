"""SortedNet: one set of weights in which the first units and the first blocks are networks too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neurarium.compression._account import account
from neurarium.learning._rule import Loss
from neurarium.models import extract, sliced, trace_architecture
from neurarium.training import buffer_key, evaluate, evaluation, unpack


class SubNetwork(NamedTuple):
    """A member of the family.

    Args:
        width: share of the units of every group that are kept, the first ones.
        depth: number of blocks that are kept, the first ones; None where depth is not a dimension of the family.
    """

    width: float
    depth: int | None = None


@dataclass(frozen=True)
class Budget:
    """What a sub-network costs and reaches: a row of `SortedNet.table`."""

    sub: SubNetwork
    parameters: int
    flops: int
    accuracy: float


class SortedNet(nn.Module):
    """Trains all sub-networks of a family at once, as truncations of one model (Valipour et al., 2023).

    At each step some members are drawn, each does its own forward and backward pass on the batch, and the gradients are
    averaged: min over θ of E_b E_(x,y) L(f(x; θ↓b), y). Sub-networks are views: nothing is copied or stored twice.
    Used as a learning rule: ``assign_credit`` fills ``.grad``, any optimizer follows.

    Args:
        model: any module whose forward runs on ``example``.
        example: an input, for tracing which units belong together and for counting operations.
        widths: shares of the units; 1 must be among them.
        depths: numbers of blocks; needs ``blocks``. The family is the product of widths and depths.
        blocks: name of the `nn.ModuleList` or `nn.Sequential` whose first modules are kept.
        keep: names of layers whose outputs are never cut.
        probabilities: of drawing each member, in the order of ``family``; uniform by default. For a large family give
            the whole model more than its share.
        per_step: members drawn per step, with replacement; 0 visits all of them.
        norm: what batch normalisation does in small members, whose statistics differ: "switch" keeps running
            statistics for each; "recalibrate" keeps them for the whole model only, and `recalibrate` makes those of a
            member from data.
        ordered: False trains random sets of units instead of the first ones, a control that sorts nothing.
        generator: source of the draws.

    Raises:
        ValueError: an argument out of range; a width that leaves a layer nothing; a depth at which the blocks change
            shape; layers that cannot be cut consistently.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any,
        widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        *,
        depths: Sequence[int] | None = None,
        blocks: str = "",
        keep: Sequence[str] = (),
        probabilities: Sequence[float] | None = None,
        per_step: int = 2,
        norm: str = "switch",
        ordered: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not widths or max(widths) != 1 or min(widths) <= 0:
            raise ValueError(f"widths must lie in (0, 1] and contain 1, not {tuple(widths)}")
        if norm not in ("switch", "recalibrate"):
            raise ValueError(f"norm must be switch or recalibrate, not {norm!r}")
        if per_step < 0:
            raise ValueError(f"per_step must not be negative, not {per_step}")
        self.model, self.example, self.blocks, self.per_step = model, example, blocks, per_step
        self.ordered, self.generator = ordered, generator
        self.architecture = trace_architecture(model, example, keep) if set(widths) != {1} else None
        if depths is not None:
            check_depths(model, example, blocks, depths)
        levels: list[int | None] = [None] if depths is None else [*sorted(set(depths))]
        self.family = [SubNetwork(width, depth) for depth in levels for width in sorted(set(widths))]
        self.full = self.family[-1]
        self.units = {
            w: self.architecture.counts(w) if self.architecture is not None and w < 1 else {} for w in set(widths)
        }
        chances = torch.ones(len(self.family)) if probabilities is None else torch.tensor(probabilities).float()
        if chances.shape != (len(self.family),) or bool((chances < 0).any()) or not float(chances.sum()) > 0:
            raise ValueError(f"probabilities must be {len(self.family)} numbers, one per member, none negative")
        self.chances = chances / chances.sum()
        self.norm = norm
        self._with_statistics: set[SubNetwork] = set()
        self._running = [name for name, _ in model.named_buffers() if self._is_statistic(name)]
        if norm == "switch":
            for sub in self.family[:-1]:
                self._own_statistics(sub)

    def forward(self, x: Any) -> Any:
        """The whole model's output; within `at`, the member's."""
        return self.model(*x) if isinstance(x, tuple) else self.model(x)

    def sample(self) -> list[SubNetwork]:
        """The members that a step trains."""
        if self.per_step == 0:
            return list(self.family)
        drawn = torch.multinomial(self.chances, self.per_step, replacement=True, generator=self.generator)
        return [self.family[i] for i in drawn.tolist()]

    @contextmanager
    def at(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> Iterator[nn.Module]:
        """The model as a member of the family, for as long as the block lasts.

        Raises:
            ValueError: no such member.
        """
        sub = self.member(width, depth)
        with sliced(self.model, self.architecture, self._units(sub), **self._rest(sub)):
            yield self.model

    def member(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> SubNetwork:
        """The member of that width and depth; the deepest by default.

        Raises:
            ValueError: no such member.
        """
        sub = width if isinstance(width, SubNetwork) else SubNetwork(width, self.full.depth if depth is None else depth)
        if sub not in self.family:
            raise ValueError(f"the family has no member {tuple(sub)}; it has {[tuple(s) for s in self.family]}")
        return sub

    def assign_credit(self, x: Any, y: Tensor) -> Tensor:
        """Add the mean gradient of the drawn members on the batch; returns their mean loss, detached."""
        return self.loss(x, y, nn.functional.cross_entropy)

    def loss(self, x: Any, y: Tensor, criterion: Loss) -> Tensor:
        """As `assign_credit`, with a loss of your own: ``criterion(output, y) -> scalar``."""
        drawn = self.sample()
        total = torch.zeros((), device=y.device)
        for sub in drawn:
            with self._trained(sub):
                loss = criterion(self(x), y) / len(drawn)
                loss.backward()  # inside: a backward pass may run parts of the forward again
            total += loss.detach()
        return total

    @torch.no_grad()
    def recalibrate(self, loader: Iterable[Any], *subs: SubNetwork) -> None:
        """One pass over the loader per member makes its running statistics anew, as averages over the batches.

        Args:
            loader: batches ``(x, y)``; the targets are not used.
            subs: members; all but the whole model by default.
        """
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        momenta = [m.momentum for m in norms]
        with evaluation(self.model):
            try:
                for norm in norms:
                    norm.train()
                    norm.momentum = None  # a plain average
                for sub in subs or self.family[:-1]:
                    self._own_statistics(sub)
                    with self.at(sub):
                        for x, _ in map(unpack, loader):
                            self(x)
            finally:
                for norm, momentum in zip(norms, momenta):
                    norm.momentum = momentum

    def extract(self, width: float | SubNetwork = 1.0, depth: int | None = None) -> nn.Module:
        """A member as an ordinary module with weights of its own."""
        sub = self.member(width, depth)
        return extract(self.model, self.architecture, self._units(sub), **self._rest(sub))

    def table(self, loader: Iterable[Any]) -> list[Budget]:
        """Parameters, FLOPs of one pass on the example and accuracy on a loader, of every member."""
        rows = []
        for sub in self.family:
            cost = account(self.extract(sub), self.example)
            with self.at(sub):
                rows.append(Budget(sub, cost.parameters, cost.flops, evaluate(self.model, loader)))
        return rows

    def _units(self, sub: SubNetwork) -> dict[int, int | Tensor]:
        return dict(self.units[sub.width])

    def _rest(self, sub: SubNetwork) -> dict[str, Any]:
        depth = None if sub.depth == self.full.depth else sub.depth
        return {"blocks": self.blocks, "depth": depth, "buffers": self._statistics_of(sub)}

    @property
    def statistics(self) -> dict[SubNetwork, dict[str, Tensor]]:
        """Running statistics of the members that have some of their own: buffers of this module, wherever it is."""
        return {sub: self._statistics_of(sub) or {} for sub in self._with_statistics}

    def _statistics_of(self, sub: SubNetwork) -> dict[str, Tensor] | None:
        if sub not in self._with_statistics:
            return None
        return {name: self.get_buffer(_key(name, sub)) for name in self._running}

    @contextmanager
    def _trained(self, sub: SubNetwork) -> Iterator[None]:
        """As `at`, in training: random units for the control, and no trace left in the whole model's statistics."""
        units, rest = self._units(sub), self._rest(sub)
        if not self.ordered and self.architecture is not None:
            for index, kept in self.units[sub.width].items():
                group = self.architecture.groups[index]
                heads = torch.randperm(group.size // group.multiple, generator=self.generator)[: kept // group.multiple]
                units[index] = (heads[:, None] * group.multiple + torch.arange(group.multiple)).flatten()
        if sub != self.full and rest["buffers"] is None and self.model.training and self._running:
            rest["buffers"] = self._fresh(sub)
        with sliced(self.model, self.architecture, units, **rest):
            yield

    def _is_statistic(self, name: str) -> bool:
        owner = self.model.get_submodule(name.rpartition(".")[0])
        return isinstance(owner, nn.modules.batchnorm._BatchNorm)

    def _fresh(self, sub: SubNetwork) -> dict[str, Tensor]:
        """Running statistics of a member's size: mean 0, variance 1, nothing counted."""
        with sliced(self.model, self.architecture, self._units(sub)):
            tensors = {name: self.model.get_buffer(name) for name in self._running}
            return {
                n: torch.ones_like(t) if n.endswith("running_var") else torch.zeros_like(t) for n, t in tensors.items()
            }

    def _own_statistics(self, sub: SubNetwork) -> None:
        for name, tensor in self._fresh(sub).items():
            self.register_buffer(_key(name, sub), tensor)
        self._with_statistics.add(sub)


def _key(name: str, sub: SubNetwork) -> str:
    return buffer_key(f"{name}@{sub.width:g},{sub.depth}")


def select(table: Sequence[Budget], *, max_flops: float | None = None, max_parameters: float | None = None) -> Budget:
    """The most accurate member within a budget.

    Raises:
        ValueError: nothing fits.
    """
    limits = [(lambda row: row.flops, max_flops), (lambda row: row.parameters, max_parameters)]
    fitting = [row for row in table if all(limit is None or cost(row) <= limit for cost, limit in limits)]
    if not fitting:
        least = min(table, key=lambda row: row.parameters)
        raise ValueError(f"the smallest member has {least.parameters:,} parameters and {least.flops:,} FLOPs")
    return max(fitting, key=lambda row: row.accuracy)


def check_depths(model: nn.Module, example: Any, blocks: str, depths: Sequence[int]) -> None:
    """Whether the model may stop after so many blocks.

    Raises:
        ValueError: no such list of blocks, a depth that it does not have, or blocks left out that change the shape.
    """
    lists = {n: m for n, m in model.named_modules() if isinstance(m, (nn.ModuleList, nn.Sequential)) and n}
    if blocks not in lists:
        raise ValueError(f"blocks must name a ModuleList or Sequential ({', '.join(lists)}), not {blocks!r}")
    chain = list(lists[blocks])
    if not depths or min(depths) < 1 or max(depths) != len(chain):
        raise ValueError(f"depths must be between 1 and {len(chain)}, the whole of {blocks}, and contain it: {depths}")
    shapes: list[Any] = []
    handles = [m.register_forward_hook(lambda m, i, o: shapes.append(getattr(o, "shape", type(o)))) for m in chain]
    with evaluation(model):
        try:
            with torch.no_grad():
                model(*example) if isinstance(example, tuple) else model(example)
        finally:
            for handle in handles:
                handle.remove()
    least = next(k for k in range(len(shapes), 0, -1) if k == 1 or shapes[k - 2] != shapes[-1])
    if min(depths) < least:
        raise ValueError(f"{blocks}.{least - 1} changes the shape, so only the blocks behind it can be skipped")
