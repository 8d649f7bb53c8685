"""The task of computing a word in a group from its two elements."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Int
from torch import Tensor

from neurarium.data._arrays import Arrays, Split
from neurarium.data.groups._finite_group import FiniteGroup


def all_pairs(order: int) -> Int[Tensor, "pairs 2"]:
    """Every pair (a, b) of elements, b running fastest.

    Args:
        order: of the group.
    """
    return torch.cartesian_prod(torch.arange(order), torch.arange(order))


def word_task(
    group: FiniteGroup,
    word: str = "ab",
    train_fraction: float = 0.5,
    *,
    generator: torch.Generator | None = None,
) -> Split:
    """Pairs (a, b) with the value of a word: a random part of all pairs to learn from, all others to test on.

    Args:
        group: the group.
        word: of letters a, b and their inverses A, B; ``"ab"`` is multiplication.
        train_fraction: share of all pairs to learn from, in (0, 1].
        generator: of the choice; torch's global one by default.

    Returns:
        Inputs [pairs, 2] and targets [pairs], whole numbers; no validation part; the classes are the elements' names.
        With a fraction of 1 the test part is empty.

    Raises:
        ValueError: the fraction is out of range, or leaves nothing to learn from; or what `FiniteGroup.word` says.

    Warns:
        UserWarning: some element is in no pair to learn from, on the left or on the right.
    """
    pairs = len(x := all_pairs(group.order))
    count = round(train_fraction * pairs)
    if not 0 < train_fraction <= 1 or count == 0:
        raise ValueError(f"train_fraction must lie in (0, 1] and leave a pair to learn from, not {train_fraction}")
    order = torch.randperm(pairs, generator=generator, device=generator.device if generator else None).cpu()
    everything = Arrays(x, group.word(word).flatten())
    train, test = everything[order[:count].sort()[0]], everything[order[count:].sort()[0]]
    for column, side in enumerate(("left", "right")):
        if len(train.x[:, column].unique()) < group.order:
            warnings.warn(
                f"train_fraction {train_fraction} leaves an element of {group.name} that never stands on the {side}",
                stacklevel=2,
            )
    return Split(train, everything[:0], test, group.names, f"{word} in {group.name}")
