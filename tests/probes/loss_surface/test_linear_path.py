"""The line between two points of parameter space: against formulas, direct evaluation and convexity."""

import copy

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from neurarium.data import Arrays, Batches
from neurarium.layers import Maxout
from neurarium.probes import LossPath, loss_along_line, loss_around_run, loss_on_plane
from neurarium.probes.loss_surface._trajectory import TrajectoryRecorder
from neurarium.training import accuracy, evaluate

matplotlib.use("Agg")


class Scalar(nn.Module):
    """y = w2 w1 x."""

    def __init__(self, w1: float, w2: float) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.tensor(w1, dtype=torch.float64))
        self.w2 = nn.Parameter(torch.tensor(w2, dtype=torch.float64))

    def forward(self, x):
        return self.w2 * self.w1 * x


class Rows(nn.Module):
    """An LSTM with a linear readout: nothing that vmap can batch, and no affine head."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def half_square(output, y):
    return 0.5 * (output - y).square().mean()


def mlp(dtype=torch.float32):
    return nn.Sequential(nn.Linear(7, 11), nn.Tanh(), nn.Dropout(0.5), nn.Linear(11, 3)).to(dtype)


def batches(shape=(7,), n=50, size=17, dtype=torch.float32, shuffle=False):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Batches(Arrays(x, torch.randint(3, (n,), generator=generator)), size, shuffle=shuffle)


def by_copies(model, loss, loader, start, end, alphas):
    """What a user would write: a deep copy for every alpha."""
    values = []
    for alpha in alphas:
        between = copy.deepcopy(model)
        mixed = (1 - alpha) * parameters_to_vector(start.parameters()) + alpha * parameters_to_vector(end.parameters())
        vector_to_parameters(mixed.detach(), between.parameters())
        values.append(evaluate(between, loader, loss))
    return np.array(values)


ONE = [(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))]


def test_scalar_linear_net_equals_its_quartic():
    path = loss_along_line(Scalar(0.3, 0.3), half_square, ONE, Scalar(0.2, 0.2), Scalar(1.0, 1.0), points=101)
    s = 0.2 + path.alpha * 0.8
    np.testing.assert_allclose(path.loss, 0.5 * (1 - s**2) ** 2, atol=1e-12)
    assert path.gap == 0
    heights = 0.5 * (1 - s**2) ** 2 - (1 - path.alpha) * 0.5 * (1 - 0.2**2) ** 2
    assert path.barrier == pytest.approx(heights[(path.alpha >= 0) & (path.alpha <= 1)].max(), abs=1e-12)


def test_scalar_linear_net_climbs_over_the_saddle():
    alphas = [0.0, 1 / 6, 1 / 3, 2 / 3, 1.0]
    path = loss_along_line(Scalar(0.0, 0.0), half_square, ONE, Scalar(-0.5, -0.5), Scalar(1.0, 1.0), points=alphas)
    assert path.loss.max() == pytest.approx(0.5, abs=1e-12)
    assert path.alpha[path.loss.argmax()] == pytest.approx(1 / 3)
    assert path.gap == pytest.approx(0.21875, abs=1e-12)
    assert path.relative_gap == pytest.approx(0.21875 / 0.28125, abs=1e-12)
    assert path.barrier == pytest.approx(0.5 - (2 / 3) * 0.28125, abs=1e-12)
    assert path.slope_changes == 1
    mirror = loss_along_line(Scalar(0.0, 0.0), half_square, ONE, Scalar(-0.5, -0.5), Scalar(-1.0, -1.0))
    assert mirror.gap == 0


def test_softmax_regression_is_convex_on_any_line_and_monotone_to_its_minimum():
    torch.manual_seed(3)
    loader = batches(dtype=torch.float64, size=50)
    models = [nn.Linear(7, 3).double() for _ in range(3)]
    path = loss_along_line(models[0], cross_entropy, loader, models[0], models[1], span=(-3.0, 4.0), points=71)
    slopes = np.diff(path.loss) / np.diff(path.alpha)
    assert np.diff(slopes).min() >= -1e-9
    assert path.convex_share == 1.0
    x, y = next(iter(loader))
    optimizer = torch.optim.LBFGS(models[2].parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(models[2](x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert loss_along_line(models[0], cross_entropy, loader, models[0], models[2]).gap == 0


CASES = {
    "mlp": (mlp, (7,)),
    "cnn": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)), (1, 6, 6)),
    "maxout": (lambda: nn.Sequential(nn.Flatten(), Maxout(7, 5), nn.Linear(5, 3)), (7,)),
    "lstm": (Rows, (4, 5)),
    "linear": (lambda: nn.Linear(7, 3), (7,)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_equals_a_loop_over_copies_and_the_ends_exactly(case, shuffle):
    build, shape = CASES[case]
    model, start, end = build(), build(), build()
    loader = batches(shape)
    path = loss_along_line(model, cross_entropy, batches(shape, shuffle=shuffle), start, end, points=7, metric=accuracy)
    np.testing.assert_allclose(path.loss, by_copies(model, cross_entropy, loader, start, end, path.alpha), rtol=2e-5)
    np.testing.assert_allclose(path.metric, by_copies(model, accuracy, loader, start, end, path.alpha), atol=0.03)
    if not shuffle:
        assert path.ends == (evaluate(start, loader, cross_entropy), evaluate(end, loader, cross_entropy))


@pytest.mark.parametrize(("stack", "inputs"), [(0, 0), (2**22, 2**20)])
def test_batched_and_looped_evaluation_agree(monkeypatch, stack, inputs):
    monkeypatch.setattr("neurarium.probes.loss_surface._loss_sweep.SMALL_STACK", stack)
    monkeypatch.setattr("neurarium.probes.loss_surface._loss_sweep.SMALL_INPUT", inputs)
    start, end, loader = mlp(torch.float64), mlp(torch.float64), batches(dtype=torch.float64)
    path = loss_along_line(start, cross_entropy, loader, start, end)
    np.testing.assert_allclose(
        path.loss, by_copies(start, cross_entropy, loader, start, end, path.alpha), rtol=1e-12, atol=0
    )
    assert path.ends == (evaluate(start, loader, cross_entropy), evaluate(end, loader, cross_entropy))


def test_reversed_path_is_the_mirror_image():
    start, end, loader = mlp(torch.float64), mlp(torch.float64), batches(dtype=torch.float64)
    there = loss_along_line(start, cross_entropy, loader, start, end)
    back = loss_along_line(start, cross_entropy, loader, end, start)
    np.testing.assert_allclose(there.alpha, 1 - back.alpha[::-1], atol=1e-12)
    np.testing.assert_allclose(there.loss, back.loss[::-1], rtol=1e-12)


def test_modules_state_dicts_and_vectors_mean_the_same():
    model, start, end = mlp(), mlp(), mlp()
    given = [
        (start, end),
        (start.state_dict(), end.state_dict()),
        (parameters_to_vector(start.parameters()), parameters_to_vector(end.parameters())),
    ]
    curves = [loss_along_line(model, cross_entropy, batches(), a, b, points=5).loss for a, b in given]
    np.testing.assert_array_equal(curves[0], curves[1])
    np.testing.assert_array_equal(curves[0], curves[2])


def normalised():
    return nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.ReLU(), nn.Linear(6, 3))


def test_running_statistics_are_recomputed_at_every_alpha():
    model, start, end, loader = normalised(), normalised(), normalised(), batches(n=51)
    path = loss_along_line(model, cross_entropy, loader, start, end, points=[0.0, 0.3, 1.0])
    expected = []
    for alpha in path.alpha:
        between = copy.deepcopy(model)
        mixed = (1 - alpha) * parameters_to_vector(start.parameters()) + alpha * parameters_to_vector(end.parameters())
        vector_to_parameters(mixed.detach(), between.parameters())
        between.eval()
        between[1].train()
        between[1].reset_running_stats()
        between[1].momentum = None
        for x, _ in loader:
            between(x)
        expected.append(evaluate(between, loader, cross_entropy))
    np.testing.assert_allclose(path.loss, expected, rtol=1e-5)
    stale = loss_along_line(model, cross_entropy, loader, start, end, points=[0.0, 0.3, 1.0], recalibrate=False)
    assert stale.loss[1] == pytest.approx(by_copies(model, cross_entropy, loader, start, end, [0.3])[0], rel=1e-5)
    assert abs(stale.loss - path.loss).max() > 1e-3
    other = loss_along_line(model, cross_entropy, loader, start, end, points=[0.0, 0.3, 1.0], recalibrate=batches(n=20))
    assert abs(other.loss - path.loss).max() > 1e-4


def test_the_model_is_left_exactly_as_it_was():
    model = normalised()
    model.train()
    model[2].eval()
    cross_entropy(model(torch.randn(9, 7)), torch.zeros(9, dtype=torch.long)).backward()
    state = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    rng = torch.random.get_rng_state()
    loss_along_line(model, cross_entropy, batches(), normalised(), normalised(), points=5)
    rng_after_construction = torch.random.get_rng_state()
    torch.random.set_rng_state(rng)
    normalised(), normalised()
    assert torch.equal(torch.random.get_rng_state(), rng_after_construction)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, model.parameters()))
    assert [m.training for m in model] == [True, True, False, True, True]
    assert model[1].momentum == 0.1


def test_a_loss_that_is_not_finite_is_a_hole():
    class Root(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(w))

        def forward(self, x):
            return x * (self.w - 0.3).sqrt()

    x = torch.ones(2, 1)
    path = loss_along_line(Root(0.0), mse_loss, [(x, x)], Root(2.0), Root(0.0), points=[0.0, 0.2, 0.5, 0.9, 1.0])
    np.testing.assert_array_equal(path.holes, [0.9, 1])
    assert path.gap == pytest.approx(float(path.loss[2]) - min(path.loss[:3]), abs=1e-7)
    assert np.isnan(path.barrier)
    assert "not finite at 2 points" in path.summary()


def test_standard_error_is_that_of_the_batch_means():
    model, loader = mlp(), batches(n=60, size=20)
    path = loss_along_line(model, cross_entropy, loader, model, mlp(), points=3)
    means = [evaluate(model, [batch], cross_entropy) for batch in loader]
    assert path.error[path.alpha == 0][0] == pytest.approx(np.std(means, ddof=1) / np.sqrt(3), rel=1e-6)
    assert np.isnan(loss_along_line(model, cross_entropy, batches(size=50), model, mlp(), points=3).error).all()


def test_numbers_of_a_curve_drawn_by_hand():
    alpha = np.array([-0.5, 0, 0.25, 0.5, 0.75, 1, 1.5])
    path = LossPath(alpha, np.array([9.0, 4, 1, 3, 2, 0, 9]), np.full(7, np.nan))
    assert path.gap == 2
    assert path.relative_gap == 0.5
    assert path.barrier == 1
    assert path.slope_changes == 2
    assert path.convex_share == pytest.approx(1 / 3)


def test_the_first_difference_is_named():
    model, loader = mlp(), batches()
    with pytest.raises(ValueError, match=r"end has '0.weight' of shape \(12, 7\).*\(11, 7\)"):
        loss_along_line(model, cross_entropy, loader, model, nn.Sequential(nn.Linear(7, 12), *mlp()[1:]))
    state = model.state_dict()
    with pytest.raises(ValueError, match=r"start has no parameter '3\.bias'"):
        loss_along_line(model, cross_entropy, loader, {n: v for n, v in state.items() if n != "3.bias"}, model)
    with pytest.raises(ValueError, match="start has a parameter 'extra'"):
        loss_along_line(model, cross_entropy, loader, {**state, "extra": torch.ones(1)}, model)
    with pytest.raises(ValueError, match="vector of the model's 124 parameters"):
        loss_along_line(model, cross_entropy, loader, torch.ones(3), model)
    with pytest.raises(ValueError, match="span must hold"):
        loss_along_line(model, cross_entropy, loader, model, model, span=(0.1, 1.0))
    with pytest.raises(ValueError, match="no batches"):
        loss_along_line(model, cross_entropy, [], model, model)
    with pytest.raises(ValueError, match="recalibrate"):
        loss_along_line(model, cross_entropy, loader, model, model, recalibrate=True)


def test_integer_parameters_are_kept_and_must_agree():
    class Counted(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = nn.Parameter(torch.tensor(shift), requires_grad=False)
            self.layer = nn.Linear(7, 3)

        def forward(self, x):
            return self.layer(x) + self.shift

    start, end = Counted(2), Counted(2)
    path = loss_along_line(start, cross_entropy, batches(), start, end, points=3)
    assert path.ends[1] == evaluate(end, batches(), cross_entropy)
    with pytest.raises(TypeError, match="'shift'"):
        loss_along_line(start, cross_entropy, batches(), start, Counted(3))


def test_tied_parameters_and_hooks():
    def tied():
        net = nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 7))
        net[2].weight = net[0].weight
        return net

    def hooked():
        net = mlp()
        net[0].register_forward_hook(lambda module, inputs, output: output.relu())
        return net

    for build in (tied, hooked):
        start, end, loader = build(), build(), batches()
        path = loss_along_line(start, cross_entropy, loader, start, end, points=5)
        expected = by_copies(start, cross_entropy, loader, start, end, path.alpha)
        np.testing.assert_allclose(path.loss, expected, rtol=2e-5)


def test_plane_holds_the_line_and_the_scalar_formula():
    origin = Scalar(0.2, 0.2)
    plane = loss_on_plane(
        origin, half_square, ONE, origin, torch.tensor([0.8, 0.8], dtype=torch.float64), torch.tensor([1.0, -1.0])
    )
    w1, w2 = 0.2 + 0.8 * plane.across + plane.up, 0.2 + 0.8 * plane.across - plane.up
    np.testing.assert_allclose(plane.loss, 0.5 * (1 - w1 * w2) ** 2, atol=1e-12)
    with pytest.raises(ValueError, match="up is the zero direction"):
        loss_on_plane(origin, half_square, ONE, origin, torch.ones(2), torch.zeros(2))


def test_filter_normalised_directions_do_not_depend_on_their_length():
    model, loader = mlp(torch.float64), batches(dtype=torch.float64)
    across, up = mlp(torch.float64), mlp(torch.float64)
    doubled = {name: 2 * value for name, value in up.state_dict().items()}
    planes = [
        loss_on_plane(model, cross_entropy, loader, model, across, d, points=(3, 3), filter_normalized=True)
        for d in (up, doubled)
    ]
    np.testing.assert_allclose(planes[0].loss, planes[1].loss, rtol=1e-12)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for i in (0, 3):
            w, d = model[i].weight, up[i].weight
            moved[i].weight += d * (w.norm(dim=1) / d.norm(dim=1))[:, None]
    grid = loss_on_plane(
        model, cross_entropy, loader, model, across, up, points=(2, 3), span_across=(0.0, 1.0), filter_normalized=True
    )
    assert grid.loss[2, 0] == pytest.approx(evaluate(moved, loader, cross_entropy), rel=1e-12)


def test_surface_around_a_run_holds_the_run_and_the_line():
    torch.manual_seed(1)
    model, loader = mlp(torch.float64), batches(dtype=torch.float64, size=50)
    model[2].p = 0.0
    start, losses = copy.deepcopy(model), [evaluate(model, loader, cross_entropy)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    recorder = TrajectoryRecorder(model, every=1)
    recorder.attach(optimizer)
    for _ in range(6):
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        losses.append(evaluate(model, loader, cross_entropy))
    run = recorder.decompose()
    surface = loss_around_run(model, cross_entropy, loader, run, scale=[0.0, 1.0], metric=accuracy)
    np.testing.assert_allclose(surface.loss[1], losses, rtol=1e-10)
    inside = loss_along_line(model, cross_entropy, loader, start, model, points=run.relative_progress)
    where = np.searchsorted(inside.alpha, run.relative_progress - 1e-9)
    np.testing.assert_allclose(surface.loss[0], inside.loss[where], rtol=1e-10)
    assert surface.metric.shape == (2, 7)


def test_results_draw_themselves():
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2)
    model, loader = mlp(), batches()
    path = loss_along_line(model, cross_entropy, loader, model, mlp(), points=5)
    plane = loss_on_plane(model, cross_entropy, loader, model, mlp(), mlp(), points=(3, 4))
    assert path.plot(axes[0]) is axes[0]
    assert plane.plot(axes[1]) is axes[1]
    assert "slope changes" in path.summary()
    assert "4 x 3 points" in plane.summary()
    pyplot.close(figure)
