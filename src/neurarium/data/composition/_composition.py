"""Random functions applied one after another: two hops, three, in parallel, or with an input that is used twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.data._arrays import Arrays
from neurarium.data._errors import DataError

LISTED = 4_000_000
"""Inputs up to which all are listed; of more, random ones are tried."""


@dataclass(frozen=True)
class CompositionSplit:
    """Examples of a task.

    Args:
        train: inputs [N, positions] and answers.
        tests: by which functions see arguments that training never showed them: "all seen" (a new combination of
            known parts), "unseen: f1", "unseen: f1 f2" ...
    """

    train: Arrays
    tests: Mapping[str, Arrays]


class CompositionTask:
    """Tokens 0 to n - 1, and random functions of them whose values are arguments of others.

    Args:
        n: tokens.
        hops: for each function the places of its arguments: below ``positions`` an input, from there on the value of
            an earlier function.
        positions: tokens of an input.
        seen: share of each function's domain that training draws from.
        same: one function in every place (they must have as many arguments).
        generator: of the functions.

    Raises:
        DataError: a number is out of its range, or hops name a place that is not there yet.
    """

    def __init__(
        self, n: int, hops: Sequence[Sequence[int]], positions: int, *, seen: float = 0.7, same: bool = False,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        if n < 2:
            raise DataError(f"n must be at least 2, not {n}")
        if not 0 < seen <= 1:
            raise DataError(f"seen must be above 0 and at most 1, not {seen}")
        if any(not 0 <= place < positions + i for i, hop in enumerate(hops) for place in hop):
            raise DataError("hops may only name inputs and the values of earlier functions")
        if same and len({len(hop) for hop in hops}) > 1:
            raise DataError("same needs functions of as many arguments")
        self.n, self.positions, self.seen = n, positions, seen
        self.hops = tuple(tuple(hop) for hop in hops)
        self.tables: list[Tensor] = []
        self.domains: list[Tensor] = []
        for hop in self.hops:
            if not (same and self.tables):
                table = torch.randint(n, (n ** len(hop),), generator=generator)
                domain = torch.zeros(len(table), dtype=torch.bool)
                domain[torch.randperm(len(table), generator=generator)[: round(seen * len(table))]] = True
            self.tables.append(table)
            self.domains.append(domain)

    def trace(self, x: Int[Tensor, "inputs positions"]) -> Int[Tensor, "inputs hops"]:
        """The values of all functions; the last is the answer, those before it are the bridges (a chain of thought)."""
        return self._run(x)[0]

    def answers(self, x: Int[Tensor, "inputs positions"]) -> Int[Tensor, " inputs"]:
        """The value of the last function."""
        return self.trace(x)[:, -1]

    def sample(self, count: int, generator: torch.Generator, tests: int = 2000) -> CompositionSplit:
        """Training inputs whose functions all see known arguments, without repeats, and tests of every kind.

        What counts as seen in the tests are the arguments that occur in the training inputs.

        Args:
            count: training inputs.
            generator: of the draws.
            tests: of each kind, at most.

        Raises:
            DataError: there are fewer such inputs.
        """
        pool = self._pool(max(8 * count, 50 * tests), generator)
        known = torch.stack([d[a] for d, a in zip(self.domains, self._run(pool)[1], strict=True)]).all(0)
        if int(known.sum()) < count:
            raise DataError(f"there are only {int(known.sum())} inputs of known parts, {count} are wanted")
        chosen = known.nonzero().flatten()[:count]  # the pool is in random order
        rest = torch.ones(len(pool), dtype=torch.bool)
        rest[chosen] = False
        train, others = pool[chosen], pool[rest]
        trace, arguments = self._run(others)
        familiar = []
        for table, now, used in zip(self.tables, arguments, self._run(train)[1], strict=True):
            occurs = torch.zeros(len(table), dtype=torch.bool)
            occurs[used] = True
            familiar.append(occurs[now])
        kinds = torch.stack(familiar, 1)
        found = {}
        for kind in kinds.unique(dim=0).flip(0):
            rows = (kinds == kind).all(1).nonzero().flatten()[:tests]
            unseen = " ".join(f"f{i + 1}" for i, known in enumerate(kind.tolist()) if not known)
            found[f"unseen: {unseen}" if unseen else "all seen"] = Arrays(others[rows], trace[rows, -1])
        return CompositionSplit(Arrays(train, self.answers(train)), found)

    def _run(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Values of all functions, and where in its table each looked."""
        values, arguments = list(x.unbind(1)), []
        for hop, table in zip(self.hops, self.tables, strict=True):
            at = torch.zeros_like(values[0])
            for place in hop:
                at = at * self.n + values[place]
            arguments.append(at)
            values.append(table.to(x.device)[at])
        return torch.stack(values[self.positions :], 1), arguments

    def _pool(self, wanted: int, generator: torch.Generator) -> Tensor:
        total = self.n**self.positions
        if total <= LISTED:
            numbers = torch.randperm(total, generator=generator)
        else:
            numbers = torch.randint(total, (min(wanted, LISTED),), generator=generator).unique()
            numbers = numbers[torch.randperm(len(numbers), generator=generator)]
        places = torch.tensor([self.n**i for i in range(self.positions)])
        return numbers[:, None] // places % self.n


def two_hop(n: int, generator: torch.Generator, *, seen: float = 0.7, same: bool = False) -> CompositionTask:
    """f2(f1(x1, x2), x3)."""
    return CompositionTask(n, [(0, 1), (3, 2)], 3, seen=seen, same=same, generator=generator)


def parallel_two_hop(n: int, generator: torch.Generator, *, seen: float = 0.7, same: bool = False) -> CompositionTask:
    """f3(f1(x1, x2), f2(x3, x4))."""
    return CompositionTask(n, [(0, 1), (2, 3), (4, 5)], 4, seen=seen, same=same, generator=generator)


def three_hop(n: int, generator: torch.Generator, *, seen: float = 0.7, same: bool = False) -> CompositionTask:
    """f3(f2(f1(x1, x2), x3), x4)."""
    return CompositionTask(n, [(0, 1), (4, 2), (5, 3)], 4, seen=seen, same=same, generator=generator)


def non_tree(n: int, generator: torch.Generator, *, seen: float = 0.7) -> CompositionTask:
    """f2(f1(x1, x2), x2, x3): x2 reaches the answer by two paths."""
    return CompositionTask(n, [(0, 1), (3, 1, 2)], 3, seen=seen, generator=generator)
