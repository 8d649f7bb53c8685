"""A model's answers to all pairs of a group's elements, and functions of pairs split by representations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neurarium.data import FiniteGroup, all_pairs
from neurarium.probes.similarity._units import Units, run
from neurarium.training import prediction

LARGEST = 1000
"""Groups of more elements have too many pairs."""


def answers(
    model: nn.Module, group: FiniteGroup, layer: str | None = None, batch_size: int = 8192
) -> Iterator[tuple[slice, Float[Tensor, "batch order"], Float[Tensor, "batch width"] | None]]:
    """Logits and, where asked for, a layer's units for all pairs, in the order of `all_pairs`, in float64 on the CPU.

    Args:
        model: takes pairs [batch, 2], gives logits for every element; should be in evaluation mode.
        group: the group.
        layer: name of a module, or ``"name:input"`` for what enters it.
        batch_size: pairs at once.

    Raises:
        ValueError: the group is too large, the model gives another number of logits, or an unknown layer.
    """
    if group.order > LARGEST:
        raise ValueError(f"{group.name} has {group.order} elements; all pairs of at most {LARGEST} can be looked at")
    pairs = all_pairs(group.order)
    units = Units(model, [layer], whole=True) if layer is not None else None
    for start in range(0, len(pairs), batch_size):
        rows = slice(start, min(start + batch_size, len(pairs)))
        seen = None
        if units is None:
            logits = prediction(run(model, pairs[rows]))
        else:
            seen = units.read(pairs[rows])[units.layers[0]].flatten(1).detach().cpu().double()
            logits = prediction(units.output)
        if logits.shape != (rows.stop - start, group.order):
            raise ValueError(
                f"the model must give {group.order} logits for each pair of elements of {group.name}, "
                f"not {tuple(logits.shape)} for {rows.stop - start} pairs"
            )
        yield rows, logits.detach().cpu().double(), seen


class WordFunctions:
    """Functions of pairs that depend on the value of a word alone, split by representations.

    Args:
        group: the group.
        word: such as ``"ab"``, ``"a"``, ``"aab"``.
    """

    def __init__(self, group: FiniteGroup, word: str) -> None:
        self.value: Int[Tensor, " pairs"] = group.word(word).flatten()
        count = torch.bincount(self.value, minlength=group.order).double()
        self.bases = []  # functions of the value, orthonormal as functions of pairs
        for irrep in group.irreps:
            weighted = count.sqrt()[:, None] * irrep.basis
            _, sizes, turn = torch.linalg.svd(weighted, full_matrices=False)
            keep = sizes > 1e-9 * group.order  # a word that misses elements spans less
            self.bases.append(irrep.basis @ turn[keep].T / sizes[keep])

    def coefficients(self, x: Float[Tensor, "pairs width"]) -> list[Float[Tensor, "_ width"]]:
        """For each representation, the coefficients of the columns of x."""
        sums = x.new_zeros(len(self.bases[0]), x.shape[1]).index_add_(0, self.value, x)
        return [basis.T @ sums for basis in self.bases]

    def component(self, x: Float[Tensor, "pairs width"], irreps: list[int]) -> Float[Tensor, "pairs width"]:
        """The part of x in the span of some representations."""
        parts = self.coefficients(x)
        table = sum((self.bases[i] @ parts[i] for i in irreps), x.new_zeros(len(self.bases[0]), x.shape[1]))
        return table[self.value]


def shares(coefficients: list[Tensor], energy: Tensor) -> Float[Tensor, " irreps"]:
    """Squared norm of each representation's coefficients as a share of ``energy``; 0 where that is 0."""
    squares = torch.stack([part.square().sum() for part in coefficients])
    return squares / energy if energy > 0 else torch.zeros_like(squares)


def table_shares(table: Float[Tensor, "rows width"], group: FiniteGroup) -> Float[Tensor, " irreps"]:
    """Share of each representation in the squared norm of a table with a row for each element; they sum to 1.

    Args:
        table: an embedding, or a read-out.
        group: the group.

    Raises:
        ValueError: the table has another number of rows.
    """
    if len(table) != group.order:
        raise ValueError(f"tables must have a row for each of the {group.order} elements, but one has {len(table)}")
    rows = table.detach().cpu().double()
    return shares([irrep.basis.T @ rows for irrep in group.irreps], rows.square().sum())


def element_tables(model: nn.Module, tables: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """The tables given, or else those that the model names by a method of this name."""
    if tables is not None:
        return tables
    named = getattr(model, "element_tables", None)
    return named() if callable(named) else {}
