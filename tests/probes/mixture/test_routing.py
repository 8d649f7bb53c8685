"""Routing shares and costs against counts by hand."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from neurarium.layers import MLPKAN, MixtureOfExperts, kan_expert, mlp_expert
from neurarium.probes import mixture_cost, routing


def forced(d: int = 4) -> MixtureOfExperts:
    """The sign of the first number decides: a perceptron for positive, a Kolmogorov-Arnold network for negative."""
    layer = MixtureOfExperts([mlp_expert(d, 3), kan_expert(d, 3)], d, top_k=1)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.weight[0, 0], layer.gate.weight[1, 0] = 50.0, -50.0
    return layer


def test_shares_by_class_and_position_are_the_counts() -> None:
    x = torch.ones(6, 3, 4)
    x[:, 2] = -1  # the last of three places goes to the Kolmogorov-Arnold network
    x[4:, 1] = -1  # and in class 7 the middle one, too
    y = torch.tensor([2, 2, 2, 2, 7, 7])
    found = routing(nn.Sequential(forced()), [(x[:3], y[:3]), (x[3:], y[3:])])
    assert found.layers == ("0",)
    assert found.kan == ((False, True),)
    assert found.kan_share == pytest.approx((8 / 18,))
    torch.testing.assert_close(found.shares[0], torch.tensor([10 / 18, 8 / 18]))
    assert found.kan_by_class == {2: pytest.approx((1 / 3,)), 7: pytest.approx((2 / 3,))}
    assert found.kan_by_position[0] == pytest.approx((0, 1 / 3, 1))
    assert found.entropy == pytest.approx((0.0,), abs=1e-6)
    assert "44% to KAN experts" in found.summary()
    _, ax = plt.subplots()
    found.plot(ax)
    plt.close()


def test_a_soft_router_shares_sum_to_one() -> None:
    model = nn.Sequential(MLPKAN(4, 2, 2, router="soft", slots=2))
    found = routing(model, [(torch.randn(5, 3, 4), torch.arange(5))])
    assert float(found.shares[0].sum()) == pytest.approx(1)
    assert 0 < found.entropy[0] <= 1
    assert 0 < found.kan_share[0] < 1


def test_costs_are_counted_by_hand() -> None:
    d, h, n = 6, 4, 10
    model = nn.Sequential(nn.Linear(d, d), MixtureOfExperts([mlp_expert(d, h) for _ in range(4)], d))
    found = mixture_cost(model, torch.randn(n, d))
    expert = 2 * d * h + h + d
    assert found.parameters == d * d + d + 4 * expert + 4 * d
    assert found.active_parameters == d * d + d + 2 * expert + 4 * d
    outside, each = 2 * n * (d * d + 4 * d), 2 * n * 2 * d * h
    assert found.flops == outside + 2 * each
    assert found.dense_flops == outside + 4 * each
    soft = mixture_cost(MLPKAN(6, 1, 1, router="soft"), torch.randn(2, 3, 6))
    assert soft.flops == soft.dense_flops
    assert soft.parameters == soft.active_parameters
    assert "in use" in found.summary()


def test_what_has_no_mixture_is_refused() -> None:
    with pytest.raises(ValueError, match="no MixtureOfExperts"):
        routing(nn.Linear(2, 2), [(torch.zeros(1, 2), torch.zeros(1))])
    with pytest.raises(ValueError, match="no MixtureOfExperts"):
        mixture_cost(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no batches"):
        routing(MLPKAN(4), [])
