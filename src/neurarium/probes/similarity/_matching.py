"""Which unit of one network is which unit of another: by assignment, each its own partner, or the best for each."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from neurarium.probes._result import ProbeResult
from neurarium.probes.similarity._correlation_table import CorrelationTable

Kind = Literal["one-to-one", "greedy"]
KINDS: tuple[Kind, ...] = typing.get_args(Kind)


@dataclass(frozen=True)
class Matching(ProbeResult):
    """Partners.

    Args:
        pairs: unit of a, unit of b.
        correlations: of each pair.
        unmatched_a: units of a without a partner: dead ones, and those left over where b is narrower.
        unmatched_b: units of b that are nobody's partner.
        kind: how they were found.
    """

    pairs: Int[Tensor, "pairs 2"]
    correlations: Float[Tensor, " pairs"]
    unmatched_a: tuple[int, ...]
    unmatched_b: tuple[int, ...]
    kind: str

    @property
    def permutation(self) -> Int[Tensor, " units"]:
        """Partner in b of each unit of a: new unit i of the reordered b is old unit ``permutation[i]``.

        Raises:
            ValueError: some units have no partner of their own.
        """
        if self.unmatched_a or self.unmatched_b or self.kind != "one-to-one":
            raise ValueError(
                "only a one-to-one matching of two equally wide layers without dead units is a permutation"
            )
        return self.pairs[self.pairs[:, 0].argsort(), 1]

    def returning(self, *others: Matching) -> float:
        """Share of a's units that come back to themselves when these matchings are followed one after the other.

        Args:
            others: b to c, c to d, ... back to a.
        """
        walk = {unit: unit for unit in self.pairs[:, 0].tolist()}
        for matching in (self, *others):
            step = dict(matching.pairs.tolist())
            walk = {unit: step[at] for unit, at in walk.items() if at in step}
        return sum(unit == end for unit, end in walk.items()) / len(self.pairs)

    def summary(self) -> str:
        """One sentence."""
        q = torch.tensor([0.1, 0.5, 0.9], dtype=self.correlations.dtype, device=self.correlations.device)
        low, middle, high = self.correlations.quantile(q).tolist()
        return (
            f"{len(self.pairs)} pairs ({self.kind}), correlation {float(self.correlations.mean()):.2f} on average, "
            f"10 % / median / 90 %: {low:.2f} / {middle:.2f} / {high:.2f}; "
            f"without partner: {len(self.unmatched_a)} of a, {len(self.unmatched_b)} of b"
        )

    def plot(self, ax: Any) -> Any:
        """Correlations of the pairs, sorted."""
        found = self.correlations.sort(descending=True).values.cpu()
        ax.fill_between(range(len(found)), found, alpha=0.25)
        ax.plot(range(len(found)), found, label=self.kind)
        ax.set(xlabel="pairs, best first", ylabel="correlation", xlim=(0, max(len(found) - 1, 1)))
        ax.legend()
        return ax


def match_units(table: CorrelationTable, kind: Kind = "one-to-one") -> Matching:
    """Find each unit's partner in the other network (Li et al., 2015, section 3).

    Args:
        table: correlations; of any shape.
        kind: "one-to-one": the assignment with the largest sum of correlations (bipartite matching); "greedy": for
            every unit of a its best partner, who may be taken by several (semi-matching). Where the second is clearly
            higher, units compete for one partner.

    Raises:
        ValueError: unknown kind, or no live unit on one side.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be 'one-to-one' or 'greedy', not {kind!r}")
    live_a, live_b = (
        torch.tensor(sorted(set(range(size)) - set(dead)), dtype=torch.long, device=table.matrix.device)
        for size, dead in zip(table.matrix.shape, (table.dead_a, table.dead_b))
    )
    if not len(live_a) or not len(live_b):
        raise ValueError("all units of one side are dead; there is nothing to match")
    live = table.matrix[live_a][:, live_b]
    if kind == "greedy":
        correlations, columns = live.max(1)
        rows = torch.arange(len(live), device=live.device)
    else:
        found = linear_sum_assignment(live.cpu().numpy(), maximize=True)
        rows, columns = (torch.as_tensor(index, device=live.device) for index in found)
        correlations = live[rows, columns]
    pairs = torch.stack([live_a[rows], live_b[columns]], 1)
    left_a, left_b = (
        tuple(sorted(set(range(size)) - set(pairs[:, side].tolist()))) for side, size in enumerate(table.matrix.shape)
    )
    return Matching(pairs, correlations, left_a, left_b, kind)
