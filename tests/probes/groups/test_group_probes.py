"""Group probes on networks whose representations are known, and against brute force."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from neurarium.data import FiniteGroup, all_pairs
from neurarium.models import GroupMLP, GroupTransformer, HadamardNet, composition_network
from neurarium.probes import ablate_representations, isotypic_energy, representation_evidence, universality

S3, S4 = FiniteGroup.symmetric(3), FiniteGroup.symmetric(4)


class Logits(nn.Module):
    """A table of answers."""

    def __init__(self, tensor):
        super().__init__()
        self.tensor = nn.Parameter(tensor)

    def forward(self, pairs):
        return self.tensor[pairs[:, 0], pairs[:, 1]]


def mlp(group=S3, seed=0):
    return GroupMLP(group.order, 12, 5, generator=torch.Generator().manual_seed(seed)).double()


def test_exact_network_is_explained_wholly():
    net = composition_network(S4, ["2a", "3a"], dtype=torch.float64)
    found = representation_evidence(net, S4, hidden="unembed:input")
    assert found.key == ("2a", "3a")
    assert found.faithful
    assert found.logit_fve == pytest.approx(1)
    torch.testing.assert_close(found.weights, torch.tensor([0, 0, 1.0, 1.0, 0]).double())
    torch.testing.assert_close(found.similarity[2:4], torch.full((2,), math.sqrt(0.5)).double())  # equal norms
    for share in found.tables.values():
        assert float(share[2] + share[3]) == pytest.approx(1)
    assert float(found.hidden["ab"][[1, 4]].sum()) < 1e-12
    assert found.restricted_accuracy == found.accuracy == 1


def test_only_faithful_representations_give_the_product():
    three = representation_evidence(composition_network(S4, ["3b"], dtype=torch.float64), S4)
    two = representation_evidence(composition_network(S4, ["2a"], dtype=torch.float64), S4)
    assert three.faithful
    assert three.restricted_accuracy == 1
    assert not two.faithful
    assert two.restricted_accuracy == 0  # always tied with three others


def test_similarity_and_variance_by_brute_force():
    net = mlp()
    found = representation_evidence(net, S3)
    logits = net(all_pairs(6)).detach()
    centred = logits - logits.mean(1, keepdim=True)
    quotient = S3.table[S3.table.flatten()][:, S3.inverse]
    for i, irrep in enumerate(S3.irreps[1:], start=1):
        trace = irrep.character[quotient]
        cosine = (centred * trace).sum(1) / centred.norm(dim=1) / trace.norm(dim=1)
        assert float(found.similarity[i]) == pytest.approx(float(cosine.mean()))
    traces = torch.stack([irrep.character[quotient].flatten() for irrep in S3.irreps[1:]], 1)
    fit = torch.linalg.lstsq(traces, centred.flatten()[:, None]).solution
    torch.testing.assert_close(found.weights[1:], fit.flatten())
    left = centred.flatten() - (traces @ fit).flatten()
    assert float(found.explained.sum()) == pytest.approx(float(1 - left.square().sum() / centred.square().sum()))
    assert found.loss == pytest.approx(float(cross_entropy(logits, S3.table.flatten())))


def test_random_logits_are_not_explained():
    """Of n²(n − 1) dimensions the traces span as many as there are representations."""
    shares = []
    for seed in range(20):
        tensor = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(seed)).double()
        shares.append(float(representation_evidence(Logits(tensor), S4).explained.sum()))
    assert sum(shares) / 20 == pytest.approx(4 / (24 * 24 * 23), rel=0.4)


def test_shares_of_tables_sum_to_one_and_those_of_ab_by_brute_force():
    net = mlp()
    found = representation_evidence(net, S3, hidden="unembed:input")
    for share in found.tables.values():
        assert float(share.sum()) == pytest.approx(1)
    pairs = all_pairs(6)
    hidden = net.activation(net.left(pairs[:, 0]) + net.right(pairs[:, 1])).detach()
    centred = hidden - hidden.mean(0)
    for word, value in (("a", pairs[:, 0]), ("b", pairs[:, 1]), ("ab", S3.table.flatten())):
        for i, irrep in enumerate(S3.irreps[1:], start=1):
            q = torch.linalg.qr(irrep.matrices.flatten(1)[value])[0]
            share = (q.T @ centred).square().sum() / centred.square().sum()
            assert float(found.hidden[word][i]) == pytest.approx(float(share))


def test_removing_nothing_changes_nothing():
    net = mlp()
    for at in (None, {"unembed:input": "ab"}, {"left": "a", "right": "b"}):
        for options in ({"remove": ()}, {"keep": [irrep.name for irrep in S3.irreps]}):
            assert abs(ablate_representations(net, S3, at=at, batch_size=7, **options).increase) < 1e-6


def test_removal_from_an_exact_network():
    """In any place, taking one of two representations out leaves the network of the other."""
    both = composition_network(S4, ["2a", "3a"], dtype=torch.float64)
    target = S4.table.flatten()
    expected = composition_network(S4, ["2a"], dtype=torch.float64)(all_pairs(24))
    wanted = cross_entropy(expected, target, reduction="none")
    for at in (None, {"unembed:input": "ab"}, {"left": "a"}, {"right": "b"}, {"left": "a", "right": "b"}):
        found = ablate_representations(both, S4, remove=["3a"], at=at)
        torch.testing.assert_close(found.losses, wanted)
        kept = ablate_representations(both, S4, keep=["2a"], at=at)
        torch.testing.assert_close(kept.losses, wanted)
        assert set(kept.removed) == {"1b", "3a", "3b"}


def test_hidden_ablation_by_brute_force():
    net = mlp()
    pairs, target = all_pairs(6), S3.table.flatten()
    hidden = net.activation(net.left(pairs[:, 0]) + net.right(pairs[:, 1])).detach()
    q = torch.linalg.qr(S3.irrep("2a").matrices.flatten(1)[target])[0]
    logits = net.unembed(hidden - q @ (q.T @ hidden)).detach()
    found = ablate_representations(net, S3, remove=["2a"], at={"unembed:input": "ab"}, batch_size=5)
    torch.testing.assert_close(found.losses, cross_entropy(logits, target, reduction="none"))


def test_words_that_miss_elements():
    """Commutators reach a part of the group only, and some elements more often than others."""
    value = S3.word("abAB").flatten()
    torch.manual_seed(0)
    logits = torch.randn(6, 6, 6).double()
    net = nn.Sequential(Logits(logits), nn.Linear(6, 6).double())
    found = representation_evidence(net, S3, word="abAB", hidden="0")
    centred = logits.reshape(36, 6) - logits.reshape(36, 6).mean(0)
    for i, irrep in enumerate(S3.irreps):
        entries = irrep.matrices.flatten(1)[value]
        inside = entries @ torch.linalg.lstsq(entries, centred, driver="gelsd").solution
        share = inside.square().sum() / centred.square().sum()
        assert float(found.hidden["abAB"][i]) == pytest.approx(float(share), abs=1e-12)


def test_isotypic_energy_of_exact_and_random_logits():
    exact = one_hot(S4.table, 24).double()
    found = isotypic_energy(exact, S4)
    assert found.inside == pytest.approx(1)
    ranks = torch.tensor([irrep.rank for irrep in S4.irreps]).double()
    torch.testing.assert_close(found.by_irrep[1:], ranks[1:] / ranks[1:].sum())
    assert int(found.support.sum()) == 5
    random = isotypic_energy(torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0)).double(), S4)
    unstructured = float(sum(irrep.rank**3 for irrep in S4.irreps[1:])) / (24 * 24 * 23)
    assert random.inside == pytest.approx(unstructured, abs=0.02)
    net = composition_network(S4, ["3a"], dtype=torch.float64)
    assert isotypic_energy(net, S4).strongest(1)[0] == (("3a",) * 3, pytest.approx(1), True)
    assert float(isotypic_energy(net, S4).tables["left"][3]) == pytest.approx(1)


def test_universality_of_known_networks():
    nets = [composition_network(S4, names) for names in (["3a"], ["3a", "2a"], ["3b"])]
    table = universality(nets, S4)
    assert table.key == (("3a",), ("2a", "3a"), ("3b",))
    assert table.jaccard == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert table.spread == pytest.approx(1, abs=1e-6)
    assert table.faithful == (True, True, True)
    assert math.isnan(table.order_correlation)


def test_order_of_appearance():
    def grown(*steps):
        return [composition_network(S4, names) for names in steps]

    first = grown(["1b"], ["1b", "3a"], ["1b", "3a", "2a"])
    second = grown(["2a"], ["2a", "3a"], ["1b", "3a", "2a"])
    table = universality([first, second, first], S4)
    assert table.appeared[0] == (-1, 0, 2, 1, -1)
    assert table.appeared[1] == (-1, 2, 0, 1, -1)
    assert table.order_correlation == pytest.approx((-1 + 1 - 1) / 3)


def test_works_on_a_transformer_and_on_a_module_without_tables():
    found = representation_evidence(GroupTransformer(6, 16, 2, 32), S3, hidden="hidden")
    assert set(found.tables) == {"embed", "unembed"}
    bare = nn.Sequential(nn.Embedding(6, 4), nn.Flatten(), nn.Linear(8, 6))
    assert representation_evidence(bare, S3, hidden="1").tables == {}
    given = representation_evidence(bare, S3, tables={"embedding": bare[0].weight})
    assert float(given.tables["embedding"].sum()) == pytest.approx(1)


def test_results_speak_and_draw():
    net = mlp()
    evidence = representation_evidence(net, S3, hidden="unembed:input")
    ablation = ablate_representations(net, S3, remove=["2a"])
    energy, table = isotypic_energy(net, S3), universality([net, mlp(seed=1)], S3)
    for result, sentence in (
        (evidence, "key representations"), (ablation, "without 2a: loss"), (energy, "strongest blocks"),
        (table, "weak universality"),
    ):  # fmt: skip
        figure, ax = plt.subplots()
        assert sentence in result.summary()
        assert result.plot(ax) is ax
        plt.close(figure)


def test_refusals():
    net = mlp()
    with pytest.raises(ValueError, match="must give 24 logits"):
        representation_evidence(Logits(torch.zeros(24, 24, 5)), S4)
    with pytest.raises(ValueError, match="1a, 1b, 2a"):
        ablate_representations(net, S3, remove=["9z"])
    with pytest.raises(ValueError, match="not both"):
        ablate_representations(net, S3, remove=["2a"], keep=["1b"])
    with pytest.raises(ValueError, match="no layer 'hiden'"):
        representation_evidence(net, S3, hidden="hiden")
    with pytest.raises(ValueError, match="a row for each of the 6 elements"):
        representation_evidence(net, S3, tables={"t": torch.zeros(5, 2)})
    with pytest.raises(ValueError, match="at least one network"):
        universality([], S3)
    with pytest.raises(ValueError, match="all pairs of at most 1000"):
        representation_evidence(HadamardNet(1001, 1), FiniteGroup.cyclic(1001))
