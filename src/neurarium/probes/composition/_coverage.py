"""Which test items can be reached from training items by swapping parts that were seen to behave alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from torch import Tensor

from neurarium.probes._result import ProbeResult

Classes = Callable[[Tensor], Tensor]
"""Fragments [count, positions of the subset] to the numbers of their true classes."""


class Swap(NamedTuple):
    """A step of an explanation.

    Args:
        positions: where the two inputs differ.
        before: the input.
        after: the input with another fragment at these positions, and the same target.
    """

    positions: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class _Subset:
    """One choice of positions: each input's fragment there, what is left of it, and pairs of fragments that agree."""

    positions: tuple[int, ...]
    fragment: ndarray
    rest: ndarray
    rows: ndarray
    first: ndarray
    second: ndarray
    evidence: ndarray

    def classes(self, least: int) -> ndarray:
        """A class for each fragment: those joined by pairs of at least so much evidence."""
        size, used = len(self.rows), self.evidence >= least
        joined = coo_matrix((np.ones(used.sum()), (self.first[used], self.second[used])), shape=(size, size))
        return connected_components(joined, directed=False)[1]


@dataclass(frozen=True)
class Coverage(ProbeResult):
    """How much evidence stands behind each test item.

    Args:
        levels: the largest number of shared contexts at which a test item is still reachable; 0 where it never is.
        evidence: the largest that was tried.
        merged: by subset of positions, pairs of fragments that at least one context shows to be alike and none unlike.
    """

    levels: Int[Tensor, " tests"]
    evidence: int
    merged: Mapping[tuple[int, ...], int]
    _inputs: ndarray = field(repr=False)
    _targets: ndarray = field(repr=False)
    _training: ndarray = field(repr=False)
    _tests: ndarray = field(repr=False)
    _subsets: tuple[_Subset, ...] = field(repr=False)

    def covered(self, evidence: int = 1) -> Tensor:
        """Whether each test item is reachable by swaps that each rest on so many shared contexts."""
        return self.levels >= evidence

    def explain(self, index: int) -> list[Swap]:
        """The swaps that lead from a training item to a test item, at the test item's own level of evidence.

        Args:
            index: of the test item.

        Raises:
            ValueError: it is not covered.
        """
        level = int(self.levels[index])
        if not level:
            raise ValueError(f"test item {index} is not covered: no chain of swaps leads to it")
        graph, groups = _graph(self._subsets, self._targets, level)
        order, parents = breadth_first_order(graph, int(self._tests[index]), directed=False)
        node = next(i for i in order if i < len(self._inputs) and self._training[i])
        chain = []
        while parents[node] >= 0:
            group = int(parents[node])
            after = int(parents[group])
            words = [tuple(int(v) for v in self._inputs[i]) for i in (node, after)]
            chain.append(Swap(groups(group), words[0], words[1]))
            node = after
        return chain

    def false_merges(self, positions: Sequence[int], truth: Classes, evidence: int = 1) -> float:
        """Share of the pairs of fragments held to be alike whose true classes differ.

        Args:
            positions: of the fragments.
            truth: their true classes, the value of the first function, say.
            evidence: shared contexts that a pair must have.
        """
        subset = next((s for s in self._subsets if s.positions == tuple(positions)), None)
        if subset is None:
            raise ValueError(f"positions {tuple(positions)} are none of the subsets")
        classes, used = truth(torch.from_numpy(subset.rows)).numpy(), subset.evidence >= evidence
        return float((classes[subset.first[used]] != classes[subset.second[used]]).mean()) if used.any() else 0.0

    def summary(self) -> str:
        """Shares of the test items that are covered."""
        shares = [f"{float(self.covered(k).double().mean()):.1%} at {k}" for k in (1, 2, 3) if k <= self.evidence]
        return f"covered test items by shared contexts: {', '.join(shares)}; largest level {int(self.levels.max())}"

    def plot(self, ax: Any) -> Any:
        """Share covered against the evidence asked for."""
        ks = range(1, self.evidence + 1)
        ax.step(list(ks), [float(self.covered(k).double().mean()) for k in ks], where="mid")
        ax.set_xlabel("shared contexts")
        ax.set_ylabel("share of test items covered")
        ax.set_ylim(0, 1)
        return ax


def coverage(
    train_x: Int[Tensor, "examples positions"],
    train_y: Int[Tensor, " examples"],
    test_x: Int[Tensor, "tests positions"],
    test_y: Int[Tensor, " tests"],
    *,
    evidence: int = 20,
    subsets: Sequence[Sequence[int]] | None = None,
    truth: Mapping[tuple[int, ...], Classes] | None = None,
) -> Coverage:
    """The coverage of Chang et al. (2025): what a learner that only matches patterns could answer.

    Two fragments (values at a subset of positions) are alike if they share at least k contexts (values at all other
    positions) in the training items, with equal targets in each of the shared ones; likeness is closed under chains.
    Two items are neighbours if they differ in like fragments only and have equal targets. A test item is covered if
    neighbours lead from it to a training item; one that is a training item has the highest level.

    Args:
        train_x: tokens.
        train_y: targets.
        test_x: tokens.
        test_y: targets.
        evidence: the largest k that is tried.
        subsets: positions whose fragments may be swapped; all non-empty proper subsets by default.
        truth: in place of evidence from the training items, true classes of the fragments at some subsets; levels then
            are 1 or 0.

    Returns:
        `Coverage`, which explains each item by a chain of swaps.

    Raises:
        ValueError: inputs are no whole numbers, items and targets differ in number, equal inputs have different
            targets, there are more than six positions and no subsets, or evidence is below 1.
    """
    if evidence < 1:
        raise ValueError(f"evidence must be at least 1, not {evidence}")
    if train_x.is_floating_point() or test_x.is_floating_point():
        raise ValueError("train_x and test_x must hold tokens (whole numbers); bin continuous inputs first")
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if len(x) != len(y):
            raise ValueError(f"{part}_x has {len(x)} items and {part}_y {len(y)} targets")
    positions = train_x.shape[1]
    if test_x.shape[1] != positions:
        raise ValueError(f"train_x has {positions} positions and test_x {test_x.shape[1]}")
    if truth is not None:
        subsets, evidence = list(truth), 1
    if subsets is None:
        if not 2 <= positions <= 6:
            raise ValueError(f"{positions} positions: name the subsets (all are listed for 2 to 6 positions)")
        subsets = [s for size in range(1, positions) for s in itertools.combinations(range(positions), size)]
    given = np.concatenate([part.cpu().numpy() for part in (train_x, test_x)])
    labels = np.concatenate([part.cpu().numpy() for part in (train_y, test_y)])
    inputs, start, place = np.unique(given, axis=0, return_index=True, return_inverse=True)
    place, targets = place.reshape(-1), labels[start]
    if (wrong := (labels != targets[place]).nonzero()[0]).size:
        i = int(wrong[0])
        pair = f"{int(targets[place[i]])} and {int(labels[i])}"
        raise ValueError(f"the input {given[i].tolist()} has the targets {pair}; equal inputs need equal targets")
    training = np.zeros(len(inputs), dtype=bool)
    training[place[: len(train_x)]] = True
    cut = [_subset(inputs, targets, training, tuple(sorted(s)), (truth or {}).get(tuple(s))) for s in subsets]
    tests, levels = place[len(train_x) :], np.zeros(len(test_x), dtype=np.int64)
    for k in range(1, evidence + 1):
        component = connected_components(_graph(cut, targets, k)[0], directed=False)[1]
        reached = np.isin(component[tests], component[: len(inputs)][training])
        levels[reached] = k
        if not reached[~training[tests]].any():
            break
    levels[training[tests]] = evidence
    merged = {subset.positions: len(subset.first) for subset in cut}
    return Coverage(
        torch.from_numpy(levels).to(test_x.device), evidence, merged, inputs, targets, training, tests, tuple(cut)
    )


def _subset(inputs: ndarray, targets: ndarray, training: ndarray, kept: tuple[int, ...], truth: Any) -> _Subset:
    """Pairs of fragments by two sparse products: of shared contexts, and of shared contexts with equal targets."""
    others = [i for i in range(inputs.shape[1]) if i not in kept]
    rows, fragment = np.unique(inputs[:, list(kept)], axis=0, return_inverse=True)
    fragment, rest = fragment.reshape(-1), np.unique(inputs[:, others], axis=0, return_inverse=True)[1].reshape(-1)
    if truth is not None:
        classes = np.asarray(truth(torch.from_numpy(rows)))
        order = np.argsort(classes, kind="stable")
        chained = classes[order[1:]] == classes[order[:-1]]
        first, second = order[:-1][chained], order[1:][chained]
        return _Subset(kept, fragment, rest, rows, first, second, np.ones(len(first), dtype=np.int64))
    f, r = fragment[training], rest[training]
    both = np.unique(np.stack([r, targets[training]], 1), axis=0, return_inverse=True)[1].reshape(-1)
    one = np.ones(len(f), dtype=np.int32)
    shares, agrees = (csr_matrix((one, (f, column)), shape=(len(rows), column.max() + 1)) for column in (r, both))
    agreeing = (agrees @ agrees.T).tocoo()
    pairs = agreeing.row < agreeing.col
    first, second, count = agreeing.row[pairs], agreeing.col[pairs], agreeing.data[pairs]
    total = np.asarray((shares @ shares.T)[first, second]).reshape(-1) if len(first) else count
    alike = total == count  # no shared context shows them to differ
    return _Subset(kept, fragment, rest, rows, first[alike], second[alike], count[alike])


def _graph(
    subsets: Sequence[_Subset], targets: ndarray, level: int
) -> tuple[csr_matrix, Callable[[int], tuple[int, ...]]]:
    """Inputs joined to groups: of equal target and context and like fragments. All of a group are neighbours."""
    offset, rows, columns, ends = len(targets), [], [], []
    for subset in subsets:
        key = np.stack([subset.classes(level)[subset.fragment], subset.rest, targets], 1)
        group = np.unique(key, axis=0, return_inverse=True)[1].reshape(-1)
        rows.append(np.arange(len(targets)))
        columns.append(group + offset)
        offset += int(group.max()) + 1
        ends.append(offset)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = csr_matrix((np.ones(len(row), dtype=np.int8), (row, column)), shape=(offset, offset))
    return graph, lambda group: subsets[int(np.searchsorted(ends, group, side="right"))].positions
