"""Maximal learning rates on problems whose answer is known, Lanczos against dense eigenvalues, the law."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.learning import DirectFeedbackAlignment
from neurarium.models import plain_mlp
from neurarium.probes import NoLearningRate, learning_rate_law, maximal_learning_rate, sharpness
from neurarium.probes.training_speed._learning_rate import input_scaled_groups, search


def test_on_a_quadratic_it_is_two_over_the_largest_curvature():
    curvature = torch.tensor([0.3, 2.0, 5.0])

    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return 0.5 * (curvature * self.w**2).sum()

    found = maximal_learning_rate(
        lambda restart: Bowl(), lambda output, y: output, lambda restart: [(0, torch.zeros(()))],
        lambda model: 1 - float(model(0).detach() / (0.5 * curvature.sum())), threshold=0.9, steps=400,
        input_scale=1.0, tolerance=0.01, restarts=1,
    )  # fmt: skip
    assert found.value == pytest.approx(2 / 5, rel=0.02)
    assert found.interval[0] < 0.4 < found.interval[1] * 1.01
    assert found.monotone


def test_a_synthetic_law_is_recovered():
    sizes = [(d, n) for d in (2, 4, 8) for n in (32, 64, 128)]
    rates = {
        (d, n): search(lambda rate, d=d, n=n: float(rate < 3 * (d * n) ** -0.7), tolerance=0.05).value for d, n in sizes
    }
    law = learning_rate_law(rates)
    assert law.exponent == pytest.approx(0.7, abs=0.03)
    assert law.constant == pytest.approx(3, rel=0.1)
    assert law.depth_exponent == pytest.approx(law.width_exponent, abs=0.05)
    assert law.r2 > 0.99
    assert law.predict(16, 256) == pytest.approx(3 * (16 * 256) ** -0.7, rel=0.15)
    assert law.interval[0] <= law.exponent <= law.interval[1]


def test_what_is_censored_is_said_and_not_fitted():
    found = search(lambda rate: 1.0, low=1.0, cap=10.0)
    assert found.censored
    assert found.value == math.inf
    with pytest.raises(ValueError, match="three finite rates"):
        learning_rate_law([(2, 8, 0.1), (2, 16, math.inf), (4, 8, 0.2)])
    with pytest.raises(ValueError, match="fails at every rate"):
        search(lambda rate: 0.0)
    late = search(lambda rate: float(0.5 < rate < 7), low=0.01)
    assert late.value == pytest.approx(7, rel=0.1)
    assert late.monotone


def test_sharpness_of_least_squares_and_softmax_regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    model = nn.Linear(7, 1, bias=False).double()
    found = sharpness(model, lambda o, y: 0.5 * mse_loss(o, y), x, torch.zeros(50, 1, dtype=torch.float64), k=3)
    expected = np.linalg.eigvalsh((x.T @ x / 50).numpy())[::-1]
    assert found.eigenvalues == pytest.approx(expected[:3], rel=1e-5)
    assert found.smallest == pytest.approx(expected[-1], rel=1e-4)
    softmax = nn.Linear(7, 2, bias=False).double()
    nn.init.zeros_(softmax.weight)
    value = sharpness(softmax, cross_entropy, x[:1], torch.tensor([0])).largest
    assert value == pytest.approx(0.5 * float(x[0].square().sum()), rel=1e-8)


@pytest.mark.parametrize("exclude", [(), ("0.weight", "0.bias")])
def test_lanczos_is_the_dense_hessian(exclude):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randint(3, (30,))
    found = sharpness(model, cross_entropy, x, y, k=2, exclude=exclude, tolerance=1e-7)
    names = [n for n, _ in model.named_parameters() if n not in exclude]
    values = {n: p.detach() for n, p in model.named_parameters()}
    sizes = [values[n].numel() for n in names]

    def of(flat):
        parts = {n: p.view_as(values[n]) for n, p in zip(names, flat.split(sizes), strict=True)}
        return cross_entropy(torch.func.functional_call(model, {**values, **parts}, (x,)), y)

    dense = torch.func.hessian(of)(torch.cat([values[n].flatten() for n in names]))
    expected = torch.linalg.eigvalsh(dense)
    assert found.eigenvalues == pytest.approx(expected.flip(0)[:2].tolist(), rel=1e-4)
    assert found.smallest == pytest.approx(float(expected[0]), rel=1e-2)
    assert found.largest_magnitude == max(found.largest, found.smallest, key=abs)
    with pytest.raises(ValueError, match="no trainable parameter"):
        sharpness(model, cross_entropy, x, y, exclude=("9.weight",))
    with pytest.raises(ValueError, match="k must be"):
        sharpness(model, cross_entropy, x, y, k=0)


def test_curvature_at_the_start_grows_with_width_and_depth():
    torch.manual_seed(0)
    x, y = torch.randn(64, 20), torch.randint(4, (64,))

    def mean(depth, width):
        found = []
        for seed in range(20):
            model = plain_mlp(20, 4, width=width, depth=depth, generator=torch.Generator().manual_seed(seed))
            found.append(sharpness(model, cross_entropy, x, y, exclude=("0.weight", "0.bias"), tolerance=1e-2).largest)
        return sum(found) / len(found)

    assert mean(2, 256) / mean(2, 128) == pytest.approx(2, rel=0.25)
    assert mean(4, 128) / mean(2, 128) == pytest.approx(2, rel=0.25)


def test_sharpness_does_not_depend_on_the_order_of_parameters():
    torch.manual_seed(0)
    parts = {"entry": nn.Linear(5, 9), "leave": nn.Linear(9, 3)}

    class Net(nn.Module):
        def __init__(self, order):
            super().__init__()
            for name in order:
                self.add_module(name, parts[name])

        def forward(self, x):
            return self.leave(torch.tanh(self.entry(x)))

    x, y = torch.randn(20, 5), torch.randint(3, (20,))
    one, other = (
        sharpness(Net(order), cross_entropy, x, y, k=2, tolerance=1e-7).eigenvalues
        for order in (("entry", "leave"), ("leave", "entry"))
    )
    assert one == pytest.approx(other, rel=1e-4)
    groups = [input_scaled_groups(Net(("leave", "entry")), 0.5, 0.1, x=given) for given in (x, None)]
    assert [found[0]["params"][0] is parts[name].weight for found, name in zip(groups, parts)] == [True, True]


def test_only_the_first_layer_is_slowed_and_any_rule_can_be_probed():
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    groups = input_scaled_groups(model, 0.5)
    assert [g["lr"] for g in groups] == [0.005, 0.5]
    assert groups[0]["params"] == list(model[1].parameters())
    assert len(groups[1]["params"]) == 4
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long()

    def make(restart):
        torch.manual_seed(restart)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))

    def score(model):
        return float((model(x).argmax(1) == y).float().mean())

    used = []
    found = maximal_learning_rate(
        make, cross_entropy, lambda restart: [(x, y)], score, threshold=0.9, chance=0.5, steps=60, low=0.1,
        rule=DirectFeedbackAlignment, input_scale=1.0, restarts=3, budget_used=used,
    )  # fmt: skip
    assert 0.1 < found.value < 1000
    assert used
    assert max(used) <= 1
    with pytest.raises(ValueError, match="loader gives no batches"):
        maximal_learning_rate(make, cross_entropy, lambda restart: [], score, threshold=0.9, steps=5)
    with pytest.raises(ValueError, match="no parameter to train"):
        input_scaled_groups(nn.ReLU(), 0.1)
    with pytest.raises(ValueError, match=r"between chance, 0\.5"):
        maximal_learning_rate(make, cross_entropy, lambda r: [(x, y)], score, threshold=0.5, chance=0.5, steps=5)


def test_sharpness_leaves_the_model_as_it_was_and_says_the_same_twice():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[1].eval()  # frozen by the user
    x, y = torch.randn(20, 4), torch.randint(3, (20,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (sharpness(model, cross_entropy, x, y, generator=torch.Generator().manual_seed(0)) for _ in "12")
    assert first == second
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model] == [True, False, True, True]
    assert model[0].weight.grad is None
    with torch.no_grad():
        assert sharpness(model, cross_entropy, x, y).largest == pytest.approx(first.largest, rel=1e-3)


def test_an_island_above_the_answer_is_no_answer():
    def succeeds(rate):
        return float(0 < rate < 0.1 or 0.3 < rate < 0.4)

    for low in (0.2, 0.15, 0.01, 0.28):
        found = search(succeeds, low=low, tolerance=0.01)
        assert found.value == pytest.approx(0.1, rel=0.01), low
    for low in (0.2, 0.05, 3.0, 1e-7, 1e3):  # and it goes the right way where it knows which
        narrow = search(lambda r: float(0.04 < r < 0.07), low=low, tolerance=0.01, too_large=lambda r: r >= 0.07)
        assert narrow.value == pytest.approx(0.07, rel=0.01)
        assert len(narrow.trials) < 60
    with pytest.raises(NoLearningRate, match=r"up to .* the budget is too small"):
        search(lambda r: 0.0, low=0.1, too_large=lambda r: r > 1)
    with pytest.raises(NoLearningRate, match="training fails at every rate"):
        search(lambda r: 0.0, low=0.1)


class Rooted(nn.Module):
    """Parameters of its own that inputs meet late, and one that they do not meet at all by itself."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.floor = nn.Parameter(torch.zeros(1))
        self.leave, self.entry = nn.Linear(5, 3), nn.Linear(4, 5)

    def forward(self, x):
        floor = self.floor.exp()
        return self.gain * self.leave(torch.relu(self.entry(x / 2))) + floor


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.layer(x * self.scale.exp())


def test_the_input_layer_is_what_inputs_meet_first():
    x, model = torch.randn(2, 4), Rooted()
    for given, wanted in ((x, [model.entry.weight, model.entry.bias]), (None, [model.leave.weight, model.leave.bias])):
        slow, rest = input_scaled_groups(model, 0.5, 0.1, x=given)
        assert [id(p) for p in slow["params"]] == [id(p) for p in wanted]
        assert (slow["lr"], rest["lr"]) == (0.05, 0.5)
        assert len(rest["params"]) == 4
    scaled = Scaled()
    assert input_scaled_groups(scaled, 0.5, x=x)[0]["params"] == [scaled.scale]
    lstm = nn.Sequential(nn.LSTM(4, 3))
    assert len(input_scaled_groups(lstm, 0.5, x=torch.randn(5, 2, 4))[0]["params"]) == 4
    conv = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 2, 3)), nn.Conv1d(2, 2, 1))
    found = {id(p) for p in input_scaled_groups(conv, 0.5, x=torch.randn(2, 4, 8))[0]["params"]}
    assert found == {id(p) for p in conv[0].parameters()}
