"""Curricula as samplers: which examples, and how many of them, each pass over the data sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler

from neurarium.training import call, evaluation, unpack

_SMALLEST_LOSS = 1e-7


def cycle_sizes(
    start: float = 0.25,
    end: float = 1.0,
    multiplier: float = 0.5,
    epochs: float = 10.0,
    *,
    exact: bool = False,
    sharp: bool = False,
) -> list[float]:
    """Fractions of the data that breathe between ``start`` and ``end`` (Kesgin and Amasyali, 2022, algorithm 1).

    Each is the last one divided by ``multiplier`` on the way up, times it on the way down. With the defaults 0.25, 0.5,
    1, 0.5, 0.25, 0.5, ...: 19 passes that add up to 10.75.

    Args:
        start: smallest fraction.
        end: largest fraction.
        multiplier: between 0 and 1.
        epochs: passes over all data that the examples seen amount to; the last pass goes past it,
        exact: unless it is shrunk to fit.
        sharp: drop from ``end`` to ``start`` at once instead of going down in steps.

    Raises:
        ValueError: not 0 < start <= end <= 1, a multiplier outside (0, 1), or epochs not positive.
    """
    _check_fractions(start, end, multiplier, epochs)
    sizes = [start]
    up = True
    while sum(sizes) < epochs - 1e-9:
        now = sizes[-1]
        up = now == start or (up and now != end)
        down = start if sharp else max(now * multiplier, start)
        sizes.append(min(now / multiplier, end) if up else down)
    return _fit(sizes, epochs) if exact else sizes


def growing_sizes(start: float = 0.25, multiplier: float = 0.5, epochs: float = 10.0) -> list[float]:
    """Fractions that grow once, start, start / multiplier, ..., 1, each for equally many passes, ``epochs`` in sum."""
    _check_fractions(start, 1.0, multiplier, epochs)
    steps = [start]
    while steps[-1] < 1:
        steps.append(min(steps[-1] / multiplier, 1.0))
    count = max(1, math.ceil(epochs / sum(steps)))
    return _fit([size for size in steps for _ in range(count)], epochs)


def shrinking_sizes(start: float = 0.25, multiplier: float = 0.5, epochs: float = 10.0) -> list[float]:
    """`growing_sizes` the other way round: from all data down to ``start``."""
    _check_fractions(start, 1.0, multiplier, epochs)
    steps = [1.0]
    while steps[-1] > start:
        steps.append(max(steps[-1] * multiplier, start))
    count = max(1, math.ceil(epochs / sum(steps)))
    return _fit([size for size in steps for _ in range(count)], epochs)


class CurriculumSampler(Sampler[int]):
    """Draws the examples of each pass without replacement, with probabilities in proportion to their scores.

    For a `torch.utils.data.DataLoader` or anything that takes indices. A pass at fraction 1 is an ordinary shuffled
    epoch, whatever the scores. Every pass is drawn from a generator of its own, made of ``seed`` and the pass, so that
    all ranks of a distributed run draw the same examples and share them out; where they do not divide, the first ones
    are used twice, as by torch's `DistributedSampler`, since ranks of unequal length would wait for each other in
    training. With ``padded=False`` each is used once, and some ranks get one less, as an evaluation wants it.

    ```
    sampler = CurriculumSampler(1 / difficulty_scores(model, loader), cycle_sizes(epochs=10))
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    for number in range(len(sampler.sizes)):
        sampler.set_epoch(number)
        ...
    ```

    Args:
        scores: how readily each example is drawn, [examples], positive: easiness for an easy curriculum (the paper's
            1 / loss), its inverse for a hard one, ones for a random one.
        sizes: the fraction of each pass, in (0, 1].
        labels: class of each example, [examples]: draw from every class in proportion to its size.
        seed: of all draws.
        rank: of this process.
        world_size: processes that share each pass.
        padded: give every rank the same number of examples.

    Raises:
        ValueError: a score that is not positive and finite (its place is named), a fraction outside (0, 1], labels of
            another length, or a rank outside the world.
    """

    def __init__(
        self,
        scores: Tensor,
        sizes: Sequence[float],
        *,
        labels: Tensor | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        padded: bool = True,
    ) -> None:
        self.scores = scores
        if not sizes or any(not 0 < size <= 1 for size in sizes):
            raise ValueError(f"sizes must be fractions in (0, 1], not {list(sizes)}")
        if labels is not None and labels.shape != self.scores.shape:
            raise ValueError(f"there are {len(labels)} labels for {len(self.scores)} scores")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be between 0 and {world_size - 1}, not {rank}")
        self.sizes, self.labels, self.seed = list(sizes), None if labels is None else labels.cpu(), seed
        self.rank, self.world_size, self.padded = rank, world_size, padded
        self.epoch = 0

    @property
    def scores(self) -> Tensor:
        """The scores; may be replaced between passes (self-paced learning)."""
        return self._scores

    @scores.setter
    def scores(self, scores: Tensor) -> None:
        scores = scores.detach().double().cpu()
        if scores.dim() != 1 or len(scores) == 0:
            raise ValueError(f"scores must be [examples], one per example, not {tuple(scores.shape)}")
        bad = (~(scores > 0) | ~scores.isfinite()).nonzero().flatten()
        if len(bad):
            place = int(bad[0])
            raise ValueError(f"score {place} is {float(scores[place]):g}; scores must be positive and finite")
        self._scores = scores

    @property
    def progress(self) -> float:
        """Share of all examples to be seen that come before this pass; step a learning-rate schedule by it."""
        return sum(self.sizes[: self.epoch]) / sum(self.sizes)

    @property
    def effective_size(self) -> float:
        """(sum s)² / sum s²: how many examples a draw by these scores effectively chooses from."""
        return float(self.scores.sum() ** 2 / self.scores.square().sum())

    def set_epoch(self, epoch: int) -> None:
        """Go to a pass, from 0.

        Raises:
            ValueError: there is no such pass.
        """
        if not 0 <= epoch < len(self.sizes):
            raise ValueError(f"epoch must be between 0 and {len(self.sizes) - 1}, not {epoch}")
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Indices of this pass, shuffled; on all ranks together."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        size = self.sizes[self.epoch]
        if self.labels is None:
            chosen = weighted_sample(self.scores, max(1, int(size * len(self.scores))), generator)
        else:
            members = [(self.labels == label).nonzero().flatten() for label in self.labels.unique()]
            drawn = [weighted_sample(self.scores[m], max(1, int(size * len(m))), generator) for m in members]
            chosen = torch.cat([m[d] for m, d in zip(members, drawn, strict=True)])
        return chosen[torch.randperm(len(chosen), generator=generator)]

    def __iter__(self) -> Iterator[int]:
        indices = self.indices()
        return (int(indices[place % len(indices)]) for place in range(self.rank, self._total(), self.world_size))

    def __len__(self) -> int:
        return len(range(self.rank, self._total(), self.world_size))

    def _total(self) -> int:
        """Examples of this pass on all ranks; padded, a multiple of their number."""
        members = [len(self.scores)] if self.labels is None else self.labels.unique(return_counts=True)[1].tolist()
        drawn = sum(max(1, int(self.sizes[self.epoch] * count)) for count in members)
        return math.ceil(drawn / self.world_size) * self.world_size if self.padded else drawn


def weighted_sample(scores: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` distinct indices in no order, each drawn in proportion to the scores of those that are left.

    In one pass: the ``count`` smallest of exponential variables divided by the scores (Efraimidis and Spirakis, 2006).
    """
    keys = torch.empty_like(scores, dtype=torch.float64).exponential_(generator=generator) / scores
    return keys.topk(count, largest=False, sorted=False).indices


@torch.no_grad()
def difficulty_scores(
    model: nn.Module,
    loader: Iterable[Any],
    kind: str = "loss",
    loss: Callable[..., Tensor] = cross_entropy,
    *,
    ignore_index: int = -100,
) -> Tensor:
    """How hard each example of a loader is for a trained model, [examples]; in evaluation mode, which is put back.

    Args:
        model: a classifier.
        loader: batches ``(x, y)`` in the order of the data set, not shuffled.
        kind: "loss": the loss of each example, at least 1e-7; "probability": 1 / that of its class; "distance":
            the mean of |p - onehot(y)| over classes.
        loss: for "loss": ``loss(output, y, reduction="none")``; further dimensions (tokens) are averaged.
        ignore_index: target of the tokens that do not count (padding).

    Raises:
        ValueError: an unknown kind, or a loss that is not finite.
    """
    if kind not in ("loss", "probability", "distance"):
        raise ValueError(f"kind must be loss, probability or distance, not {kind!r}")
    found = []
    with evaluation(model):
        for x, y in map(unpack, loader):
            output = call(model, x)
            if kind == "loss":
                each = loss(output, y, reduction="none")
                if each.dim() > 1:
                    counts = (y != ignore_index).expand_as(each).flatten(1)
                    each = (each.flatten(1) * counts).sum(1) / counts.sum(1).clamp_min(1)
                found.append(each)
                continue
            p = output.softmax(-1)
            own = p.gather(1, y[:, None]).squeeze(1)
            found.append(1 / own if kind == "probability" else (p.sum(1) - 2 * own + 1) / p.shape[1])
    scores = torch.cat(found).double().clamp_min(_SMALLEST_LOSS)
    bad = (~scores.isfinite()).nonzero().flatten()
    if len(bad):
        raise ValueError(f"the loss of example {int(bad[0])} is {float(scores[bad[0]])}; losses must be finite")
    return scores


def _check_fractions(start: float, end: float, multiplier: float, epochs: float) -> None:
    if not 0 < start <= end <= 1:
        raise ValueError(f"start and end must satisfy 0 < start <= end <= 1, not {start} and {end}")
    if not 0 < multiplier < 1:
        raise ValueError(f"multiplier must lie between 0 and 1, not {multiplier}")
    if not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be positive, not {epochs}")


def _fit(sizes: list[float], epochs: float) -> list[float]:
    """The sizes, scaled or cut at the end so that they add up to the epochs."""
    total = 0.0
    kept: list[float] = []
    for size in sizes:
        if total + size >= epochs - 1e-9:
            return [*kept, epochs - total]
        total += size
        kept.append(size)
    return kept
