"""The real irreducible representations of a finite group, computed from its multiplication table.

A real irreducible representation is a complex one of real type, a pair of complex conjugates taken together, or one of
quaternionic type doubled; the matrices that commute with it are the reals, the complex numbers or the quaternions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_lowercase
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Kind = Literal["real", "complex", "quaternionic"]
KINDS: dict[int, Kind] = {1: "real", 2: "complex", 4: "quaternionic"}

_ATTEMPTS = 20
_GAP = 1e-7  # eigenvalues closer than this share of the largest count as one


@dataclass(frozen=True)
class RealIrrep:
    """One real irreducible representation; all in float64.

    Args:
        name: its dimension and a letter ("3b"); "1a" is the trivial one.
        kind: what commutes with it: real, complex or quaternionic numbers.
        matrices: orthogonal matrices ρ(g).
        basis: an orthonormal basis of the span of the matrix entries, as functions on the group.
    """

    name: str
    kind: Kind
    matrices: Float[Tensor, "order dim dim"]
    basis: Float[Tensor, "order rank"]

    @property
    def dim(self) -> int:
        """Of the real matrices."""
        return self.matrices.shape[1]

    @property
    def commuting(self) -> int:
        """Dimension of what commutes with it: 1, 2 or 4."""
        return next(size for size, kind in KINDS.items() if kind == self.kind)

    @property
    def rank(self) -> int:
        """Dimension of the span of the matrix entries: dim² / commuting."""
        return self.basis.shape[1]

    @property
    def character(self) -> Float[Tensor, " order"]:
        """Traces χ(g)."""
        return self.matrices.diagonal(dim1=1, dim2=2).sum(1)

    @property
    def projector(self) -> Float[Tensor, "order order"]:
        """Onto the span of the matrix entries: dim / (order · commuting) · χ(g h⁻¹)."""
        return self.basis @ self.basis.T


def real_irreps(
    table: Int[Tensor, "order order"], inverse: Int[Tensor, " order"], classes: Int[Tensor, " order"]
) -> tuple[RealIrrep, ...]:
    """All of them, smallest dimension first, then by their characters.

    A random symmetric combination of class sums, acting from the left, has one eigenspace for each; a random symmetric
    combination of elements, acting on it from the right, cuts one copy out.

    Args:
        table: products ab.
        inverse: of each element.
        classes: number of each element's conjugacy class.
    """
    generator = torch.Generator().manual_seed(0)  # any would do: the result depends on it by a choice of basis only
    quotient = table[:, inverse]  # [g, h] -> g h⁻¹
    merged = torch.minimum(classes, classes[inverse])  # one real representation for each class up to inverses
    found = []
    for space in _isotypic(quotient, merged, generator):
        rank = space.shape[1]
        squares = space @ space[_identity(table)]  # the projector's column at the identity, a multiple of χ
        indicator = float(squares[table.diagonal()].sum()) / rank**0.5  # of Frobenius and Schur: 1, 0 or -1
        commuting = 1 if indicator > 0.5 else 4 if indicator < -0.5 else 2
        dim = round((rank * commuting) ** 0.5)
        copy = _one_copy(space, dim, quotient, table, inverse, generator)
        matrices = torch.stack([copy.T @ copy[table[back]] for back in inverse])  # (ρ(g) f)(x) = f(g⁻¹ x)
        found.append((commuting, matrices, space))
    return _named(found)


def _identity(table: Tensor) -> int:
    return int((table.diagonal() == torch.arange(len(table))).nonzero()[0])


def _isotypic(quotient: Tensor, merged: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Orthonormal bases of the isotypic spaces of functions on the group.

    Raises:
        RuntimeError: eigenvalues of different spaces stay too close to be told apart.
    """
    count, largest = len(merged.unique()), int(merged.max()) + 1
    sizes = torch.bincount(merged, minlength=largest).double()
    for _ in range(_ATTEMPTS):
        weights = torch.randn(largest, generator=generator, dtype=torch.float64) / sizes.clamp_min(1).sqrt()
        values, vectors = torch.linalg.eigh(weights[merged[quotient]])
        groups = _clusters(values)
        if len(groups) == count:
            return [vectors[:, group] for group in groups]
    raise RuntimeError(f"the {count} isotypic spaces of a group of order {len(merged)} could not be told apart")


def _clusters(values: Tensor) -> list[slice]:
    """Runs of equal eigenvalues, which are in order."""
    jumps = values.diff() > _GAP * values.abs().max()
    edges = [0, *(jumps.nonzero().flatten() + 1).tolist(), len(values)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _one_copy(
    space: Tensor, dim: int, quotient: Tensor, table: Tensor, inverse: Tensor, generator: torch.Generator
) -> Tensor:
    """An orthonormal basis of one irreducible subspace [order, dim] of an isotypic space."""
    for _ in range(_ATTEMPTS):
        weights = torch.randn(len(table), generator=generator, dtype=torch.float64)
        weights = weights + weights[inverse]
        across = weights[table[inverse]]  # [x, y] -> w(x⁻¹ y): multiplies from the right
        values, vectors = torch.linalg.eigh(space.T @ across @ space)
        groups = _clusters(values)
        if all(group.stop - group.start == dim for group in groups):
            gaps = [min(_gap(values, group.start), _gap(values, group.stop)) for group in groups]
            return space @ vectors[:, groups[gaps.index(max(gaps))]]
    raise RuntimeError(f"no irreducible subspace of dimension {dim} found in one of dimension {space.shape[1]}")


def _gap(values: Tensor, edge: int) -> float:
    return float(values[edge] - values[edge - 1]) if 0 < edge < len(values) else float("inf")


def _named(found: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[RealIrrep, ...]:
    """In an order that does not depend on the random draws: by dimension, kind and character, and named so."""

    def key(entry: tuple[int, Tensor, Tensor]) -> tuple[int, int, list[float]]:
        commuting, matrices, _ = entry
        character = matrices.diagonal(dim1=1, dim2=2).sum(1)
        return matrices.shape[1], commuting, (-character).round(decimals=6).add(0.0).tolist()

    seen: dict[int, int] = {}
    irreps = []
    for commuting, matrices, space in sorted(found, key=key):
        dim = matrices.shape[1]
        place = seen[dim] = seen.get(dim, -1) + 1
        irreps.append(RealIrrep(f"{dim}{_letters(place)}", KINDS[commuting], matrices, space))
    return tuple(irreps)


def _letters(place: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    text = ascii_lowercase[place % 26]
    return text if place < 26 else _letters(place // 26 - 1) + text
