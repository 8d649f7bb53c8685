"""Supports, fusion covers and rank bounds of words against hand counts, brute force and fitted decompositions."""

import pytest
import torch

from neurarium.data import FiniteGroup
from neurarium.models import HadamardNet, composition_network
from neurarium.models.groups._fast_products import matrix_product, number_product
from neurarium.theory import cp_decomposition, fusion_cover, rank_bound, word_support, word_tensor
from neurarium.theory.groups._word_tensors import MATRIX_PRODUCT_RANK, NUMBER_PRODUCT_RANK

S3, S4, Q8 = FiniteGroup.symmetric(3), FiniteGroup.symmetric(4), FiniteGroup.quaternion()
WORDS = ("ab", "ba", "aab", "abab", "abAB", "aBBA", "aaB", "abba")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_word_tensor_by_brute_force():
    tensor = word_tensor(S3, "aBa")
    table, inverse = S3.table.tolist(), S3.inverse.tolist()
    for x in range(6):
        for y in range(6):
            row = [0.0] * 6
            row[table[table[x][inverse[y]]][x]] = 1.0
            assert tensor[x, y].tolist() == row


@pytest.mark.parametrize("group", [S3, S4, Q8, FiniteGroup.cyclic(7), FiniteGroup.semidirect(7, 3, 2)], ids=repr)
@pytest.mark.parametrize("word", WORDS)
def test_support_lies_in_the_fusion_cover(group, word):
    assert not (word_support(group, word) & ~fusion_cover(group, word)).any()


def test_support_by_projectors():
    """Projecting on three isotypic spaces, one triple at a time."""
    tensor, support = word_tensor(S3, "aab"), word_support(S3, "aab")
    for i, p in enumerate(S3.irreps):
        for j, q in enumerate(S3.irreps):
            for k, r in enumerate(S3.irreps):
                part = torch.einsum("xyz,xi,yj,zk->ijk", tensor, p.projector, q.projector, r.projector)
                assert bool(support[i, j, k]) == bool(part.norm() > 1e-6)


def test_known_supports():
    assert torch.equal(word_support(S4, "ab").nonzero(), torch.arange(5)[:, None].expand(5, 3))
    assert torch.equal(word_support(S3, "aab"), fusion_cover(S3, "aab"))
    assert int(word_support(S3, "abAB").sum()) == 11
    assert int(word_support(S3, "abab").sum()) == 5


@pytest.mark.parametrize(
    ("group", "total"),
    [
        (S3, 1 + 1 + 7),
        (S4, 1 + 1 + 7 + 23 + 23),
        (FiniteGroup.cyclic(7), 1 + 3 * 3),
        (Q8, 4 + 8),
        (FiniteGroup.alternating(5), 1 + 23 + 23 + 49 + 93),
    ],
    ids=repr,
)
def test_rank_bound_of_the_product(group, total):
    assert rank_bound(group).total == total
    assert rank_bound(group, "Ab").total == total


def test_built_in_algorithms_reach_the_known_ranks():
    for size in (1, 2, 3, 4):
        assert matrix_product(size).rank == MATRIX_PRODUCT_RANK[size]
    for commuting, rank in NUMBER_PRODUCT_RANK.items():
        assert number_product(commuting).rank == rank
    for group in (S3, S4, Q8, FiniteGroup.semidirect(7, 3, 2)):
        assert composition_network(group).left.embedding_dim == rank_bound(group).total


def test_bounds_of_other_words_hold():
    """A decomposition of the bound's rank exists; for all of S_3, order² is never needed for aab."""
    bound = rank_bound(S3, "aab")
    assert bound.total == 26
    assert bound.per_block["2a", "2a", "2a"] == 16
    found = cp_decomposition(word_tensor(S3, "aab"), 9, generator=seeded())
    assert found.error < 1e-6
    assert rank_bound(S3, "abAB").total == 36
    assert "blocks" in bound.summary()


def test_decomposition_finds_strassens_rank_and_no_lower():
    tensor = matrix_product(2).tensor()
    seven = cp_decomposition(tensor, 7, restarts=8, generator=seeded())
    assert seven.error < 1e-5
    torch.testing.assert_close(seven.tensor(), tensor, atol=1e-4, rtol=0)
    assert cp_decomposition(tensor, 6, restarts=8, steps=200, generator=seeded()).error > 0.1


def test_decomposition_recovers_a_random_low_rank_tensor():
    """Unique up to order and scale where the rank is small: the factors' directions come back."""
    left, right, out = (torch.randn(n, 3, generator=seeded(n), dtype=torch.float64) for n in (6, 7, 8))
    tensor = torch.einsum("xr,yr,zr->xyz", left, right, out)
    found = cp_decomposition(tensor, 3, generator=seeded())
    assert found.error < 1e-6
    assert list(found.errors) == sorted(found.errors)
    cosines = torch.nn.functional.normalize(found.left, dim=0).T @ torch.nn.functional.normalize(left, dim=0)
    torch.testing.assert_close(cosines.abs().amax(0), torch.ones(3).double(), atol=1e-5, rtol=0)


def test_decomposition_gives_an_exact_network():
    found = cp_decomposition(word_tensor(S3, "aab"), 9, generator=seeded())
    net = HadamardNet.from_factors(found.left, found.right, found.out)
    assert torch.equal(net.tensor().argmax(2), S3.word("aab"))


def test_isotypic_triples_are_invariant_under_gradient_flow():
    """Started inside one triple of isotypic spaces, the bilinear network's population gradient stays inside."""
    target = word_tensor(S3, "ab")
    net = HadamardNet(6, 4, generator=seeded()).double()
    projector = S3.irrep("2a").projector
    with torch.no_grad():
        for table in (net.left, net.right, net.unembed):
            table.weight.copy_(projector @ table.weight)
    made = torch.einsum("xk,yk,zk->xyz", net.left.weight, net.right.weight, net.unembed.weight)
    (made - target).square().sum().backward()
    for table in (net.left, net.right, net.unembed):
        gradient = table.weight.grad
        torch.testing.assert_close(projector @ gradient, gradient, atol=1e-10, rtol=0)
        assert float(gradient.norm()) > 0.1


def test_refusals():
    with pytest.raises(ValueError, match="must not be zero"):
        cp_decomposition(torch.zeros(2, 2, 2), 1)
    with pytest.raises(ValueError, match="at least 1"):
        cp_decomposition(torch.ones(2, 2, 2), 0)
    with pytest.raises(ValueError, match="letter 'c'"):
        fusion_cover(S3, "abc")
    with pytest.raises(ValueError, match="at most 128"):
        rank_bound(FiniteGroup.cyclic(129))
