"""Words in a finite group as tensors: which blocks they have, and how few products compute them (arXiv 2509.06931).

The tensor of a word w has an entry 1 at (x, y, w(x, y)). It splits over triples of real irreducible representations,
most of which the fusion rules exclude; a network of products f_z(x, y) = Σ_k U_kx V_ky W_kz needs as many of them as
the tensor's rank, which is at most the sum of the blocks' ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from neurarium.data import FiniteGroup, RealIrrep

MATRIX_PRODUCT_RANK = {1: 1, 2: 7, 3: 23, 4: 49, 5: 93}
"""Fewest real multiplications known for the product of two matrices of this size (Strassen, Laderman, ...)."""

NUMBER_PRODUCT_RANK = {1: 1, 2: 3, 4: 8}
"""Fewest real multiplications for the product of two real, complex or quaternionic numbers."""

Triple = tuple[str, str, str]


@dataclass(frozen=True)
class RankBound:
    """An upper bound on the rank of a word's tensor.

    Args:
        total: the smaller of the sum over blocks and the bound for any function of pairs, order².
        per_block: for each block in the support, a bound on its rank.
    """

    total: int
    per_block: Mapping[Triple, int]

    def summary(self) -> str:
        """The bound and the blocks that need most."""
        worst = sorted(self.per_block.items(), key=lambda item: -item[1])[:3]
        named = "; ".join(f"({', '.join(triple)}) {rank}" for triple, rank in worst)
        return f"at most {self.total} products in {len(self.per_block)} blocks; largest: {named}"


def word_tensor(group: FiniteGroup, word: str) -> Float[Tensor, "order order order"]:
    """1 at (x, y, w(x, y)), 0 elsewhere, in float64.

    Args:
        group: the group.
        word: of letters a, b and their inverses A, B.

    Raises:
        ValueError: the word has another letter.
    """
    return one_hot(group.word(word), group.order).double()


def word_support(group: FiniteGroup, word: str) -> Bool[Tensor, "irreps irreps irreps"]:
    """Triples (φ of a, ψ of b, ζ of the value) in whose block the word's tensor has energy.

    Args:
        group: of at most 128 elements.
        word: of letters a, b and their inverses A, B.

    Raises:
        ValueError: the group is too large, or the word has another letter.
    """
    energy = group.block_energies(word_tensor(group, word))
    return energy > 1e-9 * energy.sum()


def fusion_cover(group: FiniteGroup, word: str) -> Bool[Tensor, "irreps irreps irreps"]:
    """Triples that the fusion rules allow: φ occurs in as many factors ζ ⊗ ... ⊗ ζ as the word has letters a, ψ for b.

    It contains the support: ζ(w(a, b)) is a product of so many matrices ζ(a)^±1 and ζ(b)^±1.

    Args:
        group: of any size.
        word: of letters a, b and their inverses A, B.

    Raises:
        ValueError: the word has another letter.
    """
    group.word(word)
    first, second = (_in_power(group, sum(letter in pair for letter in word)) for pair in ("aA", "bB"))
    return first.T[:, None, :] & second.T[None, :, :]


def _in_power(group: FiniteGroup, power: int) -> Tensor:
    """[ζ, φ]: whether φ occurs in the power-fold tensor product of ζ with itself."""
    size = len(group.irreps)
    occurs = torch.zeros(size, size, dtype=torch.bool)
    occurs[:, 0] = True  # the empty product is trivial
    for _ in range(power):
        occurs = torch.einsum("zi,zik->zk", occurs.long(), group.fusion.permute(1, 0, 2)) > 0
    return occurs


def rank_bound(group: FiniteGroup, word: str = "ab") -> RankBound:
    """How many products compute a word: block by block.

    Where a and b occur once each, a block is a product of matrices over the numbers that commute with the
    representation, and the best known count for it holds. Any other block has at most the product of its two smaller
    dimensions.

    Args:
        group: of at most 128 elements.
        word: of letters a, b and their inverses A, B.

    Raises:
        ValueError: the group is too large, or the word has another letter.
    """
    support = word_support(group, word)
    once = sorted(word.lower()) == ["a", "b"]
    per_block = {}
    for i, j, k in support.nonzero().tolist():
        triple = group.irreps[i], group.irreps[j], group.irreps[k]
        small, middle, _ = sorted(irrep.rank for irrep in triple)
        known = _product_rank(triple[2]) if once else small * middle
        per_block[triple[0].name, triple[1].name, triple[2].name] = min(known, small * middle)
    return RankBound(min(sum(per_block.values()), group.order**2), per_block)


def _product_rank(irrep: RealIrrep) -> int:
    size = irrep.dim // irrep.commuting
    return MATRIX_PRODUCT_RANK.get(size, size**3) * NUMBER_PRODUCT_RANK[irrep.commuting]
