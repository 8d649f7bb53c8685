"""Chain graphs against enumeration by hand, closed forms of linear networks, and the networks they were made from."""

import copy
import itertools
import math

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.layers import RectifiedGaussian
from neurarium.learning import Backprop
from neurarium.theory import Categorical, ChainGraph, Gaussian, Rectified, TwoValued, feedforward_gap, node_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(model, scale=2.0):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(
                scale * torch.randn(p.shape, generator=seeded(p.numel()), dtype=torch.float64) / math.sqrt(p.shape[-1])
            )
    return model.double()


@pytest.fixture
def worked():
    """x -> two sigmoid units of inputs 0.3 and -0.2 -> one."""
    model = nn.Sequential(nn.Linear(1, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()).double()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([0.3, -0.2]))
        model[2].weight.copy_(torch.tensor([[2.0, -3.0]]))
        model[2].bias.fill_(-0.5)
    return ChainGraph(model)


def test_worked_numbers(worked):
    worked.requires_grad_(False)
    x = torch.zeros(1, 1, dtype=torch.float64)
    assert float(worked.infer(x)) == pytest.approx(0.33145, abs=1e-5)
    assert float(worked.infer(x, "exact")) == pytest.approx(0.39936, abs=1e-5)
    p = torch.tensor([0.3, -0.2]).sigmoid()
    mean, variance = float(2 * p[0] - 3 * p[1] - 0.5), float((torch.tensor([4, 9]) * p * (1 - p)).sum())
    probit = 1 / (1 + math.exp(-mean / math.sqrt(1 + math.pi * variance / 8)))  # the usual shortcut for the integral
    assert probit == pytest.approx(0.38537, abs=1e-5)
    assert float(worked.infer(x, "collapsed", sampled=())) == pytest.approx(0.38834, abs=1e-5)
    found = worked.infer(x, "sampled", samples=40_000, generator=seeded())
    assert float(found) == pytest.approx(0.39936, abs=0.006)


def brute(model, x):
    """Sum over all states of two hidden sigmoid layers, state by state."""
    total = torch.zeros(len(x), 3, dtype=torch.float64)
    first = model[0](x).sigmoid()
    for h1 in itertools.product((0.0, 1.0), repeat=model[0].out_features):
        h1 = torch.tensor(h1).double()
        p1 = torch.where(h1 > 0, first, 1 - first).prod(1)
        second = model[2](h1).sigmoid()
        for h2 in itertools.product((0.0, 1.0), repeat=model[2].out_features):
            h2 = torch.tensor(h2).double()
            p2 = torch.where(h2 > 0, second, 1 - second).prod()
            total += (p1 * p2)[:, None] * model[4](h2).softmax(0)
    return total


def three_layers():
    return drawn(
        nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 3)), 3.0
    )  # fmt: skip


def test_enumeration_is_the_sum_over_all_states():
    model, x = three_layers(), torch.randn(6, 4, dtype=torch.float64, generator=seeded())
    graph = ChainGraph(model, "categorical")
    torch.testing.assert_close(graph.infer(x, "exact"), brute(model, x))
    sampled = graph.infer(x, "sampled", samples=20_000, generator=seeded())
    torch.testing.assert_close(sampled, graph.infer(x, "exact"), atol=0.012, rtol=0)


def test_collapsing_is_nearer_to_the_truth_than_sampling_or_the_forward_pass():
    errors = {"feedforward": 0.0, "sampled": 0.0, "collapsed": 0.0}
    for seed in range(12):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 10), nn.Sigmoid(), nn.Linear(10, 10), nn.Sigmoid(), nn.Linear(10, 3))
        with torch.no_grad():
            for layer in model[::2]:
                layer.weight.normal_(0, 2 / math.sqrt(layer.in_features))
                layer.bias.normal_(0, 0.3)
        graph, x = ChainGraph(model, "categorical"), torch.randn(4, 8)
        exact = graph.infer(x, "exact")
        for method in errors:
            found = graph.infer(x, method, sampled=("1",), samples=16, generator=seeded(seed))
            errors[method] += float((found - exact).abs().sum(1).mean()) / 2 / 12
    assert errors["collapsed"] < 0.6 * errors["sampled"]
    assert errors["collapsed"] < 0.6 * errors["feedforward"]


def test_a_linear_gaussian_chain_is_closed():
    model = drawn(nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2)))
    graph = ChainGraph(model, "gaussian", nodes={"1": Gaussian(0.5)})
    x = torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    torch.testing.assert_close(graph.infer(x), model(x))
    torch.testing.assert_close(graph.infer(x, "collapsed", sampled=()), model(x))
    draws = torch.stack([graph.sample(x[:1], seeded(i))[0] for i in range(3000)])
    torch.testing.assert_close(draws.mean(0), model(x[:1])[0], atol=0.08, rtol=0)
    expected = 0.25 * model[2].weight @ model[2].weight.T
    torch.testing.assert_close(torch.cov(draws.T), expected.detach(), atol=0.1 * float(expected.abs().max()), rtol=0)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry, self.act = nn.Linear(4, 6), nn.Tanh()
        self.branch, self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        h = self.act(self.entry(x))
        h = h + torch.sigmoid(self.branch(h))
        return torch.cat([self.left(h), self.right(h).flatten(1)], 1)


class Pictures(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
            nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), nn.Linear(4, 3),
        )  # fmt: skip


def test_the_forward_pass_of_expectations_is_the_network():
    for model, x in ((three_layers(), torch.randn(4, 4).double()), (Residual(), torch.randn(4, 4))):
        graph = ChainGraph(model.eval(), "categorical")
        torch.testing.assert_close(graph.infer(x), model(x).softmax(1))
        torch.testing.assert_close(graph.eval()(x), model(x).log_softmax(1))
    relu = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(50, 4)
    bound = 0.0371 * relu[2].weight.abs().sum(1).max()
    apart = ChainGraph(relu, "gaussian").infer(x) - relu(x)
    assert 0 < float(apart.abs().max()) <= float(bound)
    exact = ChainGraph(relu, "gaussian", nodes={"1": Rectified(RectifiedGaussian(0.0))})
    torch.testing.assert_close(exact.infer(x), relu(x), atol=1e-5, rtol=1e-4)


def test_several_parents_and_pictures_are_read():
    graph = ChainGraph(Residual(), "categorical")
    assert [layer.parents for layer in graph.layers.values()] == [("x",), ("act",)]
    torch.manual_seed(1)
    pictures = Pictures().eval()
    graph, x = ChainGraph(pictures, "categorical"), torch.randn(3, 1, 6, 6)
    long = graph.infer(x, "sampled", samples=3000, generator=seeded())
    assert float((graph.infer(x, "collapsed", samples=300, generator=seeded()) - long).abs().max()) < 0.05
    assert "rectified" in graph.summary()
    assert len(graph.plot(plt.figure().gca()).texts) >= 3


def test_dropout_is_a_coin_on_every_unit():
    from neurarium.theory.chain_graph._moments import Moments, through_dropout, through_linear

    layer, drop = nn.Linear(5, 2).double(), nn.Dropout(0.3)
    x = torch.randn(1, 5, dtype=torch.float64, generator=seeded())
    found = through_linear(layer, through_dropout(drop, Moments(x)))
    torch.testing.assert_close(found.mean, layer(x))
    expected = (layer.weight * x / 0.7).square() @ torch.full((5,), 0.3 * 0.7).double()
    torch.testing.assert_close(found.variance, expected[None])
    draws = layer(drop.train()(x.expand(100_000, -1)))
    torch.testing.assert_close(draws.var(0), expected, rtol=0.03, atol=0)


def test_an_average_of_four_has_a_quarter_of_the_variance():
    from neurarium.theory.chain_graph._moments import Moments, through_average

    mean, variance = torch.randn(1, 2, 4, 4, generator=seeded()), torch.full((1, 2, 4, 4), 0.8)
    for layer, cells in ((nn.AvgPool2d(2), 4), (nn.AvgPool2d((4, 2)), 8), (nn.AdaptiveAvgPool2d(1), 16)):
        found = through_average(layer, Moments(mean, variance))
        torch.testing.assert_close(found.variance, torch.full_like(found.mean, 0.8 / cells))


def test_nodes_are_activations_and_their_laws_add_up():
    e = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for activation in (nn.Sigmoid(), nn.Tanh()):
        node = node_of(activation)
        torch.testing.assert_close(node.mean(e), activation(e))
        values = torch.tensor([node.low, node.high], dtype=torch.float64)[:, None].expand(2, 7)
        p = node.log_prob(values, e).exp()
        torch.testing.assert_close(p.sum(0), torch.ones(7).double())
        torch.testing.assert_close((p * values).sum(0), node.mean(e))
        torch.testing.assert_close((p * values.square()).sum(0) - node.mean(e).square(), node.variance(e))
    for activation in (nn.GELU(), nn.SiLU()):
        node = node_of(activation)
        torch.testing.assert_close(node.mean(e), activation(e))
        gates = node.draw(e.expand(100_000, 7), generator=seeded())
        torch.testing.assert_close(gates.mean(0), node.mean(e), atol=0.03, rtol=0)
        torch.testing.assert_close(gates.var(0), node.variance(e), atol=0.03, rtol=0.03)
    odd = TwoValued(-0.5, 2.0)
    weights = torch.stack([(odd.low * e).exp(), (odd.high * e).exp()])
    torch.testing.assert_close((odd.low * weights[0] + odd.high * weights[1]) / weights.sum(0), odd.mean(e))
    spread = torch.full_like(e, 1.5)
    draws = e + spread.sqrt() * torch.randn(200_000, 7, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(TwoValued().mean(e, spread), draws.sigmoid().mean(0), atol=2e-3, rtol=0)
    root = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.2, 1.0]], dtype=torch.float64)
    many = torch.randn(200_000, 3, generator=seeded(), dtype=torch.float64) @ root.T + e[2:5]
    torch.testing.assert_close(
        Categorical().mean(e[None, 2:5], (root @ root.T)[None])[0], many.softmax(1).mean(0), atol=0.01, rtol=0
    )
    one_hot = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(Categorical().log_prob(one_hot, e[None, 2:5]).exp(), e[2:5].softmax(0))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_training_with_layers_collapsed_trains_the_users_network(activation):
    torch.manual_seed(0)
    x, y = torch.randn(200, 6), torch.arange(200) % 3
    x[:, 0] += 2.0 * y
    model = nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3))
    before = copy.deepcopy(model.state_dict())
    graph = ChainGraph(model, "categorical")
    assert graph.sampled == ("1",)
    rule = Backprop(graph, cross_entropy)
    optimizer = torch.optim.Adam(rule.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(float(rule.assign_credit(x, y)))
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
    assert all(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert float((graph.eval()(x).argmax(1) == y).double().mean()) > 0.75
    assert graph.log_prob(y, x).mean() > -0.9


def test_the_gap_is_measured_layer_by_layer(worked):
    torch.manual_seed(0)
    graph = ChainGraph(three_layers(), "categorical")
    x = torch.randn(5, 4, dtype=torch.float64, generator=seeded())
    gap = feedforward_gap(graph, x, 4000, seeded())
    exact = float((graph.infer(x) - graph.infer(x, "exact")).abs().sum(1).mean()) / 2
    assert gap.total_variation == pytest.approx(exact, abs=0.02)
    assert gap.layers["1"] < 0.02 < gap.layers["3"]  # the first hidden layer's expectation is exact
    assert gap.noise < 0.02
    assert "total variation" in gap.summary()
    gap.plot(plt.figure().gca())
    assert feedforward_gap(worked, torch.zeros(1, 1).double(), 4000, seeded()).total_variation == pytest.approx(
        0.0679, abs=0.02
    )


def test_refusals():
    with pytest.raises(ValueError, match="LayerNorm"):
        ChainGraph(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)), "categorical")
    with pytest.raises(ValueError, match="no activation"):
        ChainGraph(nn.Linear(3, 2), "categorical")
    wide = ChainGraph(nn.Sequential(nn.Linear(3, 30), nn.Sigmoid(), nn.Linear(30, 2)), "categorical")
    with pytest.raises(ValueError, match=r"2\^30"):
        wide.infer(torch.zeros(1, 3), "exact")
    real = ChainGraph(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "gaussian")
    with pytest.raises(ValueError, match="two-valued"):
        real.infer(torch.zeros(1, 3), "exact")
    with pytest.raises(ValueError, match="chain"):
        ChainGraph(Residual(), "categorical").infer(torch.zeros(1, 4), "exact")
    with pytest.raises(ValueError, match="no layer 'head'"):
        wide.infer(torch.zeros(1, 3), "collapsed", sampled=("head",))
    with pytest.raises(ValueError, match="freeze"):
        ChainGraph(Pictures(), "categorical").infer(torch.zeros(2, 1, 6, 6))
    with pytest.raises(ValueError, match="categorical and two-valued"):
        real.log_prob(torch.zeros(1), torch.zeros(1, 3))
