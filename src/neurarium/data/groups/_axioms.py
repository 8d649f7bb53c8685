"""Whether a table of products is a group's."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def identity_of(table: Int[Tensor, "order order"]) -> int:
    """The identity of a group's table.

    Args:
        table: products ab.

    Raises:
        ValueError: an axiom fails; the message says which, and where.
    """
    order, every = len(table), torch.arange(len(table))
    if table.min() < 0 or table.max() >= order:
        raise ValueError(f"table must hold numbers from 0 to {order - 1}")
    neutral = (table == every).all(1) & (table == every[:, None]).all(0)
    if not neutral.any():
        raise ValueError("table is not a group's: no element leaves all others as they are")
    one = int(neutral.nonzero()[0])
    lacking = ((table == one) & (one == table.T)).any(1).logical_not()
    if lacking.any():
        raise ValueError(f"table is not a group's: element {int(lacking.nonzero()[0])} has no inverse")
    for g in _generating(table):  # the g with (x g) y = x (g y) are closed under products (Light's test)
        wrong = table[table[:, g]] != table[every[:, None], table[g]]
        if wrong.any():
            x, y = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"table is not a group's: ({x}·{g})·{y} = {table[table[x, g], y]}, "
                f"but {x}·({g}·{y}) = {table[x, table[g, y]]}"
            )
    return one


def _generating(table: Tensor) -> list[int]:
    """A few elements whose products are all elements."""
    reached = torch.zeros(len(table), dtype=torch.bool)
    generators: list[int] = []
    while not reached.all():
        generators.append(int((~reached).nonzero()[0]))
        reached[generators[-1]] = True
        count = 0
        while count != int(reached.sum()):
            count = int(reached.sum())
            reached[table[reached][:, reached].flatten()] = True
    return generators
