"""Random places for connections, drawn without ever holding one entry per possible place."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def epsilon_density(epsilon: float, in_features: int, out_features: int) -> float:
    """Density of an Erdős–Rényi layer, ``ε (n_in + n_out) / (n_in n_out)``, at most 1 (SET, equation 1).

    Raises:
        ValueError: ``epsilon`` is not positive.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    return min(1.0, epsilon * (in_features + out_features) / (in_features * out_features))


def draw_positions(
    total: int, count: int, taken: Int[Tensor, " taken"] | None = None, generator: torch.Generator | None = None
) -> Int[Tensor, " count"]:
    """``count`` different numbers below ``total``, uniformly at random, none of them in ``taken``; sorted.

    Numbers are drawn with repetition and those that are taken or seen before are drawn again, so that time and memory
    follow ``count``. Where more than half of what is free is asked for, the free places are listed instead.

    Args:
        total: number of places.
        count: how many to draw.
        taken: sorted places to avoid.
        generator: source of the draws, on the CPU.

    Raises:
        ValueError: there are fewer free places than ``count``.
    """
    taken = torch.empty(0, dtype=torch.long) if taken is None else taken.cpu()
    free = total - len(taken)
    if count > free:
        raise ValueError(f"cannot draw {count} places: {free} of {total} are free")
    if 2 * count > free:
        allowed = torch.ones(total, dtype=torch.bool)
        allowed[taken] = False
        places = allowed.nonzero().squeeze(1)
        return places[torch.randperm(free, generator=generator)[:count]].sort().values
    drawn = torch.empty(0, dtype=torch.long)
    while len(drawn) < count:
        missing = count - len(drawn)
        # some draws will be rejected: ask for that many more, and a few
        wanted = int(missing * total / (free - len(drawn))) + 8
        fresh = _distinct(torch.randint(total, (wanted,), generator=generator))
        fresh = fresh[~_member(fresh, taken) & ~_member(fresh, drawn)]
        surplus = len(fresh) - missing
        if surplus > 0:  # which ones go is drawn, too: they are in order, and the last are not to be disfavoured
            stays = torch.ones(len(fresh), dtype=torch.bool)
            stays[torch.randperm(len(fresh), generator=generator)[:surplus]] = False
            fresh = fresh[stays]
        drawn = _sorted(torch.cat([drawn, fresh])) if len(drawn) else fresh
    return drawn


def _member(values: Tensor, ordered: Tensor) -> Tensor:
    """Which values occur in a sorted tensor."""
    if len(ordered) == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    return ordered[torch.searchsorted(ordered, values).clamp_max(len(ordered) - 1)] == values


def _distinct(values: Tensor) -> Tensor:
    """The values that occur, sorted."""
    ordered = _sorted(values)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def _sorted(values: Tensor) -> Tensor:
    """NumPy sorts whole numbers some ten times as fast as torch, which also sorts their places."""
    return torch.from_numpy(np.sort(values.numpy()))
