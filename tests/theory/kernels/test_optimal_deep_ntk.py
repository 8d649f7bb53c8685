"""Kernels at any depth and their limits: closed forms, brute force, other recursions, other libraries."""

import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from neurarium.data import SphereTask
from neurarium.layers import HermiteActivation
from neurarium.theory import (
    DeepKernelClassifier,
    DualActivation,
    SingularKernelClassifier,
    classify_activation,
    limit_kernel,
    log_deep_kernel,
    nngp,
    ntk,
    optimal_activation,
    relu_dual,
)

NEAREST, MAJORITY = (0.0, 0.0, 1.0), (math.sqrt(0.1), math.sqrt(0.4), 0.0, math.sqrt(0.5))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def sphere(n, seed, dim=2):
    x = torch.randn(n, dim + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).abs()
    return x / x.norm(dim=1, keepdim=True)


def plain(kernel):
    return kernel.sign * kernel.log.exp()


def normal_grid(nodes=200):
    """Gauss-Hermite nodes and weights of the standard normal, by numpy."""
    import numpy as np

    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    return torch.from_numpy(z), torch.from_numpy(w / w.sum())


@pytest.mark.parametrize("degree", [1, 2, 3, 6])
def test_the_dual_of_a_hermite_polynomial_is_a_power(degree):
    h = HermiteActivation([0.0] * degree + [1.0])
    dual = DualActivation(lambda z: h(z))  # as a function, by quadrature
    xi = torch.linspace(-1, 1, 21, dtype=torch.float64)
    assert torch.allclose(dual.value(xi), xi**degree, atol=1e-10)
    assert torch.allclose(dual.derivative(xi), degree * xi ** (degree - 1), atol=1e-9)


@pytest.mark.parametrize("activation", [torch.tanh, nn.GELU(), nn.functional.softplus, torch.sin])
def test_duals_of_smooth_activations_against_a_grid_of_pairs(activation):
    z, w = normal_grid(100)
    scale = (w * activation(z).square()).sum().sqrt()
    dual = DualActivation(activation)
    for xi in (-0.7, 0.0, 0.4, 0.95):
        v = xi * z[:, None] + math.sqrt(1 - xi**2) * z[None, :]
        expected = (w[:, None] * w[None, :] * activation(z)[:, None] * activation(v)).sum() / scale**2
        assert float(dual.value(column(xi))) == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize(
    "activation", [nn.LeakyReLU(0.1), torch.abs, nn.Hardtanh(), nn.ELU(), lambda z: torch.relu(z - 0.3)]
)
def test_duals_of_activations_with_kinks_against_samples(activation):
    generator = torch.Generator().manual_seed(0)
    u, e = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    dual, scale = DualActivation(activation), activation(u).square().mean()
    for xi in (0.3, 0.9):
        v = xi * u + math.sqrt(1 - xi**2) * e
        assert float(dual.value(column(xi))) == pytest.approx(
            float((activation(u) * activation(v)).mean() / scale), abs=1e-2
        )
    assert float(dual.value(column(1.0))) == pytest.approx(1, abs=1e-9)
    assert float(dual.derivative(column(1.0))) == pytest.approx(dual.moments.squared_slope, abs=1e-7)


def test_the_rectifier_in_closed_form_and_its_series():
    c = torch.linspace(-1, 1, 9, dtype=torch.float64)
    dual = DualActivation(torch.relu)
    assert torch.allclose(dual.value(c), 2 * relu_dual(c), atol=1e-14)
    assert dual.moments == pytest.approx((1 / math.sqrt(math.pi), math.sqrt(0.5), 1.0), abs=1e-12)
    size = column(0.05, 0.3, 0.5)
    log, sign, slope, slope_sign = dual.small(-torch.ones(3, dtype=torch.float64), size.log())
    assert torch.allclose(sign * log.exp(), dual.value(-size), atol=1e-14)
    assert torch.allclose(slope_sign * slope.exp(), dual.derivative(-size), atol=1e-14)
    tiny = column(1e-3, 0.0025, 0.01)
    assert torch.allclose(dual.gap(tiny), 1 - dual.value(1 - tiny), atol=1e-15)
    assert float(dual.gap(column(1e-20))) == pytest.approx(1e-20, rel=1e-9)


@pytest.mark.parametrize("activation", [torch.relu, torch.tanh, (0.0, 1.0, 0.0, 1.0), MAJORITY, (0.0, 0.6, -0.8)])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_logarithms_agree_with_the_plain_recursion(activation, kind):
    dual = DualActivation(activation)
    xi = torch.linspace(-0.95, 0.95, 39, dtype=torch.float64)  # nearer to 1 the plain one loses its digits
    s, k = xi, xi
    for _ in range(20):
        k, s = k * dual.derivative(s) + dual.value(s), dual.value(s)
    found = plain(log_deep_kernel(dual, 1 - xi, 20, kind))
    expected = k if kind == "ntk" else s
    scale = 1.0 if kind == "nngp" else max(1.0, float(expected.abs().max()))
    assert torch.allclose(found / scale, expected / scale, rtol=1e-10, atol=1e-10)


def test_known_kernels():
    xi = column(1, 0.9, 0.5, 0)
    assert plain(log_deep_kernel(torch.relu, 1 - xi, 1000)).div(1001).tolist() == pytest.approx(
        [1, 0.2564, 0.2538, 0.2533], abs=5e-5
    )
    assert plain(log_deep_kernel((0.0, 1.0), 1 - xi, 7)).tolist() == pytest.approx((8 * xi).tolist(), abs=1e-12)
    squares = log_deep_kernel(NEAREST, 1 - column(0.9, 0.5, 0.1), 30, "nngp").log
    assert torch.allclose(squares, 2.0**30 * column(0.9, 0.5, 0.1).log(), rtol=1e-10)
    for activation in ((0.0, 1.0, 0.0, 1.0), MAJORITY):
        b = DualActivation(activation).moments.squared_slope
        top = float(log_deep_kernel(activation, column(0.0), 200).log)
        assert top == pytest.approx(math.log((b**201 - 1) / (b - 1)), abs=1e-10)


def test_taxonomy():
    assert classify_activation(torch.relu).kind == "majority"
    assert classify_activation(nn.GELU()).kind == "majority"
    assert classify_activation(NEAREST).kind == "nearest-neighbour"
    assert classify_activation(lambda z: torch.cos(z) - math.exp(-0.5)).kind == "nearest-neighbour"
    assert classify_activation(MAJORITY).kind == "majority"
    assert classify_activation(lambda z: 3 * z).kind == "linear"
    assert classify_activation(torch.sigmoid).kind == "collapsed"
    assert classify_activation(torch.sign).kind == "collapsed"
    limit = classify_activation(torch.sin)  # all by hand: E sin^2 = (1 - e^-2) / 2, A = 0, E cos = e^-1/2
    power = (1 - math.exp(-2)) / 2
    slope, squared = math.exp(-0.5) / math.sqrt(power), (1 + math.exp(-2)) / 2 / power
    assert limit.alpha == pytest.approx(-4 * math.log(slope) / math.log(squared), rel=1e-9)
    assert "singular (alpha =" in limit.summary()


def test_optimal_activations():
    for dim in (1, 1.5, 2, 3, 4, 10):
        found = classify_activation(optimal_activation(dim))
        assert found.alpha == pytest.approx(dim, abs=1e-12)
        assert found.moments.squared_slope == pytest.approx(2, abs=1e-12)
        assert found.moments.slope**2 == pytest.approx(2 ** (-dim / 2), abs=1e-12)
    squares = [a * a for a in optimal_activation(1).coefficients]
    assert squares == pytest.approx([0, 0.70711, 0, 0, 0.17157, 0.12132], abs=5e-6)
    four = optimal_activation(4)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    paper = x / 2 + math.sqrt(1 / 2) * (x**2 - 1) / math.sqrt(2) + (x**3 - 3 * x) / math.sqrt(6) / 2
    assert torch.allclose(four(x), paper, atol=1e-12)
    with pytest.raises(ValueError, match="dim must"):
        optimal_activation(0.5)


def test_limit_kernel():
    r = column(0.001, 0.01, 0.1, 0.5, 1.0)
    two = limit_kernel(optimal_activation(2), r**2 / 2)
    assert (two.log.exp() * r**2).tolist() == pytest.approx([1.2103, 1.2103, 1.2058, 1.0948, 0.7136], abs=5e-5)
    four = limit_kernel(optimal_activation(4), r**2 / 2)
    assert (four.log.exp() * r**4)[[0, 4]].tolist() == pytest.approx([5.8596, 2.5299], abs=5e-5)
    deep = log_deep_kernel(optimal_activation(2), r**2 / 2, 400, "nngp").log + 400 * math.log(2)
    assert torch.allclose(deep, two.log, atol=1e-10)
    with pytest.raises(ValueError, match="limit kernel"):
        limit_kernel(torch.relu, r)


@pytest.mark.parametrize(("activation", "depth", "scale"), [(optimal_activation(2), 1, 1.0), (torch.relu, 2, 2**0.5)])
def test_networks_of_finite_width_have_this_kernel(activation, depth, scale):
    x, draws, width = sphere(3, 0), 40, 20_000 if depth == 1 else 400
    generator, total = torch.Generator().manual_seed(0), torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(draws):
        sizes = [(3, width), *[(width, width)] * (depth - 1), (width, 1)]
        weights = [torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_() for size in sizes]
        h = x @ weights[0]
        for w in weights[1:]:
            h = scale * activation(h) @ w / width**0.5
        rows = [torch.autograd.grad(o, weights, retain_graph=True) for o in h.flatten()]
        flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        total += flat @ flat.T / draws
    expected = plain(log_deep_kernel(activation, 1 - x @ x.T, depth))
    assert torch.allclose(total, expected, rtol=0.1)
    assert torch.allclose(ntk(x, x, depth, activation), expected, rtol=1e-7)


def test_deep_classifiers_become_their_limits():
    x, test = sphere(200, 1), sphere(100, 2)
    generator = torch.Generator().manual_seed(3)
    y = (torch.rand(200, generator=generator) < 0.4).long()
    nearest = SingularKernelClassifier(math.inf).fit(x, y).predict(test)
    peer = KNeighborsClassifier(1).fit(x.numpy(), y.numpy()).predict(test.numpy())
    assert nearest.tolist() == peer.tolist()
    assert DeepKernelClassifier(NEAREST).fit(x, y).predict(test).tolist() == peer.tolist()
    assert (DeepKernelClassifier(NEAREST, 40).fit(x, y).predict(test) == nearest).double().mean() > 0.97
    assert DeepKernelClassifier(MAJORITY, 60).fit(x, y).predict(test).sum() <= 3
    assert not DeepKernelClassifier(MAJORITY).fit(x, y).predict(test).any()
    singular = DeepKernelClassifier(optimal_activation(2)).fit(x, y)
    g = plain(limit_kernel(optimal_activation(2), 1 - test @ x.T))
    expected = (g @ (2 * y - 1).double() > 0).long()
    assert (singular.predict(test) == expected).double().mean() == 1
    close = [
        (DeepKernelClassifier(optimal_activation(2), d).fit(x, y).predict(test) == expected).double().mean()
        for d in (3, 300)
    ]
    assert close[0] < close[1] > 0.85


def test_interpolating_networks_fit_their_examples():
    x, y = sphere(50, 1), torch.arange(50) % 3 + 7
    for depth in (30, math.inf):
        classifier = DeepKernelClassifier(optimal_activation(2), depth).fit(x, y)
        assert classifier.predict(x).tolist() == y.tolist()
    regression = ntk(x, x, 5, torch.relu)
    test = sphere(20, 4)
    signs = 2.0 * nn.functional.one_hot(y - 7).double() - 1
    expected = ntk(test, x, 5, torch.relu) @ torch.linalg.solve(regression, signs)
    assert DeepKernelClassifier(torch.relu, 5).fit(x, y).predict(test).tolist() == (expected.argmax(1) + 7).tolist()


def test_the_hilbert_estimate_by_hand():
    x, y = torch.tensor([[0.0], [1.0], [1.0], [4.0]]), torch.tensor([1, 0, 1, 0])
    scores = SingularKernelClassifier(2).fit(x, y).decision_function(torch.tensor([[2.0], [1.0], [0.0]]))
    assert float(scores[0, 1]) == pytest.approx((1 / 4 - 1 + 1 - 1 / 4) / (1 / 4 + 2 + 1 / 4))
    assert scores[1].tolist() == [0, 0]  # two labels at one place cancel
    assert scores[2].tolist() == [-1, 1]


def test_refusals():
    x = sphere(4, 0)
    with pytest.raises(ValueError, match="unit length; divide"):
        DeepKernelClassifier(torch.relu, 2).fit(2 * x, torch.arange(4))
    with pytest.raises(ValueError, match="no classifier at infinite depth"):
        DeepKernelClassifier(torch.sigmoid)
    with pytest.raises(ValueError, match="vanishes even in logarithms"):
        DeepKernelClassifier((0.0, 0.0, 0.0, 0.0, 1.0), 520).fit(x, torch.arange(4)).predict(sphere(3, 1))
    with pytest.raises(ValueError, match="alpha"):
        SingularKernelClassifier(-1)
    with pytest.raises(ValueError, match="whole numbers"):
        SingularKernelClassifier(1).fit(x, x[:, 0])
    with pytest.raises(ValueError, match="same number"):
        SingularKernelClassifier(1).fit(x, torch.arange(3))
    with pytest.raises(ValueError, match="0 everywhere"):
        DualActivation(torch.zeros_like)
    with pytest.raises(ValueError, match="elementwise"):
        DualActivation(torch.sum)
    with pytest.raises(ValueError, match="depth must"):
        nngp(x, x, -1)


def test_the_error_on_the_sphere_is_exact():
    task, generator = SphereTask(noise=0.2), torch.Generator().manual_seed(0)
    data = task.draw(50_000, generator)
    assert torch.allclose(data.x.norm(dim=1), torch.ones(50_000, dtype=torch.float64))
    assert task.error(data.x, task.rule(data.x)) == pytest.approx(0.2)
    assert task.error(data.x, 1 - task.rule(data.x)) == pytest.approx(0.8)
    guess = (data.x[:, 0] > data.x[:, 1]).long()
    assert task.error(data.x, guess) == pytest.approx(float((guess != data.y).double().mean()), abs=0.01)
    with pytest.raises(ValueError, match="noise"):
        SphereTask(noise=0.5)


@pytest.mark.parametrize(("activation", "depth"), [(torch.relu, 3), ((0.0, 0.8, 0.6), 6), ((0.0, 1.0, 0.0, 1.0), 30)])
def test_interpolated_kernels_are_the_kernels_of_the_same_points(activation, depth):
    from neurarium.theory.kernels._kernel_classifiers import GRID, interpolate

    points = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    turn = torch.linspace(0.98, 1.02, 301, dtype=torch.float64)  # where the sign changes
    points = torch.cat([column(0.0), points, (points[:50] / 2) ** 20, turn])
    exact = plain(log_deep_kernel(activation, points, depth))
    found = plain(interpolate(GRID, log_deep_kernel(activation, GRID, depth), points))
    floor = plain(log_deep_kernel(activation, column(0.9), depth)).abs()  # beside the turn only the scale counts
    assert bool(((found - exact).abs()[1:] <= 5e-3 * torch.maximum(exact.abs()[1:], floor)).all())
    assert float(found[0]) == pytest.approx(float(exact[0]), rel=1e-12)
