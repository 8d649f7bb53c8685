"""What can be proved, what cannot, and what is counted."""

import pytest
import torch
from torch import nn

from neurarium.models import MonotonicNet
from neurarium.objectives import MonotonicityPenalty
from neurarium.probes import certify, monotonicity_violations

T = [1, -1, 0]
pytestmark = pytest.mark.untyped  # a traced forward is given proxies


class Residual(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return torch.relu(x) + self.body(x)


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


def positive_linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    layer.weight.data.abs_()
    return layer


def test_directions_of_a_hand_made_network():
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.0, 0.0]])
    model[2].weight.data = torch.tensor([[1.0, 3.0]])
    proof = certify(model, T)
    assert proof.proven
    assert proof.directions == ((1,), (-1,), (0,))
    model[2].weight.data = torch.tensor([[1.0, -3.0]])
    proof = certify(model, T)
    assert not proof.proven
    assert proof.directions == ((2,), (-1,), (0,))


def test_residual_sums_and_dropout_are_fine():
    model = nn.Sequential(
        MonotonicNet(T, (12,), 6), Residual(nn.Sequential(positive_linear(6, 6), nn.Tanh(), nn.Dropout(0.5))),
        positive_linear(6, 1),
    )  # fmt: skip
    assert certify(model, T).proven


def test_the_part_that_breaks_the_proof_is_named():
    net = MonotonicNet(T, (12, 12), 4)
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(net, norm, positive_linear(4, 1))
    assert certify(model, T).proven
    norm.weight.data[1] = -1.0
    proof = certify(model, T)
    assert not proof.proven
    assert "input 0 is lost at 1 (BatchNorm1d)" in proof.obstacle
    assert "sin" in certify(nn.Sequential(net, Sine(), positive_linear(4, 1)), T).obstacle
    assert "moves the other way" in certify(net, [-1, -1, 0]).obstacle
    assert "cannot be traced" in certify(_Branching(), T).obstacle


class _Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_the_proof_is_kept_as_plain_values():
    import json

    proof = certify(MonotonicNet(T), T)
    again = json.loads(json.dumps(proof.to_dict()))
    assert again["proven"]
    assert again["directions"] == [[1], [-1], [2]]
    assert "monotonic for all inputs" in proof.summary()


def test_violations_of_a_known_function():
    class Parabola(nn.Module):
        def forward(self, x):
            return x[:, 0] ** 2 + 3 * x[:, 1]

    x = torch.stack([torch.linspace(-2, 2, 401), torch.zeros(401)], 1)
    found = monotonicity_violations(Parabola(), x, [1, 1], step=0.1)
    shift = 0.1 * float(x[:, 0].std(correction=0))
    assert found.by_step[0] == pytest.approx(float((x[:, 0] < -shift / 2).double().mean()), abs=0.01)
    assert found.by_gradient[0] == pytest.approx(0.5, abs=0.01)
    assert found.by_step[1] == found.by_gradient[1] == 0
    assert found.worst > 0
    with pytest.raises(ValueError, match="at least one"):
        monotonicity_violations(Parabola(), x, [0, 0])
    with pytest.raises(ValueError, match="one column per direction"):
        monotonicity_violations(Parabola(), x, [1])


def test_the_penalty_is_the_mean_wrong_slope_and_trains():
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[-2.0, 0.5, -7.0]])
    penalty = MonotonicityPenalty([1, -1, 0], strength=2.0)
    x = torch.randn(8, 3)
    value = penalty(layer, x)
    assert float(value) == pytest.approx(2 * (2.0 + 0.5))
    value.backward()
    assert layer.weight.grad.tolist() == [[-2.0, 2.0, 0.0]]
    with pytest.raises(ValueError, match="not all 0"):
        MonotonicityPenalty([0, 0])
