"""Energies and local fields of P-body couplings, through overlaps alone: no coupling tensor is ever formed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """What a field needs to know of some neurons.

    Args:
        columns: powers of the rows' entries, ``[block, num_rows]``, by exponent.
        constant: ``sum_r row_i^P``, ``[block]``.
    """

    columns: dict[int, Tensor]
    constant: Tensor


class ManyBody:
    """The P-body coupling ``E = -1/D * sum_r S_P(r)`` of spins with fixed rows.

    With ``y_j = row_j * spin_j`` the sum ``S_P`` over P-fold products of a row runs over all indices,
    ``(sum_j y_j)^P``, or over distinct indices only, ``P! e_P(y)`` with e_P the elementary symmetric polynomial
    (Newton's identities give it from power sums). In both cases the exact energy of flipping spin i is
    ``2 spin_i h_i``, with a field that depends on the other spins alone:

        all:       P D h_i ~ sum_k C(P, k+1) (-2 spin_i)^k sum_r row_i^(k+1) s^(P-1-k)
        distinct:  D h_i = P! sum_k (-spin_i)^k sum_r row_i^(k+1) e_(P-1-k)

    Sums of whole numbers stay whole; they are divided once, by ``denominator``, at the end.

    Args:
        rows: ``[num_rows, num_neurons]``; any real entries, fastest for -1 and +1, then for -1, 0 and +1.
        order: P, even.
        distinct: whether the indices of a product must differ.
        denominator: D, in units of the energy; ``P N^(P-1)`` for unit weights.
    """

    def __init__(self, rows: Tensor, order: int, distinct: bool, denominator: float) -> None:
        self.rows = rows
        self.order = order
        self.distinct = distinct and order > 2  # for pairs the field is the same
        self.pairs_apart = distinct and order == 2
        self.denominator = denominator
        self.num_neurons = rows.shape[1]
        magnitude = rows.abs()
        self.signs = bool(((magnitude == 1) | (magnitude == 0)).all())
        self.no_blanks = self.signs and bool((magnitude == 1).all())
        # Power sums of odd order move with the spins; those of even order are constants of the rows.
        self.exponents = tuple(range(1, order, 2)) if self.distinct and not self.signs else (1,)

    @functools.cached_property
    def columns(self) -> dict[int, Tensor]:
        """Powers of the rows with neurons first, ``[num_neurons, num_rows]``, by exponent."""
        powers = {1: self.rows.T.contiguous()}
        highest = self.order - 1 if not self.signs else min(self.order - 1, 1 if self.no_blanks else 2)
        for exponent in range(2, highest + 1):
            powers[exponent] = powers[exponent - 1] * powers[1]
        return powers

    @functools.cached_property
    def constant(self) -> Tensor:
        """``sum_r row_i^P``, ``[num_neurons]``: the part of the field's expansion that no other spin enters."""
        return _power(self.rows, self.order).sum(0)

    @functools.cached_property
    def even_sums(self) -> dict[int, Tensor]:
        """``sum_j row_j^k``, ``[num_rows]``, for even k."""
        return {k: _power(self.rows, k).sum(1) for k in range(2, self.order + 1, 2)}

    @functools.cached_property
    def coefficients(self) -> list[int]:
        """Of the k-th term of the field's expansion, times the common denominator."""
        if self.distinct:
            return [math.factorial(self.order) * (-1) ** k for k in range(self.order)]
        return [math.comb(self.order, k + 1) * (-2) ** k for k in range(self.order)]

    def sums(self, spins: Tensor) -> list[Tensor]:
        """Odd power sums ``sum_j row_j^k spin_j``, each ``[replicas, num_rows]``, for k in ``exponents``."""
        return [spins @ self.columns[k] for k in self.exponents]

    def at(self, index: Tensor) -> Block:
        """The rows' entries at some neurons, for `field` and `shift`."""
        return Block({k: c.index_select(0, index) for k, c in self.columns.items()}, self.constant[index])

    @functools.cached_property
    def everywhere(self) -> Block:
        """All neurons in order."""
        return Block(self.columns, self.constant)

    def shift(self, sums: list[Tensor], change: Tensor, block: Block) -> None:
        """Add to ``sums``, in place, what a ``change`` ``[replicas, block]`` of the spins of a block does to them."""
        for total, k in zip(sums, self.exponents, strict=True):
            total.addmm_(change, block.columns[k])

    def moments(self, sums: Sequence[Tensor], highest: int) -> list[Tensor]:
        """Powers 1..highest of the overlap sum, or e_1..e_highest of the products by Newton's identities."""
        first = sums[0]
        if not self.distinct:
            powers = [first]
            while len(powers) < highest:
                powers.append(powers[-1] * first)
            return powers
        odd = dict(zip(self.exponents, sums, strict=True))
        power_sums = [odd.get(k, first) if k % 2 else self.even_sums[k] for k in range(1, highest + 1)]
        symmetric = [torch.ones_like(first)]
        for d in range(1, highest + 1):
            terms = ((-1) ** (k - 1) * symmetric[d - k] * power_sums[k - 1] for k in range(1, d + 1))
            symmetric.append(functools.reduce(torch.add, terms) / d)
        return symmetric[1:]

    def energy(self, sums: Sequence[Tensor]) -> Tensor:
        """Energy, ``[replicas]``."""
        total = self.moments(sums, self.order)[-1]
        if self.distinct:
            total = total * math.factorial(self.order)
        elif self.pairs_apart:
            total = total - self.even_sums[2]
        return -total.sum(1) / self.denominator

    def field(self, sums: Sequence[Tensor], spins: Tensor, block: Block | None = None) -> Tensor:
        """Exact local fields: flipping spin i alone costs ``2 spin_i h_i``.

        Args:
            sums: power sums of the whole state.
            spins: the spins of the block, ``[replicas, block]``.
            block: which neurons; None for all of them.
        """
        at = block or self.everywhere
        moments = self.moments(sums, self.order - 1)
        by_exponent: dict[int, list[Tensor]] = {}
        for k in range(self.order - 1):
            exponent = k + 1 if not self.signs else 2 - (k + 1) % 2
            by_exponent.setdefault(exponent, []).append(self.coefficients[k] * moments[self.order - 2 - k])
        total = self.coefficients[-1] * at.constant * spins  # k = P - 1 is odd
        for exponent, parts in by_exponent.items():
            weights = functools.reduce(torch.add, parts)
            if exponent == 2 and self.no_blanks:
                share = weights.sum(1, keepdim=True)
            else:
                share = weights @ at.columns[exponent].T
            total = total + (share if exponent % 2 else share * spins)
        return total / self.denominator


def _power(base: Tensor, exponent: int) -> Tensor:
    """Whole powers by repeated multiplication; exact for whole numbers."""
    return functools.reduce(torch.mul, [base] * exponent)
