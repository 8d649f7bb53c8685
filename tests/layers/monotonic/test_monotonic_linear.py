"""Monotonic layers against their formulas and their guarantee."""

import pytest
import torch
import torch.nn.functional as F

from neurarium.layers import InputUnits, MonotonicActivation, MonotonicKANLinear, MonotonicLinear


def ordered_pairs(count, directions, seed=0):
    """x and x' with x' at least as far as x along every held input, and equal elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, len(directions), generator=generator, dtype=torch.float64) * 2
    return x, x + torch.rand(x.shape, generator=generator, dtype=torch.float64) * 3 * torch.tensor(directions)


@pytest.mark.parametrize("kind", [MonotonicLinear, InputUnits, MonotonicKANLinear])
@pytest.mark.parametrize("seed", range(3))
def test_no_output_falls_between_ordered_pairs(kind, seed):
    directions = [1, -1, 0, 1]
    torch.manual_seed(seed)
    layer = kind(4, 6, monotonicity=directions, dtype=torch.float64) if kind is not InputUnits else kind(
        4, 6, directions, dtype=torch.float64)  # fmt: skip
    x, later = ordered_pairs(10_000, [float(t) for t in directions], seed)
    assert bool((layer(later) >= layer(x) - 1e-12).all())
    assert bool((layer(later) > layer(x) + 1e-3).any())


def test_bounded_unit_of_a_rectifier_is_a_clipped_identity():
    x = torch.linspace(-3, 3, 61)
    assert torch.allclose(MonotonicActivation("relu", (0, 0, 1))(x[:, None])[:, 0], x.clamp(-1, 1), atol=1e-6)


def test_bounded_unit_of_elu_by_its_formula():
    x = torch.arange(-60, 61, dtype=torch.float64) / 10
    expected = torch.where(x < 0, F.elu(x + 1) - 1, -F.elu(-(x - 1)) + 1)
    found = MonotonicActivation("elu", (0, 0, 1))(x[:, None])[:, 0]
    assert torch.allclose(found, expected)
    assert found[60] == 0
    far = MonotonicActivation("elu", (0, 0, 1))(torch.tensor([[-50.0], [50.0]]))
    assert torch.allclose(far.flatten(), torch.tensor([-2.0, 2.0]))
    zero = torch.zeros(1, 1, requires_grad=True)
    MonotonicActivation("elu", (0, 0, 1))(zero).backward()
    assert float(zero.grad) == 1.0  # the slope at the joint is that of both sides


def test_a_free_convex_layer_is_a_linear_map_and_its_activation():
    layer = MonotonicLinear(5, 7, 0, "relu", ratios=(1, 0, 0))
    x = torch.randn(3, 4, 5)
    assert torch.equal(layer(x), F.relu(F.linear(x, layer.weight, layer.bias)))


def test_convex_units_obey_the_midpoint_inequality_and_concave_ones_its_opposite():
    a, b = (torch.randn(10_000, 4, dtype=torch.float64) for _ in range(2))
    for options, sign in (({"convex": True}, 1), ({"concave": True}, -1)):
        layer = MonotonicLinear(4, 5, [1, -1, 1, 0], dtype=torch.float64, **options)
        excess = (layer(a) + layer(b)) / 2 - layer((a + b) / 2)
        assert bool((sign * excess >= -1e-12).all())


def test_units_are_dealt_out_by_the_ratios():
    activation = MonotonicActivation()
    assert activation.counts(32) == (14, 14, 4)
    assert MonotonicActivation(ratios=(1, 0, 0)).counts(5) == (5, 0, 0)
    assert sum(MonotonicActivation(ratios=(1, 1, 0)).counts(5)) == 5
    with pytest.warns(UserWarning, match="0 bounded"):
        MonotonicLinear(2, 2)


def test_weights_of_either_sign_give_one_function_and_mirrored_gradients():
    layer = MonotonicLinear(3, 8, [1, -1, 1])
    x = torch.randn(16, 3)
    layer(x).sum().backward()
    output, gradient = layer(x).detach(), layer.weight.grad.clone()
    layer.weight.data.neg_()
    layer.weight.grad = None
    layer(x).sum().backward()
    assert torch.equal(layer(x), output)
    assert torch.equal(layer.weight.grad, -gradient)


def test_directions_per_output_and_input():
    directions = [[1, -1], [0, 1], [-1, -1]]
    layer = MonotonicLinear(2, 3, directions, None)
    signs = torch.tensor(directions)
    held = signs != 0
    assert torch.equal(layer.constrained_weight().sign()[held], signs[held].float())
    assert torch.equal(layer.constrained_weight()[~held], layer.weight[~held])


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monotonicity": [1, 2, 0]}, "-1, 0 and 1"),
        ({"monotonicity": [1, 0]}, "3 .one per input"),
        ({"convex": True, "concave": True}, "leave one out"),
        ({"ratios": (1, -1, 1)}, "three numbers"),
        ({"ratios": (1, 1)}, "three numbers"),
        ({"activation": "gelu"}, "one of relu"),
        ({"activation": F.silu}, r"must not fall, and it does for inputs near -1\.[23]"),
        ({"activation": torch.tanh}, "must be convex"),
        ({"activation": F.softplus}, "must be 0 at 0, not 0.693"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MonotonicLinear(3, 24, **options)


def test_it_survives_half_precision_and_stays_monotonic_after_training_in_it():
    torch.manual_seed(0)
    layer = MonotonicLinear(3, 16, [1, 1, -1], dtype=torch.bfloat16)
    head = MonotonicLinear(16, 1, 1, None, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], 0.1)
    x = torch.randn(64, 3, dtype=torch.bfloat16)
    for _ in range(20):
        optimizer.zero_grad()
        (head(layer(x))[:, 0] - x.sin().sum(1)).square().mean().backward()
        optimizer.step()
    start, later = ordered_pairs(100_000, [1.0, 1.0, -1.0])
    f = torch.nn.Sequential(layer, head).double()
    assert bool((f(later) >= f(start)).all())
