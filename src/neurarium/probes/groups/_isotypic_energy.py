"""How the energy of a network's logits, as a tensor over two elements and an answer, lies in the isotypic blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from neurarium.data import FiniteGroup
from neurarium.probes._result import ProbeResult
from neurarium.probes.groups._pairs import answers, element_tables, table_shares
from neurarium.training import evaluation


@dataclass(frozen=True)
class IsotypicEnergy(ProbeResult):
    """Shares of the squared norm of centred logits.

    Args:
        irreps: names of the representations.
        triples: share in each block (φ of the first element, ψ of the second, ζ of the answer); they sum to 1.
        support: blocks in which the word's own tensor has energy.
        tables: for each table of elements of the network, the share of each representation in its squared norm.
    """

    irreps: tuple[str, ...]
    triples: Float[Tensor, "irreps irreps irreps"]
    support: Bool[Tensor, "irreps irreps irreps"]
    tables: Mapping[str, Float[Tensor, " irreps"]]

    @property
    def inside(self) -> float:
        """Share within the support of the word's tensor."""
        return float(self.triples[self.support].sum())

    @property
    def by_irrep(self) -> Float[Tensor, " irreps"]:
        """Share within the support, by the representation of the answer."""
        return (self.triples * self.support).sum((0, 1))

    def strongest(self, count: int = 5) -> list[tuple[tuple[str, str, str], float, bool]]:
        """The blocks of largest share: names, share, whether inside the support."""
        found = []
        for place in self.triples.flatten().argsort(descending=True)[:count]:
            i, j, k = (int(at) for at in torch.unravel_index(place, self.triples.shape))
            names = self.irreps[i], self.irreps[j], self.irreps[k]
            found.append((names, float(self.triples[i, j, k]), bool(self.support[i, j, k])))
        return found

    def summary(self) -> str:
        """Share inside the support and the strongest blocks."""
        named = [f"({', '.join(names)}) {share:.3f}" for names, share, _ in self.strongest()]
        return (
            f"{self.inside:.1%} of the energy lies in the {int(self.support.sum())} of {self.support.numel()} blocks "
            f"that the word's tensor has\nstrongest blocks: {'; '.join(named)}"
        )

    def plot(self, ax: Any) -> Any:
        """The twenty strongest blocks; those outside the support in another colour."""
        blocks = self.strongest(20)
        colours = ["tab:blue" if inside else "tab:orange" for _, _, inside in blocks]
        ax.bar(range(len(blocks)), [share for _, share, _ in blocks], color=colours)
        ax.set_xticks(range(len(blocks)), [" ".join(names) for names, _, _ in blocks], rotation=90)
        ax.set(ylabel="share of energy")
        return ax


@torch.no_grad()
def isotypic_energy(
    model: nn.Module | Float[Tensor, "order order order"],
    group: FiniteGroup,
    *,
    word: str = "ab",
    tables: Mapping[str, Tensor] | None = None,
    batch_size: int = 8192,
) -> IsotypicEnergy:
    """Energy of learned logits by triples of representations (arXiv 2509.06931).

    Logits are centred for each pair first: a constant changes no answer, but would count for the trivial block.

    Args:
        model: takes pairs of elements [batch, 2], gives a logit for every element; left as it was. Or the logits.
        group: the group; of at most 128 elements.
        word: what the model computes.
        tables: as in `representation_evidence`.
        batch_size: pairs at once.

    Raises:
        ValueError: the group is too large; or what `representation_evidence` says.
    """
    n = group.order
    if isinstance(model, Tensor):
        logits, held = model.detach().cpu().double(), tables or {}
    else:
        with evaluation(model):
            logits = torch.cat([part for _, part, _ in answers(model, group, None, batch_size)]).reshape(n, n, n)
        held = element_tables(model, tables)
    energies = group.block_energies(logits - logits.mean(2, keepdim=True))
    exact = group.block_energies(one_hot(group.word(word), n).double())
    return IsotypicEnergy(
        tuple(irrep.name for irrep in group.irreps),
        energies / energies.sum().clamp_min(1e-300),
        exact > 1e-9 * exact.sum(),
        {name: table_shares(table, group) for name, table in held.items()},
    )
