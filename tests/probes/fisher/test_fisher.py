"""The Fisher diagonal against closed forms and brute force; overlap; perturbation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurarium.data import Arrays, Batches
from neurarium.models import CausalTransformer
from neurarium.probes import FisherDiagonal, fisher_diagonal, fisher_overlap, perturbation_curve
from neurarium.probes.fisher._squared_gradients import Traced


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


def classes(n=24, features=5, kinds=3):
    return Arrays(torch.randn(n, features), torch.randint(kinds, (n,)))


def brute_force(model, x, log_probability):
    """Mean squared per-example gradient, one backward pass each; ``log_probability`` gives (weight, value)."""
    model.eval()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for n in range(len(x)):
        for weight, value in log_probability(model(x[n : n + 1]), n):
            grads = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
            for name, g in zip(parameters, grads):
                if g is not None:
                    sums[name] += weight * g.square()
    return {name: value / len(x) for name, value in sums.items()}


def every_class(output, n):
    logp = output.log_softmax(-1).flatten()
    return [(logp[c].exp().item(), logp[c]) for c in range(len(logp))]


def same(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], msg=lambda m, name=name: f"{name}: {m}", **tolerance)


class Shared(nn.Module):
    """One linear layer used twice, and its weight a third time."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        hidden = torch.tanh(self.inner(torch.tanh(self.inner(x))))
        return self.out(hidden @ self.inner.weight)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(5, 4, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.cell(x[:, None].expand(-1, 3, -1))[0][:, -1])


def models():
    inplace = nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3))
    norm = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    norm(torch.randn(32, 5))  # running statistics that are not the initial ones
    conv = nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
    hooked = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    hooked[0].register_forward_hook(lambda m, i, o: torch.sin(o))
    tied = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 3))
    tied[2].weight = tied[0].weight
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3))
    return {
        "inplace": inplace, "norm": norm, "conv": conv, "hooked": hooked, "tied": tied, "parametrized": normed,
        "shared": Shared(), "recurrent": Recurrent(), "bare": nn.Linear(5, 3),
    }  # fmt: skip


@pytest.mark.parametrize("name", models())
def test_exact_estimator_equals_brute_force_on_any_module(name):
    model, data = models()[name], classes()
    found = fisher_diagonal(model, Batches(data, 7), "exact")
    same(found.values, brute_force(model, data.x, every_class))


def test_linear_layers_take_the_fast_path_and_others_do_not():
    x = torch.randn(4, 5)
    for name, fast in {"inplace": {"0", "2"}, "shared": {"out"}, "tied": {"3"}, "parametrized": {"2"}}.items():
        model = models()[name].eval()
        assert set(Traced(model, x, dict(model.named_parameters())).linear) == fast


def test_softmax_regression_closed_form():
    model, data = nn.Linear(4, 3), classes(50, 4)
    p = model(data.x).softmax(-1).detach()
    found = fisher_diagonal(model, Batches(data, 16), "exact").values
    wanted = torch.einsum("nc,ni->ci", p * (1 - p), data.x.square()) / 50
    torch.testing.assert_close(found["weight"], wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found["bias"], (p * (1 - p)).mean(0), rtol=1e-9, atol=1e-12)


def test_linear_regression_does_not_depend_on_targets_but_empirical_does():
    model, x = nn.Linear(4, 1), torch.randn(40, 4)
    data = [Arrays(x, torch.randn(40, 1) * size) for size in (1.0, 9.0)]
    exact = [fisher_diagonal(model, Batches(d, 8), "exact", loss="gaussian").values["weight"] for d in data]
    for found in exact:
        torch.testing.assert_close(found[0], x.square().mean(0))
    empirical = [fisher_diagonal(model, Batches(d, 8), "empirical", loss="gaussian").values["weight"] for d in data]
    residual = (data[1].y - model(x)).detach()
    torch.testing.assert_close(empirical[1][0], (residual * x).square().mean(0))
    assert float((empirical[0] - empirical[1]).abs().max()) > 1


def test_bernoulli_exact_equals_brute_force():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), torch.randn(9, 4)

    def outcomes(output, n):
        pairs = []
        for y in torch.cartesian_prod(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])):
            value = -F.binary_cross_entropy_with_logits(output[0], y, reduction="sum")
            pairs.append((value.exp().item(), value))
        return pairs

    data = Arrays(x, torch.randint(2, (9, 2)).double())
    found = fisher_diagonal(model, Batches(data, 4), "exact", loss=nn.BCEWithLogitsLoss())
    same(found.values, brute_force(model, x, outcomes))


def test_empirical_is_the_mean_of_squares_not_the_square_of_the_mean():
    model, data = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), classes(32)
    wanted = brute_force(model, data.x, lambda out, n: [(1.0, out.log_softmax(-1)[0, data.y[n]])])
    same(fisher_diagonal(model, Batches(data, 32), "empirical").values, wanted)
    custom = fisher_diagonal(model, Batches(data, 32), "empirical", loss=lambda out, y: F.cross_entropy(out, y) + 1)
    same(custom.values, wanted)


@pytest.mark.parametrize("estimator", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("loss", ["cross_entropy", "gaussian", "binary_cross_entropy"])
def test_batch_size_does_not_change_the_result(estimator, loss):
    model, data = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), classes(70)
    data = data if loss == "cross_entropy" else Arrays(data.x, torch.randint(2, (70, 3)).double())
    one, many = (
        fisher_diagonal(model, Batches(data, size), estimator, loss=loss, generator=torch.Generator().manual_seed(3))
        for size in (1, 64)
    )
    same(one.values, many.values, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("loss", ["cross_entropy", "gaussian"])
def test_sampled_estimates_converge_to_exact(loss):
    model, data = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), classes(5, 3)
    data = data if loss == "cross_entropy" else Arrays(data.x, torch.zeros(5, 3))
    exact = fisher_diagonal(model, Batches(data, 5), "exact", loss=loss).values
    often = Arrays(data.x.repeat(4000, 1), data.y.repeat(4000, *[1] * (data.y.dim() - 1)))
    sampled = fisher_diagonal(model, Batches(often, 1000), loss=loss).values
    for name, value in exact.items():
        assert float((sampled[name] - value).norm() / value.norm()) < 0.05


def test_causal_language_model_sums_log_probabilities_over_a_sequence():
    model = CausalTransformer(7, 8, 2, 1, 16, 6)
    x, y = torch.randint(7, (3, 5)), torch.randint(7, (3, 5))
    y[1, 2:] = -100  # padding

    def labelled(output, n):
        return [(1.0, -F.cross_entropy(output[0], y[n], reduction="sum"))]

    batches = [(x[:2], y[:2]), (x[2:], y[2:])]
    same(fisher_diagonal(model, batches, "empirical").values, brute_force(model, x, labelled))

    def any_token(output, n):
        logp = output[0].log_softmax(-1)
        return [(logp[t, c].exp().item(), logp[t, c]) for t in range(5) if y[n, t] != -100 for c in range(7)]

    same(fisher_diagonal(model, batches, "exact").values, brute_force(model, x, any_token))


def test_classes_in_the_second_dimension_as_in_segmentation():
    model = nn.Conv1d(2, 3, 1)
    x, y = torch.randn(4, 2, 6), torch.randint(3, (4, 6))

    def pixels(output, n):
        logp = output[0].log_softmax(0)
        return [(logp[c, t].exp().item(), logp[c, t]) for t in range(6) for c in range(3)]

    same(fisher_diagonal(model, [(x, y)], "exact").values, brute_force(model, x, pixels))


def test_model_is_left_as_it_was():
    model, data = models()["norm"], classes()
    model.train()
    model[3].eval()
    F.cross_entropy(model(data.x), data.y).backward()
    before = [t.clone() for t in (*model.state_dict().values(), *(p.grad for p in model.parameters()))]
    fisher_diagonal(model, Batches(data, 8))
    after = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    assert model.training
    assert not model[3].training


def test_samples_frozen_unused_and_clip():
    model, data = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), classes(20)
    model[0].weight.requires_grad_(False)
    first = fisher_diagonal(model, Batches(data, 8), "exact", samples=10)
    assert first.examples == 10
    assert "0.weight" not in first.values
    same(first.values, fisher_diagonal(model, Batches(data[:10], 3), "exact").values)
    clipped = fisher_diagonal(model, Batches(data, 8), "exact", clip=1e-3)
    assert max(float(v.max()) for v in clipped.values.values()) == pytest.approx(1e-3)

    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return self.used(x)

    assert float(fisher_diagonal(Spare(), Batches(data, 8)).values["spare.weight"].abs().sum()) == 0


def test_errors_name_what_is_wrong():
    model, data = nn.Linear(5, 3), classes()
    loader = Batches(data, 8)
    with pytest.raises(ValueError, match="'empirical' remains"):
        fisher_diagonal(model, loader, "sampled", loss=F.multi_margin_loss)
    with pytest.raises(ValueError, match="no examples"):
        fisher_diagonal(model, [])
    with pytest.raises(ValueError, match="parameter 'weight' is not finite"):
        fisher_diagonal(model, [(torch.full((2, 5), float("nan")), torch.zeros(2, dtype=torch.int64))], "empirical")
    with pytest.raises(ValueError, match=r"do not fit logits of shape \[24, 3\]"):
        fisher_diagonal(model, [(data.x, data.y[:, None])])
    with pytest.raises(ValueError, match="one row per example"):
        fisher_diagonal(nn.Sequential(model, nn.Flatten(0)), [(data.x, data.y)])
    with pytest.raises(ValueError, match="loss must be one of"):
        fisher_diagonal(model, loader, loss="hinge")
    with pytest.raises(ValueError, match="samples must be at least 1"):
        fisher_diagonal(model, loader, samples=0)


def diagonal(**values):
    return FisherDiagonal({name.replace("_", "."): v for name, v in values.items()}, 1, "exact")


def test_overlap_is_one_for_proportional_zero_for_disjoint_and_the_frechet_distance_between():
    a, b = torch.rand(3, 4), torch.rand(3)
    first = diagonal(l1_weight=a, l1_bias=b, l2_weight=torch.tensor([1.0, 0.0]))
    second = diagonal(l1_weight=5 * a, l1_bias=5 * b, l2_weight=torch.tensor([0.0, 2.0]))
    overlap = fisher_overlap(first, second)
    assert overlap.layers == pytest.approx({"l1": 1.0, "l2": 0.0})
    assert "l1 1.000" in overlap.summary()
    f, g = torch.rand(6), torch.rand(6)
    p, q = torch.diag(f / f.sum()), torch.diag(g / g.sum())
    distance = 0.5 * torch.trace(p + q - 2 * (p @ q).sqrt())
    assert fisher_overlap(diagonal(l_w=f), diagonal(l_w=g)).layers["l"] == pytest.approx(1 - float(distance))
    with pytest.raises(ValueError, match="same parameters"):
        fisher_overlap(first, diagonal(l1_weight=a))
    with pytest.raises(ValueError, match="'l2' is zero everywhere"):
        fisher_overlap(diagonal(l2_w=torch.zeros(2)), diagonal(l2_w=torch.ones(2)))


def test_noise_where_the_loss_is_flat_costs_nothing_and_elsewhere_it_does():
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 0, 0, 0], [-2.0, 0, 0, 0]]))
        model.bias.zero_()
    x = torch.randn(200, 4)
    x[:, 2:] = 0  # two inputs that never matter
    y = (x[:, 0] < 0).long()
    fisher = fisher_diagonal(model, [(x, y)], "exact")
    before = model.weight.detach().clone()
    curves = {
        kind: perturbation_curve(
            model, fisher, [(x, y)], (0.0, 3.0), kind, floor=1e-6, repeats=8, generator=torch.Generator().manual_seed(0)
        )
        for kind in ("uniform", "inverse-fisher", "null-space")
    }
    assert torch.equal(before, model.weight)
    assert all(curve.scores[0] == 1 for curve in curves.values())
    assert curves["null-space"].scores[1] == 1
    assert curves["inverse-fisher"].scores[1] > 0.97
    assert curves["uniform"].scores[1] < 0.9
    with pytest.raises(ValueError, match="no weight has Fisher information below"):
        perturbation_curve(model, diagonal(weight=torch.ones(2, 4)), [(x, y)], [1.0], "null-space", floor=0.1)
    with pytest.raises(ValueError, match="another model"):
        perturbation_curve(model, diagonal(other=torch.ones(2)), [(x, y)], [1.0])


def test_results_draw_themselves():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    model, data = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), classes()
    fisher = fisher_diagonal(model, Batches(data, 8), "exact")
    assert "trace" in fisher.summary()
    curve = perturbation_curve(model, fisher, Batches(data, 8), [0.1, 1.0], repeats=1)
    assert "inverse-fisher noise" in curve.summary()
    for result in (fisher, fisher_overlap(fisher, fisher), curve):
        figure, ax = plt.subplots()
        assert result.plot(ax) is ax
        plt.close(figure)
