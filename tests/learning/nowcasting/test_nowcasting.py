"""Jumps along the trajectory: when they come, how far they go, what they leave alone, and that they can be undone."""

import numpy as np
import pytest
import torch
from tests.ranks import run_ranks
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Trajectory, TrajectoryDataset
from neurarium.learning import Backprop, GradientNoise, LinearNowcast, Nowcaster, fit_forecaster, horizon_schedule
from neurarium.models import CausalTransformer, NiNo, WeightNowcast
from neurarium.testing.contract import blobs
from neurarium.training import fit


class Fixed:
    """Forecasts what it is told to, and keeps what it was asked."""

    context, horizon = 5, 40

    def __init__(self, forecast):
        self.forecast = forecast
        self.asked = []

    def bind(self, model):
        return self

    def predict(self, states, k):
        self.asked.append((states.clone(), k))
        return self.forecast(states)


def stay(states):
    return states[:, -1]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))


def steps(optimizer, model, count, skip=()):
    x, y = blobs(seed=0)
    for step in range(1, count + 1):
        if step in skip:
            continue
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_schedule_to_the_integer():
    assert horizon_schedule(40, 10) == [40, 33, 26, 21, 16, 11, 8, 5, 3, 1]
    assert horizon_schedule(40, 5) == [40, 25, 13, 5, 1]
    assert horizon_schedule(40, 10, power=1.0)[:3] == [40, 36, 31]


def test_five_snapshots_then_a_jump_that_counts_as_a_step():
    model = network()
    predictor = Fixed(stay)
    optimizer = Nowcaster(torch.optim.Adam(model.parameters(), 0.01), model, predictor, period=10, max_steps=30)
    seen, needed = [], []
    x, y = blobs(seed=0)
    for _ in range(30):
        seen.append(weights(model))
        needed.append(optimizer.needs_gradient)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert [i + 1 for i, n in enumerate(needed) if not n] == [10, 20, 30]
    assert [k for _, k in predictor.asked] == [40, 13, 1] == optimizer.schedule
    for jump, (states, _) in enumerate(predictor.asked):
        taken = [10 * jump + step for step in (2, 4, 6, 8, 10)]
        assert torch.equal(states, torch.stack([seen[step - 1] for step in taken], dim=1))


def test_a_forecast_of_no_change_is_the_optimizer_with_one_step_left_out():
    plain, jumping = network(), network()
    one = torch.optim.Adam(plain.parameters(), 0.01)
    optimizer = Nowcaster(torch.optim.Adam(jumping.parameters(), 0.01), jumping, Fixed(stay), period=10, max_steps=30)
    steps(optimizer, jumping, 25)
    plain.train()
    x, y = blobs(seed=0)
    for step in range(1, 26):
        one.zero_grad()
        cross_entropy(plain(x), y).backward()
        if step not in (10, 20):
            one.step()
    assert torch.equal(weights(plain), weights(jumping))
    assert torch.equal(plain[1].running_mean, jumping[1].running_mean)  # buffers are not part of the jump


@pytest.mark.parametrize("k", [1, 7, 40])
def test_a_line_continues_exactly(k):
    start, slope = torch.randn(20, 1).double(), torch.randn(20, 1).double()
    states = start + slope * torch.arange(5).double()
    assert torch.allclose(LinearNowcast().predict(states, k), (start + slope * (4 + k))[:, 0])


def test_the_line_is_that_of_least_squares():
    states = torch.randn(6, 5).double()
    expected = [np.polyval(np.polyfit(np.arange(5), row, 1), 4 + 3) for row in states.numpy()]
    assert np.allclose(LinearNowcast().predict(states, 3).numpy(), expected)


def test_a_run_goes_on_in_the_middle_of_a_period(tmp_path):
    def start(model):
        return Nowcaster(
            torch.optim.Adam(model.parameters(), 0.01), model, LinearNowcast(horizon=4), period=10, max_steps=30
        )

    whole = network()
    steps(start(whole), whole, 30)
    first = network()
    optimizer = start(first)
    steps(optimizer, first, 17)
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "run.pt")
    kept = torch.load(tmp_path / "run.pt", weights_only=True)
    second = network(1)
    second.load_state_dict(kept["model"])
    again = start(second)
    again.load_state_dict(kept["optimizer"])
    steps(again, second, 13)
    assert torch.equal(weights(second), weights(whole))
    with pytest.raises(ValueError, match="another model"):
        start(nn.Linear(2, 2)).load_state_dict(kept["optimizer"])


def test_what_is_not_finite_or_worse_is_undone():
    x, y = blobs(seed=0)
    model = network()
    ruin = Fixed(lambda states: states[:, -1] * float("nan"))
    optimizer = Nowcaster(torch.optim.SGD(model.parameters(), 0.1), model, ruin, period=5, max_steps=5)
    with pytest.warns(UserWarning, match="step 5: the forecast is not finite"):
        steps(optimizer, model, 5)
    assert torch.isfinite(weights(model)).all()
    assert optimizer.undone == [5]

    def guard():
        model.eval()
        with torch.no_grad():
            loss = cross_entropy(model(x), y)
        model.train()
        return loss

    for change, kept in ((lambda states: -10 * states[:, -1], False), (stay, True)):
        predictor = Fixed(change)
        optimizer = Nowcaster(
            torch.optim.SGD(model.parameters(), 0.1), model, predictor, period=5, max_steps=5, guard=guard
        )
        steps(optimizer, model, 5)
        assert (optimizer.undone == []) is kept
        assert torch.equal(weights(model), predictor.asked[0][0][:, -1])


RANKS = """
import torch, torch.distributed as dist
from torch import nn
from neurarium.learning import Nowcaster

rank = dist.get_rank()

class Apart:
    context = horizon = 5
    def bind(self, model):
        return self
    def predict(self, states, k):
        return states[:, -1] + 1 + rank

found = []
for worse in (-1.0, 5.0):  # rank 1 sees a better loss after the jump, rank 0 one that changes by ``worse``
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    guard = lambda: float(model.bias.detach()) * (worse, -1.0)[rank]
    jumping = Nowcaster(torch.optim.SGD(model.parameters(), 0.1), model, Apart(), period=5, max_steps=5, guard=guard)
    for _ in range(5):
        jumping.step()
    found.append((float(model.bias.detach()), jumping.undone))
print(found)
"""


def test_ranks_make_one_jump_and_judge_it_together(tmp_path):
    assert run_ranks(RANKS, tmp_path) == ["[(1.0, []), (0.0, [5])]\n"] * 2


def test_frozen_parameters_stay():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = Nowcaster(
        torch.optim.SGD(model.parameters(), 0.1), model, Fixed(lambda s: s[:, -1] + 1), period=5, max_steps=5
    )
    steps(optimizer, model, 5)
    assert torch.equal(model[0].weight, before)
    assert float(model[3].bias.detach().mean()) > 0.5


def test_hooks_schedulers_and_the_loop_reach_the_optimizer_inside():
    model = network()
    inner = torch.optim.SGD(model.parameters(), 0.1)
    optimizer = Nowcaster(inner, model, LinearNowcast(horizon=2), period=10, max_steps=20)
    noise = GradientNoise(0.1)
    noise.attach(optimizer)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    fit(Backprop(model, cross_entropy), [blobs(seed=0)], optimizer, epochs=20)
    assert noise.step == 18  # the two jumps are no steps of the optimizer inside
    schedule.step()
    assert inner.param_groups[0]["lr"] == 0.05
    assert "schedule=[2, 1]" in repr(optimizer)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"period": 12, "max_steps": 100}, "multiple of the predictor's context 5, not 12"),
        ({"period": 10, "max_steps": 9}, "no nowcast would ever happen"),
        ({"period": 10, "max_steps": 10, "power": 0.0}, "power"),
    ],
)
def test_bad_requests_name_the_argument(options, words):
    model = network()
    with pytest.raises(ValueError, match=words):
        Nowcaster(torch.optim.SGD(model.parameters(), 0.1), model, LinearNowcast(), **options)


def test_a_changed_architecture_is_noticed():
    model = network()
    optimizer = Nowcaster(torch.optim.SGD(model.parameters(), 0.1), model, LinearNowcast(), period=5, max_steps=5)
    model[3] = nn.Linear(16, 4)
    with pytest.raises(ValueError, match="changed shape or number"):
        optimizer.step()


@pytest.mark.parametrize("kind", ["nino", "plus", "plain"])
def test_forecasters_learn_from_recorded_runs(kind):
    """Runs whose parameters all fall towards zero at one rate: easily forecast, and not by a straight line."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(6, 1, 26, generator=generator)
    runs = [Trajectory(model, start * 0.8 ** torch.arange(14.0)[:, None]) for start in starts]
    horizon = 1 if kind == "plain" else 6
    data = TrajectoryDataset(runs[:5], horizon=horizon)
    torch.manual_seed(0)
    options = {"horizon": horizon, "hidden": 16, "generator": generator}
    forecaster = NiNo(layers=2, **options) if kind == "nino" else WeightNowcast(plus=kind == "plus", **options)
    losses = fit_forecaster(forecaster, data, steps=150, learning_rate=1e-2, generator=generator)
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:5])
    states, k = runs[5].states.T, 6
    if kind == "plain":
        forecaster.horizon = k  # it goes on from its own forecasts
    error = (forecaster.bind(model).predict(states[:, :5], k) - states[:, 4 + k]).abs().mean()
    line = (LinearNowcast().predict(states[:, :5], k) - states[:, 4 + k]).abs().mean()
    assert error < 0.5 * line


def test_rates_fall_along_a_cosine():
    """A gradient that never changes makes Adam's steps as long as its rates."""

    class Shift(nn.Module):
        context, horizon = 3, 1

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def bind(self, model):
            return self

        def forecasts(self, scaled, k=None, generator=None):
            return scaled[..., -1:] + self.w

    forecaster = Shift()
    data = TrajectoryDataset([Trajectory(nn.Linear(3, 2), torch.arange(12.0)[:, None].expand(-1, 8))], 3, 1)
    fit_forecaster(forecaster, data, steps=20, learning_rate=1e-3, weight_decay=0.0)
    rates = [1e-6 + (1e-3 - 1e-6) * (1 + np.cos(np.pi * step / 20)) / 2 for step in range(20)]
    assert float(forecaster.w.detach()) == pytest.approx(sum(rates), rel=1e-3)


def test_forecaster_and_data_have_to_agree():
    model = nn.Linear(3, 2)
    data = TrajectoryDataset([Trajectory(model, torch.randn(20, 8))], horizon=4)
    with pytest.raises(ValueError, match="horizon 4, the forecaster 5 and 40"):
        fit_forecaster(NiNo(hidden=8), data, steps=1)


def test_models_that_differ_in_their_heads_get_graphs_of_their_own():
    models = [CausalTransformer(7, 8, heads, 1, 16, 4) for heads in (2, 4)]
    size = sum(p.numel() for p in models[0].parameters())
    runs = [Trajectory(model, torch.randn(20, size)) for model in (*models, CausalTransformer(7, 8, 4, 1, 16, 4))]
    asked = []
    nino = NiNo(horizon=2, hidden=4, layers=1)
    fit_forecaster(
        nino,
        TrajectoryDataset(runs, horizon=2),
        steps=6,
        slices=1,
        bind=lambda model: asked.append(1) or nino.bind(model),
    )
    assert len(asked) == 2
