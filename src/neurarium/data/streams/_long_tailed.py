"""Long tails cut from balanced data."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def long_tailed_counts(classes: int, largest: int, imbalance: float, kind: str = "exponential") -> list[int]:
    """Examples per class, the first class the largest.

    Args:
        classes: K.
        largest: examples of the first class.
        imbalance: largest over smallest, at least 1.
        kind: ``"exponential"``: n_k = largest * imbalance^(-k / (K-1)); ``"step"``: the second half has the smallest
            number.

    Raises:
        ValueError: an argument out of range.
    """
    if classes < 2 or largest < 1 or imbalance < 1:
        raise ValueError("long_tailed_counts needs classes >= 2, largest >= 1 and imbalance >= 1")
    if kind not in ("exponential", "step"):
        raise ValueError(f'kind must be "exponential" or "step", not {kind!r}')
    if kind == "step":
        return [largest] * (classes - classes // 2) + [max(1, int(largest / imbalance))] * (classes // 2)
    # a hair more than the formula, so that 500 / 100 is 5 and not 4.999...
    return [max(1, int(largest * imbalance ** (-k / (classes - 1)) + 1e-6)) for k in range(classes)]


def long_tailed_subset(
    labels: Int[Tensor, examples],
    imbalance: float,
    kind: str = "exponential",
    *,
    largest: int | None = None,
    seed: int = 0,
) -> Int[Tensor, kept]:
    """Rows of a long-tailed part of labelled data, in random order: ``arrays[rows]``, ``torch.utils.data.Subset``.

    Args:
        labels: class of each example; classes are ranked by label, the lowest becomes the largest.
        imbalance: largest over smallest class.
        kind: as in `long_tailed_counts`.
        largest: examples of the first class; all that it has by default.
        seed: of the draw.

    Raises:
        ValueError: an argument out of range, fewer than two classes, or a class with too few examples.
    """
    classes = labels.unique().tolist()
    rows = [(labels == label).nonzero().flatten() for label in classes]
    if len(classes) < 2:
        raise ValueError("a long tail needs at least two classes")
    counts = long_tailed_counts(len(classes), largest or len(rows[0]), imbalance, kind)
    for label, own, count in zip(classes, rows, counts, strict=True):
        if len(own) < count:
            raise ValueError(f"class {label} has {len(own)} examples, but {count} are asked for; lower largest")
    generator = torch.Generator().manual_seed(seed)

    def draw(own: Tensor, count: int) -> Tensor:
        return own[torch.randperm(len(own), generator=generator)[:count].to(own.device)]

    kept = torch.cat([draw(own, count) for own, count in zip(rows, counts, strict=True)])
    return kept[torch.randperm(len(kept), generator=generator).to(kept.device)]
