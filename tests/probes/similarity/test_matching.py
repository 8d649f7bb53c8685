"""Matchings, the sparse mapping and the co-clusters against known answers and other libraries."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import SpectralCoclustering
from sklearn.linear_model import Lasso
from torch import nn

from neurarium.probes import (
    UnitCorrelation,
    align_permutation,
    co_cluster,
    match_units,
    sparse_mapping,
    unit_correlations,
)


def table_of(a, b):
    total = UnitCorrelation()
    total.update(a, b)
    return total.table()


def mixed(samples=3000, latent=6, a=9, b=7, noise=0.3, seed=0):
    torch.manual_seed(seed)
    z = torch.randn(samples, latent).double()
    x = z @ torch.randn(latent, a).double() + noise * torch.randn(samples, a).double()
    return x, z @ torch.randn(latent, b).double() + noise * torch.randn(samples, b).double()


def test_one_to_one_is_the_best_of_all_permutations_and_greedy_is_above_it():
    a, b = mixed(a=6, b=6)
    table = table_of(a, b)
    best = max(sum(table.matrix[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(6)))
    found = match_units(table)
    assert float(found.correlations.sum()) == pytest.approx(float(best), abs=1e-12)
    assert torch.equal(match_units(table, "greedy").correlations, table.matrix.amax(1))


def test_rectangular_layers_leave_units_without_partner():
    a, b = mixed(a=9, b=4)
    found = match_units(table_of(a, b))
    rows, columns = linear_sum_assignment(table_of(a, b).matrix.numpy(), maximize=True)
    assert found.pairs.tolist() == np.stack([rows, columns], 1).tolist()
    assert len(found.unmatched_a) == 5
    assert found.unmatched_b == ()
    with pytest.raises(ValueError, match="permutation"):
        _ = found.permutation


def test_dead_units_have_no_partner():
    a, b = mixed(a=4, b=4)
    a[:, 2] = 5
    found = match_units(table_of(a, b))
    assert found.unmatched_a == (2,)
    assert len(found.pairs) == 3


def test_cycles_return_where_matchings_agree():
    a, _ = mixed(a=6)
    order, other = torch.randperm(6), torch.randperm(6)
    b, c = a[:, order], a[:, other]
    steps = [match_units(table_of(x, y)) for x, y in ((a, b), (b, c), (c, a))]
    assert steps[0].returning(*steps[1:]) == 1
    swapped = match_units(table_of(c[:, [1, 0, 2, 3, 4, 5]], a))
    assert steps[0].returning(steps[1], swapped) == pytest.approx(4 / 6)


def shuffled_copy(norm=False):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 5),
        nn.Tanh(), nn.Linear(5, 3),
    )  # fmt: skip
    x = torch.randn(50, 1, 8, 8)
    for _ in range(3):
        model(x)
    return model.eval(), x


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("layer", "probed"), [("0", "2"), ("4", "5")])
def test_a_shuffled_network_is_matched_and_put_back(layer, probed, norm):
    model, x = shuffled_copy(norm)
    order = torch.randperm(8 if layer == "0" else 5)
    other = align_permutation(model, layer, order, x)
    assert torch.allclose(other(x), model(x), atol=1e-6)
    assert not torch.equal(other.get_submodule(layer).weight, model.get_submodule(layer).weight)
    found = match_units(unit_correlations(model, other, [x], [probed], [probed])[0])
    assert torch.equal(order[found.permutation], torch.arange(len(order)))
    assert torch.allclose(found.correlations, torch.ones(len(order)).double(), atol=1e-6)
    back = align_permutation(other, probed, found.permutation, x)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in back.state_dict().items())


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        h = self.first(x).relu()
        return self.last(h + self.second(h).relu())


def test_layers_that_cannot_be_rewired_are_explained():
    x = torch.randn(8, 4)
    with pytest.raises(ValueError, match="skip connection"):
        align_permutation(Skip(), "second", torch.tensor([1, 0, 2, 3, 4, 5]), x)
    model, images = shuffled_copy()
    with pytest.raises(ValueError, match="last layer"):
        align_permutation(model, "6", torch.arange(3), images)
    with pytest.raises(ValueError, match="each of the 8 units"):
        align_permutation(model, "0", torch.zeros(8, dtype=torch.long), images)
    with pytest.raises(ValueError, match="no layer '9'"):
        align_permutation(model, "9", torch.arange(8), images)


def test_the_path_equals_scikit_learns_lasso():
    a, b = mixed()
    table = table_of(a, b)
    found = sparse_mapping(table, (0.3, 0.05, 0.01))
    x, y = ((v - v.mean(0)) / v.std(0, correction=0) for v in (a, b))
    for k, penalty in enumerate(found.penalties):
        peer = Lasso(alpha=penalty, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(x.numpy(), y.numpy())
        assert np.allclose(found.weights[k], peer.coef_, atol=1e-5)
        residual = 0.5 * ((y - x @ torch.as_tensor(peer.coef_).T) ** 2).mean(0)
        assert torch.allclose(found.loss[k], residual, atol=1e-5)


def test_without_penalty_it_is_least_squares_and_a_large_one_predicts_nothing():
    a, b = mixed()
    table = table_of(a, b)
    found = sparse_mapping(table, (float(table.matrix.abs().max()), 0.0))
    assert float(found.weights[0].abs().max()) == 0
    assert torch.allclose(found.loss[0], torch.full((7,), 0.5).double())
    x, y = ((v - v.mean(0)) / v.std(0, correction=0) for v in (a, b))
    assert torch.allclose(found.weights[1], torch.linalg.lstsq(x, y).solution.T, atol=1e-8)


def test_a_rotated_layer_is_predicted_exactly_though_its_units_differ():
    a, _ = mixed(a=6)
    q = torch.linalg.qr(torch.randn(6, 6).double()).Q
    table = table_of(a, a @ q.T)
    found = sparse_mapping(table, (0.0,))
    assert float(found.loss.max()) < 1e-8
    recovered = found.weights[0] * table.std_b[:, None] / table.std_a
    assert torch.allclose(recovered, q, atol=1e-6)
    assert torch.allclose(table.canonical(torch.arange(6), torch.arange(6)), torch.ones(6).double(), atol=1e-6)
    assert float(match_units(table).correlations.mean()) < 0.95


def test_held_out_loss_is_that_of_the_training_standardisation():
    a, b = mixed(4000)
    train, test = table_of(a[:2000], b[:2000]), table_of(3 * a[2000:] + 1, b[2000:] - 1)
    found = sparse_mapping(train, (0.1, 0.0), held_out=test)
    x, y = ((v - v[:2000].mean(0)) / v[:2000].std(0, correction=0) for v in (a, b))
    x = (3 * a[2000:] + 1 - a[:2000].mean(0)) / a[:2000].std(0, correction=0)
    y = (b[2000:] - 1 - b[:2000].mean(0)) / b[:2000].std(0, correction=0)
    for k in range(2):
        assert torch.allclose(found.held_out[k], 0.5 * ((y - x @ found.weights[k].T) ** 2).mean(0), atol=1e-8)


def test_planted_blocks_are_found_as_scikit_learn_finds_them():
    torch.manual_seed(1)
    z = torch.randn(4000, 3).double()
    of_a, of_b = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1]), torch.tensor([2, 2, 1, 0, 1, 0, 2])
    a, b = (z[:, of] + 0.7 * torch.randn(4000, len(of)).double() for of in (of_a, of_b))
    table = table_of(a, b)
    for found in (co_cluster(table), co_cluster(table, 3)):
        assert len(found.counts) == 3
        joined, planted = torch.cat([found.labels_a, found.labels_b]), torch.cat([of_a, of_b])
        assert torch.equal(joined[:, None] == joined, planted[:, None] == planted)
    peer = SpectralCoclustering(3, random_state=0).fit(table.matrix.abs().numpy())
    labels = torch.as_tensor(np.concatenate([peer.row_labels_, peer.column_labels_])).long()
    assert torch.equal(labels[:, None] == labels, planted[:, None] == planted)
    assert bool((found.canonical > found.best_single).all())
    assert float(found.mass.min()) > 5 * found.outside
    with pytest.raises(ValueError, match="between 2 and 7"):
        co_cluster(table, 8)


def test_results_can_be_drawn_and_said():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    model, x = shuffled_copy()
    correlations = unit_correlations(model, model, [x], ["2", "5"], control="rotation")
    results = [correlations, correlations[0], match_units(correlations[0]), sparse_mapping(correlations[1]),
               co_cluster(correlations[0], 3)]  # fmt: skip
    for result in results:
        figure, ax = pyplot.subplots()
        assert result.plot(ax) is ax
        figure.canvas.draw()
        pyplot.close(figure)
        assert "\n" in result.summary() or len(result.summary()) > 30


def test_what_was_not_taken_is_named():
    a, b = mixed()
    total = UnitCorrelation(within=False)
    total.update(a, b)
    table = total.table()
    assert torch.allclose(table.matrix, table_of(a, b).matrix)
    for call in (sparse_mapping, table.__class__.rotated):
        with pytest.raises(ValueError, match="within=True"):
            call(table)
