"""Gradient-boosted networks against closed forms, scikit-learn's networks and themselves."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import Tensor, nn

from neurarium.learning import (
    GradientBoostedHead,
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    boost_head,
    fit_heads,
)
from neurarium.learning.boosting import _batched_lbfgs as lbfgs
from neurarium.learning.boosting import _boosted_steps as steps


def table(loss: str, rows: int = 150) -> tuple[Tensor, Tensor]:
    loader = {"binary": load_breast_cancer, "cross_entropy": load_iris, "mse": load_diabetes}[loss]
    x, y = loader(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:rows]
    x, y = scale(x[order]), y[order]
    return torch.from_numpy(x), torch.from_numpy(scale(y) if loss == "mse" else y)


def fitted(loss: str, **options: Any) -> tuple[GradientBoostedHead, Tensor, Tensor]:
    x, y = table(loss)
    outputs = {"binary": 1, "cross_entropy": 3, "mse": 1}[loss]
    options = {"units": 12, "units_per_step": 2, "shrinkage": 0.3, "max_iter": 30} | options
    head = GradientBoostedHead(x.shape[1], outputs, loss=loss, generator=torch.Generator().manual_seed(0), **options)
    return head.fit(x, y), x.float(), y


LOSSES = pytest.mark.parametrize("loss", ["binary", "cross_entropy", "mse"])


@LOSSES
def test_welded_staged_and_truncated_are_one_function(loss: str) -> None:
    head, x, _ = fitted(loss)
    staged = head.staged(x)
    assert (head.weld()(x) - staged[-1]).abs().max() < 1e-5
    for t in (1, 3, 6):
        head.set_active(t)
        assert (head(x) - staged[t - 1]).abs().max() < 1e-5
        assert (head.truncate(t)(x) - staged[t - 1]).abs().max() < 1e-5
    assert head.truncate(2)[0].out_features == 4
    assert head.macs(3) == 3 * 2 * (x.shape[1] + staged.shape[2])


@LOSSES
def test_stored_sum_is_what_the_losses_were_computed_on(loss: str) -> None:
    head, x, y = fitted(loss)
    criterion: Callable[..., Tensor] = {
        "binary": lambda f, y: nn.functional.binary_cross_entropy_with_logits(f[:, 0], y.float()),
        "cross_entropy": nn.functional.cross_entropy,
        "mse": lambda f, y: 0.5 * nn.functional.mse_loss(f[:, 0], y.float()),
    }[loss]
    for t, f in enumerate(head.staged(x), start=1):
        assert criterion(f, y).item() == pytest.approx(head.train_loss[t], abs=1e-5)
    head.set_active(0)
    assert criterion(head(x), y).item() == pytest.approx(head.train_loss[0], abs=1e-5)
    assert head.train_loss[-1] < head.train_loss[0]


@LOSSES
def test_residual_is_the_negative_gradient(loss: str) -> None:
    spec, generator = steps.LOSSES[loss], torch.Generator().manual_seed(1)
    outputs = 3 if loss == "cross_entropy" else 1
    labels = torch.randint(outputs if outputs > 1 else 2, (20,), generator=generator)
    y = spec.encode(labels.double() if loss == "mse" else labels, outputs).unsqueeze(0)
    f = torch.randn(1, 20, outputs, generator=generator, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(spec.value(y, f).sum() * 20, f)
    torch.testing.assert_close(spec.residual(y, f.detach()), -gradient)


def test_binary_start_and_newton_step() -> None:
    spec = steps.LOSSES["binary"]
    start = spec.start(spec.encode(torch.tensor([1, 1, 1, 0]), 1).unsqueeze(0))
    assert start.item() == pytest.approx(0.5 * math.log(3))
    assert torch.sigmoid(2 * start).item() == pytest.approx(0.75)
    y, c = torch.ones(1, 7, 1).double(), 0.4
    r = spec.residual(y, torch.zeros_like(y))
    assert torch.equal(r, torch.ones_like(r))
    rho, denominator = spec.newton(r, y, torch.full_like(y, c))
    assert rho.item() == pytest.approx(1 / c)
    assert denominator.item() == pytest.approx(7 * c**2)


def test_multiclass_newton_step_from_zero() -> None:
    spec, k = steps.LOSSES["cross_entropy"], 5
    y = spec.encode(torch.arange(20) % k, k).unsqueeze(0)
    r = spec.residual(y, torch.zeros_like(y))
    assert spec.newton(r, y, r)[0].item() == pytest.approx(k**2 / (k - 1))


def test_flat_loss_makes_an_empty_step() -> None:
    for spec in (steps.LOSSES["binary"], steps.LOSSES["mse"]):
        y = torch.ones(1, 4, 1).double()
        assert spec.newton(spec.residual(y, y), y, torch.zeros_like(y))[0].item() == 0
    head, _, _ = fitted("mse", max_iter=1)
    assert head.empty_steps == []
    constant = GradientBoostedHead(2, 1, units=3, loss="mse", weight_decay=1e6)
    constant.fit(torch.randn(30, 2).double(), torch.full((30,), 2.0))
    assert torch.allclose(constant(torch.randn(5, 2)), torch.full((5, 1), 2.0), atol=1e-3)


def test_large_scores_stay_finite() -> None:
    spec, y = steps.LOSSES["binary"], torch.tensor([[[1.0], [-1.0]]]).double()
    r = spec.residual(y, torch.tensor([[[-1e4], [1e4]]]).double())
    assert r.flatten().tolist() == [2.0, -2.0]


def test_one_step_is_scikit_learns_network() -> None:
    """T = 1, all rows, no shrinkage: the mean plus a network fitted to what is left, from the same initial weights."""
    x, y = table("mse")
    units, inputs, alpha = 3, x.shape[1], 0.5
    head = GradientBoostedHead(
        inputs, 1, units=units, units_per_step=units, subsample=1.0, loss="mse", weight_decay=alpha, max_iter=2000,
        generator=torch.Generator().manual_seed(3),
    ).double()  # fmt: skip
    head.fit(x, y + 7.0)
    start = steps.draw_weights(units, inputs, 1, nn.Sigmoid(), torch.Generator().manual_seed(3))
    first, second = (part[0] for part in steps.split_weights(start[None], units, inputs, 1))
    peer = MLPRegressor(
        hidden_layer_sizes=(units,), activation="logistic", solver="lbfgs", alpha=alpha, max_iter=2000, tol=1e-9,
        warm_start=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.set_params(max_iter=1).fit(x.numpy(), y.numpy())
        peer.coefs_ = [first[:, :-1].T.copy(), second[:, :-1].T.copy()]
        peer.intercepts_ = [first[:, -1].copy(), second[:, -1].copy()]
        peer.set_params(max_iter=2000).fit(x.numpy(), y.numpy())
    expected = torch.from_numpy(peer.predict(x.numpy())) + 7.0
    assert (head(x)[:, 0] - expected).abs().max() < 2e-3
    ours = 0.5 * (head(x)[:, 0] - y - 7.0).square().mean()
    penalty = alpha / 2 / len(x) * (head.hidden_weight.square().sum() + head.output_weight.square().sum())
    assert (ours + penalty).item() == pytest.approx(peer.loss_, abs=1e-6)


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh(), nn.SiLU()])
def test_closed_form_gradient(activation: nn.Module) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(2, 9, 4)), np.ones((2, 9, 1))], 2)
    nets = steps.SmallNets(x, rng.normal(size=(2, 9, 3)), 2, activation, 0.3)
    point = rng.normal(size=(2, 2 * 5 + 3 * 3))
    _, gradient = nets.evaluate(point)
    for i in range(point.shape[1]):
        shift = np.zeros_like(point)
        shift[:, i] = 1e-6
        slope = (nets.evaluate(point + shift)[0] - nets.evaluate(point - shift)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, i], slope, atol=1e-7)


class Quadratics:
    """½ xᵀ A x − bᵀ x, one per problem."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        self.a, self.b = a, b

    def evaluate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ax = np.einsum("rij,rj->ri", self.a, x)
        return (x * (ax / 2 - self.b)).sum(1), ax - self.b

    def select(self, index: np.ndarray) -> Quadratics:
        return Quadratics(self.a[index], self.b[index])


def test_lockstep_minimiser_solves_each_problem() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 8, 8))
    a, b = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(8), rng.normal(size=(4, 8))
    found = lbfgs.minimize(Quadratics(a, b), np.zeros((4, 8)), max_iter=500, tolerance=1e-15)
    np.testing.assert_allclose(found, np.linalg.solve(a, b[:, :, None])[:, :, 0], atol=1e-5)


def test_minimiser_takes_about_as_many_steps_as_scipys() -> None:
    x, y = table("mse")
    inputs = np.concatenate([x.numpy(), np.ones((len(x), 1))], 1)[None]
    nets = steps.SmallNets(inputs, y.numpy()[None, :, None], 2, nn.Sigmoid(), 1e-2)
    start = steps.draw_weights(2, x.shape[1], 1, nn.Sigmoid(), torch.Generator().manual_seed(0))[None]

    def single(p: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = nets.evaluate(p[None])
        return float(value[0]), gradient[0]

    theirs = scipy_minimize(single, start[0], jac=True, method="L-BFGS-B", options={"maxiter": 40})
    ours = nets.evaluate(lbfgs.minimize(nets, start, max_iter=40))[0][0]
    assert ours == pytest.approx(theirs.fun, rel=0.05)


def test_heads_in_lockstep_equal_heads_alone() -> None:
    x, y = table("binary")
    rows = [torch.arange(100), torch.arange(50, 150)]
    make = lambda i: GradientBoostedHead(  # noqa: E731
        30, 1, units=4, shrinkage=(0.2, 1.0)[i], loss="binary", max_iter=25, generator=torch.Generator().manual_seed(i)
    )
    together = [make(0), make(1)]
    fit_heads(together, x, y, rows)
    for i, head in enumerate(together):
        alone = make(i).fit(x[rows[i]], y[rows[i]])
        torch.testing.assert_close(head(x.float()), alone(x.float()), rtol=1e-3, atol=1e-3)


def test_swapped_labels_negate_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = table("binary")
    draw = steps.draw_weights
    scores = []
    for sign in (1.0, -1.0):

        def mirrored(units: int, inputs: int, *rest: Any, sign: float = sign) -> np.ndarray:
            weights = draw(units, inputs, *rest)
            weights[units * (inputs + 1) :] *= sign
            return weights

        monkeypatch.setattr("neurarium.learning.boosting._gradient_boosting.draw_weights", mirrored)
        head = GradientBoostedHead(
            30, 1, units=5, shrinkage=0.5, loss="binary", max_iter=20, generator=torch.Generator().manual_seed(0)
        ).double()
        scores.append(head.fit(x, y if sign > 0 else 1 - y)(x))
    torch.testing.assert_close(scores[0], -scores[1])


@pytest.mark.parametrize(("activation", "factor"), [(nn.Sigmoid(), 2), (nn.Tanh(), 6)])
def test_initial_weights_fill_glorots_bounds(activation: nn.Module, factor: float) -> None:
    drawn = steps.draw_weights(50, 30, 10, activation, torch.Generator().manual_seed(0))
    for part, fans in zip(steps.split_weights(drawn[None], 50, 30, 10), (30 + 50, 50 + 10), strict=True):
        bound = math.sqrt(factor / fans)
        assert 0.98 * bound < abs(part).max() <= bound
        assert abs(part.mean()) < 0.1 * bound


def test_each_step_sees_its_own_share_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def spy(x: np.ndarray, *rest: Any) -> steps.SmallNets:
        seen.append(x[0])
        return steps.SmallNets(x, *rest)

    monkeypatch.setattr("neurarium.learning.boosting._gradient_boosting.SmallNets", spy)
    fitted("mse", subsample=0.5)
    assert [rows.shape for rows in seen] == [(75, 11)] * 6
    assert all(len(np.unique(rows, axis=0)) == 75 for rows in seen)  # without replacement
    assert len({rows.tobytes() for rows in seen}) == 6
    once = list(seen)
    seen.clear()
    torch.manual_seed(1)  # the head's own generator decides, not the global one
    fitted("mse", subsample=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(once, seen, strict=True))


def test_any_divisor_and_activation() -> None:
    head = GradientBoostedHead(4, 3, units=11, units_per_step=3, activation=nn.GELU(), max_iter=5)
    assert (head.units, head.steps) == (9, 3)
    x, y = table("cross_entropy")
    assert head.fit(x, y).staged(x.float()).shape == (3, 150, 3)


def test_state_dict_keeps_a_fitted_head() -> None:
    head, x, _ = fitted("cross_entropy")
    other = GradientBoostedHead(4, 3, units=12, units_per_step=2)
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(x), other(x))


def test_boosted_head_stands_in_a_models_place() -> None:
    torch.manual_seed(0)
    x, y = table("cross_entropy")
    x = x.float()
    model = nn.ModuleDict({"body": nn.Linear(4, 8), "head": nn.Linear(8, 3)})

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["head"](torch.tanh(self.parts["body"](x)))

    net = Net()
    before = net(x)
    batches = [(x[:90], y[:90]), (x[90:], y[90:])]
    boosted = boost_head(net, batches, units=10, shrinkage=0.5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x), before)
    assert (boosted(x).argmax(1) == y).float().mean() > 0.9
    features = torch.tanh(net.parts["body"](x))
    torch.testing.assert_close(boosted(x), boosted.parts["head"].weld()(features))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GradientBoostedHead(3, 2, units=1, units_per_step=2), "units"),
        (lambda: GradientBoostedHead(3, 2, loss="hinge"), "loss"),
        (lambda: GradientBoostedHead(3, 3).fit(torch.ones(4, 3), torch.tensor([0, 1, 1, 0])), "class 2"),
        (lambda: GradientBoostedHead(3, 1, loss="binary").fit(torch.ones(4, 3), torch.ones(4).long()), "binary"),
        (lambda: GradientBoostedHead(3, 2).fit(torch.tensor([[0, 1.0, math.nan]]), torch.tensor([0])), "column 2"),
        (lambda: boost_head(nn.Sequential(nn.Linear(2, 2)), iter([])), "length"),  # type: ignore[arg-type]
        (lambda: boost_head(nn.Sequential(nn.ReLU()), []), "linear"),
        (lambda: GradientBoostedHead(3, 2, units=4).set_active(9), "between 0 and 4"),
    ],
)
def test_errors_name_what_is_wrong(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.untyped
@pytest.mark.parametrize("kind", [GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor])
def test_scikit_learn_contract(kind: type[Any]) -> None:
    for estimator, check in estimator_checks_generator(kind(units=12, units_per_step=4, max_iter=50, random_state=0)):
        # checks that need a setting of the environment skip themselves; they must not skip the rest
        with warnings.catch_warnings(), contextlib.suppress(SkipTest):
            warnings.simplefilter("ignore")
            check(estimator)


@pytest.mark.parametrize("scale", [2.0**-27, 2.0**27])  # powers of two round nothing
def test_numbers_of_any_size_are_fitted_alike(scale):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 4, generator=generator).double()
    y = x[:, 0] + x[:, 1] ** 2

    def fitted(targets):
        head = GradientBoostedHead(4, 1, units=8, loss="mse", generator=torch.Generator().manual_seed(1))
        return head.double().fit(x, targets)

    plain, scaled = fitted(y), fitted(scale * y)
    assert torch.equal(scaled(x), scale * plain(x))
    assert scaled.train_loss[-1] == pytest.approx(scale**2 * plain.train_loss[-1], rel=1e-12)
    assert float((plain(x)[:, 0] - y).var() / y.var()) < 0.5
