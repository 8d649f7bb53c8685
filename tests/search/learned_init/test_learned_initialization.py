"""Learned initial weights: outer gradients in closed form, by finite differences and unrolled; fits, comparators."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

from neurarium.layers import ParallelBeam, PixelMask, pixel_grid
from neurarium.models import FourierFeatureField, SirenField
from neurarium.search import (
    LearnedInitialization,
    adaptation_curve,
    matched_initialization,
    shuffled_initialization,
)  # fmt: skip


class Point(nn.Module):
    """A field that is its parameter, whatever the coordinates."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.theta


def half_square(seen: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.5 * (seen - y).square().sum()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def unrolled(field: nn.Module, x: torch.Tensor, y: torch.Tensor, rate: float, steps: int, first_order: bool = False):
    """Outer gradient through the steps, signal by signal, keeping every graph."""
    start = dict(field.named_parameters())
    total = torch.zeros((), dtype=torch.float64)
    for inputs, targets in zip(x, y, strict=True):
        weights = dict(start)
        for _ in range(steps):
            loss = mse_loss(functional_call(field, weights, (inputs,)), targets)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=not first_order)
            weights = {name: w - rate * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        total = total + mse_loss(functional_call(field, weights, (inputs,)), targets) / len(x)
    return torch.autograd.grad(total, list(start.values())), total


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_gradients_on_quadratic_losses_are_those_in_closed_form(steps: int) -> None:
    centres, rate = drawn(5, 3), 0.3
    shrunk = (1 - rate) ** steps
    expected = {"maml": shrunk**2, "fomaml": shrunk, "reptile": 1 - shrunk}
    for method, factor in expected.items():
        field = Point()
        LearnedInitialization(field, rate, steps, method, loss=half_square).assign_credit(drawn(5, 1), centres)
        torch.testing.assert_close(field.theta.grad, factor * (field.theta.detach() - centres.mean(0)))


def test_fits_of_quadratic_losses_are_those_in_closed_form() -> None:
    centres, field = drawn(5, 3), Point()
    start = LearnedInitialization(field, 0.3, 2, loss=half_square)
    for steps in (0, 2, 7):
        found = start.adapt(drawn(5, 1), centres, steps).weights["theta"]
        torch.testing.assert_close(found, centres + 0.7**steps * (field.theta.detach() - centres))


@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_are_those_of_unrolled_steps(steps: int) -> None:
    x, y = drawn(4, 6, 2), drawn(4, 6, 1, seed=1)
    for method in ("maml", "fomaml"):
        field = net(2, 5, 5, 1)
        expected, loss = unrolled(field, x, y, 0.2, steps, first_order=method == "fomaml")
        found = LearnedInitialization(field, 0.2, steps, method).assign_credit(x, y)
        torch.testing.assert_close(found, loss.detach())
        for parameter, gradient in zip(field.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_gradients_of_weights_and_rates_are_finite_differences() -> None:
    x, y = drawn(3, 4, 1), drawn(3, 4, 1, seed=1)
    query = drawn(3, 5, 1, seed=2), drawn(3, 5, 1, seed=3)
    start = LearnedInitialization(nn.Linear(1, 1).double(), {"weight": 0.1, "bias": 0.3}, 3, learn_rates=True)

    def outer() -> float:
        return float(start.assign_credit(x, y.sin(), query))

    outer()
    gradients = [p.grad.clone() for p in start.parameters()]
    assert len(gradients) == 3
    for parameter, gradient in zip(list(start.parameters()), gradients, strict=True):
        for place in range(parameter.numel()):
            values = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter.view(-1)[place] += shift
                values.append(outer())
                with torch.no_grad():
                    parameter.view(-1)[place] -= shift
            assert float(gradient.view(-1)[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_one_step_of_reptile_is_the_rate_times_the_gradient_of_joint_training() -> None:
    x, y = drawn(4, 6, 2), drawn(4, 6, 1, seed=1)
    one, joint = net(2, 5, 1), net(2, 5, 1)
    LearnedInitialization(one, 0.2, 1, "reptile").assign_credit(x, y)
    LearnedInitialization(joint, 0.2, 0).assign_credit(x, y)
    for a, b in zip(one.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(a.grad, 0.2 * b.grad)


def test_credit_accumulates() -> None:
    x, y, field = drawn(4, 6, 2), drawn(4, 6, 1, seed=1), net(2, 5, 1)
    start = LearnedInitialization(field, 0.2, 2)
    start.assign_credit(x, y)
    once = [p.grad.clone() for p in field.parameters()]
    start.assign_credit(x, y)
    for parameter, gradient in zip(field.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_a_batch_of_fits_is_each_fit_by_itself() -> None:
    x, y, points = drawn(3, 6, 2), drawn(3, 6, 1, seed=1), drawn(4, 2, seed=2)
    field = net(2, 5, 1)
    start = LearnedInitialization(field, 0.2, 2)
    for factory in (None, lambda p: torch.optim.Adam(p, 1e-2)):
        fields = start.adapt(x, y, 5, factory)
        for n in range(3):
            alone = net(2, 5, 1)
            optimizer = torch.optim.SGD(alone.parameters(), 0.2) if factory is None else factory(alone.parameters())
            for _ in range(5):
                optimizer.zero_grad()
                mse_loss(alone(x[n]), y[n]).backward()
                optimizer.step()
            torch.testing.assert_close(fields(points)[n], alone(points).detach())
            torch.testing.assert_close(fields.module(n)(points), alone(points))
    assert all(p.grad is None for p in field.parameters())


def test_no_step_gives_the_initial_field_and_more_steps_go_on() -> None:
    x, y, field = drawn(3, 6, 2), drawn(3, 6, 1, seed=1), net(2, 5, 1)
    start = LearnedInitialization(field, 0.2, 2)
    fits = list(start.adaptation(x, y, 4))
    assert len(fits) == 5
    torch.testing.assert_close(fits[0](x[0])[2], field(x[0]).detach())
    torch.testing.assert_close(fits[2](x[0]), start.adapt(x, y)(x[0]))
    torch.testing.assert_close(fits[4](x[0]), start.adapt(x, y, 4)(x[0]))


def test_new_observations_for_each_step() -> None:
    x, y = drawn(2, 3, 6, 2), drawn(2, 3, 6, 1, seed=1)
    field = net(2, 5, 1)
    LearnedInitialization(field, 0.2, 3, "reptile").assign_credit(x, y, per_step=True)
    moved = []
    for n in range(2):
        alone = net(2, 5, 1)
        for step in range(3):
            alone.zero_grad()
            mse_loss(alone(x[n, step]), y[n, step]).backward()
            torch.optim.SGD(alone.parameters(), 0.2).step()
        moved.append(list(alone.parameters()))
    for n, parameter in enumerate(field.parameters()):
        torch.testing.assert_close(parameter.grad, parameter.detach() - (moved[0][n] + moved[1][n]).detach() / 2)
    with pytest.raises(ValueError, match="per_step needs"):
        LearnedInitialization(field, 0.2, 2).assign_credit(x, y, per_step=True)


@pytest.mark.parametrize("method", ["maml", "reptile"])
def test_projections_teach_images(method: str) -> None:
    torch.manual_seed(0)
    beam, grid = ParallelBeam(8), pixel_grid(8, 8)
    images = torch.stack([((grid - centre).square().sum(1) < 0.2).float() for centre in torch.randn(6, 2) / 3])
    angles = torch.rand(6, 6) * torch.pi
    views = beam(images[..., None], angles)
    field = FourierFeatureField(2, 1, 16, 2.0, 16, 1, generator=torch.Generator().manual_seed(0))
    start = LearnedInitialization(field, 1.0, 3, method, observe=beam.observe)
    optimizer = torch.optim.Adam(start.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(float(start.assign_credit(angles, views)))
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    plain = FourierFeatureField(2, 1, 16, 2.0, 16, 1)
    plain.load_state_dict(field.state_dict())
    torch.testing.assert_close(plain(grid), field(grid))


def test_masked_pixels_and_classifiers_are_tasks_too() -> None:
    mask = PixelMask(4, 4)
    start = LearnedInitialization(SirenField(2, 1, 8, 3, 5.0), 1e-2, 2, observe=mask.observe)
    assert start.adapt(torch.tensor([[0, 5, 9], [1, 2, 3]]), torch.rand(2, 3, 1))(pixel_grid(4, 4)).shape == (2, 16, 1)
    tasks = LearnedInitialization(net(8, 6, 3), 0.1, 2, loss=cross_entropy)
    x, y = drawn(5, 9, 8), torch.arange(45).view(5, 9) % 3
    loss = tasks.assign_credit(x, y, (drawn(5, 4, 8, seed=1), torch.arange(20).view(5, 4) % 3))
    assert loss.isfinite()
    assert all(p.grad.abs().sum() > 0 for p in tasks.field.parameters())


def test_weights_between_two_fits() -> None:
    fits = LearnedInitialization(net(2, 5, 1), 0.2, 2).adapt(drawn(2, 6, 2), drawn(2, 6, 1, seed=1))
    for share, expected in ((0.0, 0), (1.0, 1)):
        torch.testing.assert_close(fits.between(0, 1, share)(drawn(3, 2)), fits.module(expected)(drawn(3, 2)))
    middle = fits.between(0, 1, 0.5).state_dict()["0.weight"]
    torch.testing.assert_close(middle, fits.weights["0.weight"].mean(0))


def test_frozen_parameters_stay() -> None:
    field = net(2, 5, 1)
    field[0].requires_grad_(False)
    start = LearnedInitialization(field, 0.2, 2)
    start.assign_credit(drawn(3, 6, 2), drawn(3, 6, 1))
    assert field[0].weight.grad is None
    assert field[2].weight.grad is not None
    torch.testing.assert_close(start.adapt(drawn(3, 6, 2), drawn(3, 6, 1)).module(0)[0].weight, field[0].weight)


def test_the_curve_counts_steps_to_a_level() -> None:
    centres = drawn(4, 3)[:, None]
    start = LearnedInitialization(Point(), 0.3, 2, loss=half_square)
    curve = adaptation_curve(start.adaptation(drawn(4, 1), centres[:, 0], 6), drawn(1, 1), centres[:, 0])
    gain = curve.psnr.diff(dim=0)
    torch.testing.assert_close(gain, torch.full_like(gain, -20 * torch.log10(torch.tensor(0.7)).item()))
    level = float(curve.psnr[3, 1])
    assert float(curve.steps_to(level - 1e-9)[1]) == 3
    assert curve.steps_to(1e9).isinf().all()
    assert "after 6 steps" in curve.summary()


def test_comparators_share_what_they_say() -> None:
    field = net(40, 50, 1)
    shuffled = shuffled_initialization(field, torch.Generator().manual_seed(0))
    matched = matched_initialization(field, torch.Generator().manual_seed(0))
    for (name, old), one, other in zip(
        field.named_parameters(), shuffled.parameters(), matched.parameters(), strict=True
    ):
        if old.numel() == 1:
            continue
        assert torch.equal(old.flatten().sort().values, one.flatten().sort().values)
        assert not torch.equal(old, one)
        error = old.std() / old.numel() ** 0.5
        assert abs(old.mean() - other.mean()) < 3 * error, name
        assert abs(old.std() - other.std()) < 3 * error, name
    spectral = FourierFeatureField(2, 1, 8)
    assert torch.equal(shuffled_initialization(spectral).frequencies, spectral.frequencies)


def test_errors_say_what_to_do() -> None:
    x, y = drawn(3, 6, 2), drawn(3, 6, 1)
    with pytest.raises(FloatingPointError, match=r"inner step .*inner_lr=1e\+07"):
        LearnedInitialization(nn.Linear(2, 1).double(), 1e8, 60, "reptile").assign_credit(x, y)
    with pytest.raises(FloatingPointError, match="inner step"):
        LearnedInitialization(nn.Linear(2, 1).double(), 1e8, 2).adapt(x, y, 60)
    with pytest.raises(ValueError, match="freeze it"):
        LearnedInitialization(nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1)))
    with pytest.raises(ValueError, match="the sensor reads"):
        LearnedInitialization(net(2, 5, 1)).assign_credit(x, drawn(3, 7, 1))
    with pytest.raises(ValueError, match="has no parameter"):
        LearnedInitialization(net(2, 5, 1).requires_grad_(False))
    with pytest.raises(ValueError, match="bias"):
        LearnedInitialization(net(2, 1), {"0.weight": 0.1})
    with pytest.raises(ValueError, match="learn_rates"):
        LearnedInitialization(net(2, 1), method="reptile", learn_rates=True)
    with pytest.raises(ValueError, match="method"):
        LearnedInitialization(net(2, 1), method="map")
