"""Parities learned by elimination over the field of two elements: easy for who sees the examples one by one."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def solve_parity(bits: Int[Tensor, "examples bits"], odd: Int[Tensor, " examples"]) -> Bool[Tensor, " bits"] | None:
    """A set of bits whose parity gives all labels, or None where there is none.

    Args:
        bits: whole numbers, of which the parity counts.
        odd: 1 where the parity is odd, 0 where it is even.

    Returns:
        Which bits are in the set; those that the examples do not settle are left out.
    """
    rows = torch.cat([bits % 2, odd[:, None] % 2], 1).bool().cpu()
    size, done = bits.shape[1], 0
    leads = []
    for column in range(size):
        found = rows[done:, column].nonzero()
        if not len(found):
            continue
        lead = done + int(found[0])
        rows[[done, lead]] = rows[[lead, done]]
        others = rows[:, column].clone()
        others[done] = False
        rows[others] ^= rows[done]
        leads.append(column)
        done += 1
        if done == len(rows):
            break
    if rows[done:, size].any():
        return None
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[leads] = rows[: len(leads), size]
    return chosen.to(bits.device)
