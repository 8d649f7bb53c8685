"""Nearest neighbours by cosine, exactly, and the votes of neighbours' labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 1 << 14


def unit(x: Tensor, name: str = "x") -> Tensor:
    """Rows scaled to length 1, in float32.

    Raises:
        ValueError: a row is zero or not finite; the message names the first.
    """
    x = x.float()
    length = x.norm(dim=1, keepdim=True)
    bad = ((length == 0) | ~length.isfinite()).flatten().nonzero().flatten()
    if len(bad):
        what = "zero" if float(length[bad[0]]) == 0 else "not finite"
        raise ValueError(f"row {int(bad[0])} of {name} is {what} ({len(bad)} such), so it has no direction")
    return x / length


def nearest(queries: Tensor, items: Tensor, k: int, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` items of largest inner product with each query, nearest first; of equals the earlier row.

    Goes over the items in blocks, so that the memory does not grow with their number.

    Args:
        queries: [queries, features].
        items: [items, features], float32 or float16.
        k: how many; at most the items that are not hidden.
        hidden: [items], True for items that are not to be found.

    Returns:
        Inner products [queries, k] and rows of ``items`` [queries, k].
    """
    best = queries.new_full((len(queries), 0), 0.0)
    rows = torch.zeros(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK].to(queries.dtype)
        similar = queries @ block.T
        if hidden is not None:
            similar.masked_fill_(hidden[start : start + len(block)], -torch.inf)
        found, where = _first(similar, torch.arange(len(block), device=queries.device).expand(len(queries), -1), k)
        best, rows = torch.cat([best, found], 1), torch.cat([rows, where + start], 1)
        best, rows = _first(best, rows, k)
    return best, rows


def _first(values: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest values with their rows, in order; of equal values the smaller row."""
    if values.shape[1] <= k + 1:
        return _sorted(values, rows, k)
    highest = values.topk(k + 1)
    tied = highest.values[:, k - 1] == highest.values[:, k]
    found = _sorted(highest.values[:, :k], rows.gather(1, highest.indices[:, :k]), k)
    if bool(tied.any()):
        for part, exact in zip(found, _sorted(values[tied], rows[tied], k), strict=True):
            part[tied] = exact
    return found


def _sorted(values: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `_first`, by two stable sorts."""
    by_row = torch.sort(rows, dim=1, stable=True).indices
    values, rows = values.gather(1, by_row), rows.gather(1, by_row)
    order = torch.sort(values, dim=1, descending=True, stable=True).indices[:, :k]
    return values.gather(1, order), rows.gather(1, order)


@dataclass(frozen=True)
class Vote:
    """How much the neighbour of rank i (from 0) at cosine distance d counts (Geirhos et al., 2024, section 3).

    Args:
        kind: ``"rank"``: 1 / (i + alpha); ``"plurality"``: 1; ``"distance"``: exp(-d)^power;
            ``"softmax"``: exp((1 - d) / temperature).
        alpha: of rank voting.
        temperature: of softmax voting.
        power: of distance voting.

    Raises:
        ValueError: an unknown kind, or a number that is not positive.
    """

    kind: str = "rank"
    alpha: float = 2.0
    temperature: float = 0.07
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("rank", "plurality", "distance", "softmax"):
            raise ValueError(f"vote must be rank, plurality, distance or softmax, not {self.kind!r}")
        for name in ("alpha", "temperature", "power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")

    def weights(self, similarities: Tensor) -> Tensor:
        """Weights [queries, k] of neighbours in order, from cosine similarities; 0 for a missing one (-inf)."""
        missing = similarities == -torch.inf
        similarities = similarities.double().masked_fill(missing, 0)
        if self.kind == "rank":
            ranks = torch.arange(similarities.shape[1], dtype=torch.float64, device=similarities.device)
            weights = (1 / (ranks + self.alpha)).expand(similarities.shape).clone()
        elif self.kind == "plurality":
            weights = torch.ones_like(similarities)
        elif self.kind == "distance":
            weights = torch.exp(self.power * (similarities - 1))
        else:  # relative to the nearest, which changes no decision and cannot overflow
            weights = torch.exp((similarities - similarities[:, :1]) / self.temperature)
        return weights.masked_fill(missing, 0)


def tally(labels: Tensor, weights: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Add up the votes of neighbours, nearest first.

    Args:
        labels: class of each neighbour, [queries, k]; -1 for one that has none.
        weights: its weight, [queries, k].
        classes: number of classes.

    Returns:
        The final scores [queries, classes], and the winner after every neighbour [queries, k]: of equal scores the
        class that reached the score first; -1 while nobody has voted.
    """
    queries, k = labels.shape
    place = labels.device
    scores = torch.zeros(queries, classes, dtype=torch.float64, device=place)
    each = torch.arange(queries, device=place)
    leader, lead = torch.full((queries,), -1, device=place), torch.zeros(queries, dtype=torch.float64, device=place)
    winners = torch.empty(queries, k, dtype=torch.int64, device=place)
    weights = weights.double().masked_fill(labels < 0, 0)
    for i in range(k):
        label = labels[:, i].clamp_min(0)
        scores[each, label] += weights[:, i]
        reached = scores[each, label]
        overtakes = reached > lead
        leader, lead = torch.where(overtakes, label, leader), torch.where(overtakes, reached, lead)
        winners[:, i] = leader
    return scores, winners
