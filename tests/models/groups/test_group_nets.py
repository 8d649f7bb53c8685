"""Exact group networks against characters; fast products against plain ones; nets against plain formulas."""

import pytest
import torch

from neurarium.data import FiniteGroup, all_pairs
from neurarium.models import GroupMLP, GroupTransformer, HadamardNet, composition_network
from neurarium.models.groups._composition import over_numbers
from neurarium.models.groups._fast_products import matrix_product, number_product, number_tensor, over

GROUPS = [
    FiniteGroup.symmetric(3), FiniteGroup.cyclic(7), FiniteGroup.symmetric(4), FiniteGroup.quaternion(),
    FiniteGroup.semidirect(7, 3, 2), FiniteGroup.direct(FiniteGroup.quaternion(), FiniteGroup.symmetric(3)),
    FiniteGroup.alternating(5),
]  # fmt: skip


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("dim", "rank"), [(1, 1), (2, 7), (3, 23), (4, 49), (5, 125)])
def test_matrix_products(dim, rank):
    algorithm = matrix_product(dim)
    a, b = draw(5, dim, dim), draw(5, dim, dim, seed=1)
    products = (a.flatten(1) @ algorithm.left) * (b.flatten(1) @ algorithm.right)
    torch.testing.assert_close((products @ algorithm.out.T).reshape(5, dim, dim), a @ b)
    assert algorithm.rank == rank


def test_complex_products():
    algorithm = over(number_product(2), matrix_product(2))
    a, b = (torch.complex(draw(3, 2, 2, seed=s), draw(3, 2, 2, seed=s + 1)) for s in (0, 2))

    def parts(z):
        return torch.view_as_real(z).flatten(1)

    found = ((parts(a) @ algorithm.left) * (parts(b) @ algorithm.right)) @ algorithm.out.T
    torch.testing.assert_close(found, parts(a @ b))
    assert algorithm.rank == 21


def test_quaternion_products():
    """i² = j² = k² = ijk = −1, with 8 multiplications."""
    torch.testing.assert_close(number_product(4).tensor(), number_tensor(4))
    _, i, j, k = torch.eye(4, dtype=torch.float64)

    def times(p, q):
        return torch.einsum("i,j,ijk->k", p, q, number_product(4).tensor())

    minus = torch.tensor([-1.0, 0, 0, 0]).double()
    for product in (times(i, i), times(j, j), times(k, k), times(times(i, j), k)):
        torch.testing.assert_close(product, minus)
    assert number_product(4).rank == 8


@pytest.mark.parametrize("group", GROUPS, ids=repr)
def test_matrices_over_numbers_are_homomorphisms(group):
    for irrep in group.irreps:
        entries = over_numbers(irrep)
        unit = number_tensor(irrep.commuting)
        product = torch.einsum("gijp,hjkq,pqr->ghikr", entries, entries, unit)
        torch.testing.assert_close(product, entries[group.table], atol=1e-9, rtol=0)


@pytest.mark.parametrize("group", GROUPS, ids=repr)
def test_composition_network_gives_characters(group):
    """Logits are sums of χ(ab c⁻¹); with all representations and weights they are 1 at c = ab and 0 elsewhere."""
    quotient = group.table[:, group.inverse]
    for irrep in (group.irreps[0], group.irreps[-1]):
        net = composition_network(group, [irrep.name], dtype=torch.float64)
        torch.testing.assert_close(net.tensor(), irrep.character[quotient[group.table]], atol=1e-9, rtol=0)
    whole = composition_network(group, scale="projector", dtype=torch.float64).tensor()
    exact = torch.nn.functional.one_hot(group.table, group.order).double()
    torch.testing.assert_close(whole, exact, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("group", "width"),
    [(FiniteGroup.symmetric(3), 9), (FiniteGroup.cyclic(7), 10), (FiniteGroup.symmetric(4), 55)],
    ids=repr,
)
def test_widths(group, width):
    """One for each trivial or sign, 7 and 23 for 2 and 3 dimensions, 3 for each rotation."""
    assert composition_network(group).left.embedding_dim == width


def test_known_logits_of_small_groups():
    """S_3: 2, 0 and -1; only faithful representations of S_4 compute its product; cosines of Z_n."""
    s3, s4, z9 = FiniteGroup.symmetric(3), FiniteGroup.symmetric(4), FiniteGroup.cyclic(9)
    logits = composition_network(s3, ["2a"]).tensor()
    assert sorted(logits[0, 0].round().tolist()) == [-1, -1, 0, 0, 0, 2]
    assert torch.equal(logits.argmax(2), s3.table)
    for name in ("3a", "3b"):
        top = composition_network(s4, [name], dtype=torch.float64)(all_pairs(24))
        assert torch.equal(top.argmax(1), s4.table.flatten())
    logits = composition_network(s4, ["2a"], dtype=torch.float64).tensor()
    ties = (logits > logits.amax(2, keepdim=True) - 1e-9).sum(2)
    assert (ties == 4).all()
    for k, irrep in enumerate(z9.irreps[1:], start=1):
        a, b, c = torch.meshgrid(*[torch.arange(9)] * 3, indexing="ij")
        cosine = 2 * torch.cos(2 * torch.pi * k * (a + b - c).double() / 9)
        torch.testing.assert_close(composition_network(z9, [irrep.name], dtype=torch.float64).tensor(), cosine)


def test_hadamard_net_is_its_tensor():
    net = HadamardNet(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(all_pairs(5)).reshape(5, 5, 5), net.tensor())
    rank = torch.linalg.matrix_rank(net.tensor().reshape(5, 25))
    assert rank == 3


def test_group_mlp_with_an_embedding_is_the_one_of_its_total_embedding():
    net = GroupMLP(6, 10, 4, generator=torch.Generator().manual_seed(0))
    tables = net.element_tables()
    plain = GroupMLP(6, 10)
    with torch.no_grad():
        plain.left.embed.copy_(tables["left"])
        plain.right.embed.copy_(tables["right"])
        plain.unembed.weight.copy_(tables["unembed"])
    pairs = all_pairs(6)
    torch.testing.assert_close(net(pairs), plain(pairs))
    one = torch.nn.functional.one_hot(pairs, 6).float()
    by_hand = (one[:, 0] @ tables["left"] + one[:, 1] @ tables["right"]).relu() @ tables["unembed"].T
    torch.testing.assert_close(net(pairs), by_hand)


def test_transformer_tells_the_two_places_apart():
    net = GroupTransformer(6, 16, 2, 32, generator=torch.Generator().manual_seed(0))
    pairs = all_pairs(6)
    assert net(pairs).shape == (36, 6)
    assert not torch.allclose(net(pairs), net(pairs.flip(1)))
    assert net.element_tables()["embed"].shape == (6, 16)


def test_weights_follow_the_generator():
    for make in (lambda g: HadamardNet(5, 3, generator=g), lambda g: GroupMLP(5, 3, 2, generator=g)):
        first, second = (make(torch.Generator().manual_seed(1)).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_refusals():
    group = FiniteGroup.symmetric(3)
    with pytest.raises(ValueError, match="1a, 1b, 2a"):
        composition_network(group, ["5a"])
    with pytest.raises(ValueError, match="at least one representation"):
        composition_network(group, [])
    with pytest.raises(ValueError, match="order and width"):
        HadamardNet(3, 0)
    with pytest.raises(ValueError, match="embedding at least 0"):
        GroupMLP(3, 4, -1)
    with pytest.raises(ValueError, match="nhead must divide"):
        GroupTransformer(3, 10, 4)


@pytest.mark.untyped
def test_unknown_scale():
    with pytest.raises(ValueError, match="scale must be"):
        composition_network(FiniteGroup.symmetric(3), scale="cosine")
