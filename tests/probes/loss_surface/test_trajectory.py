"""Progress and residual of a run, against closed forms of gradient descent on quadratics."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from neurarium.probes import TrajectoryRecorder


class Position(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def descend(model, curvature, lr, steps, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    recorder = TrajectoryRecorder(model, **options)
    handle = recorder.attach(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (torch.tensor(curvature, dtype=torch.float64) * model.w.square()).sum()).backward()
        optimizer.step()
    handle.remove()
    return recorder


def test_isotropic_quadratic_is_left_along_the_line():
    run = descend(Position(1.0, -2.0, 0.5), [3.0, 3.0, 3.0], 0.1, 20).decompose()
    assert run.residual.max() < 1e-14
    np.testing.assert_allclose(run.relative_progress, (1 - 0.7**run.step) / (1 - 0.7**20), rtol=1e-12)


def test_ill_conditioned_quadratic_strays_as_the_closed_form_says():
    run = descend(Position(1.0, 1.0), [1.0, 100.0], 0.005, 5000).decompose()
    t = np.arange(5001)
    np.testing.assert_allclose(run.residual, np.abs(0.995**t - 0.5**t) / np.sqrt(2), atol=1e-10)
    np.testing.assert_allclose(run.progress, (2 - 0.995**t - 0.5**t) / np.sqrt(2), atol=1e-10)
    turn = np.log(np.log(0.5) / np.log(0.995)) / (np.log(0.995) - np.log(0.5))
    assert abs(int(run.residual.argmax()) - turn) < 1
    assert "5001 snapshots over 5000 steps" in run.summary()


def train(model, steps=23, **options):
    x, y = torch.randn(40, 6), torch.randn(40, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recorder = TrajectoryRecorder(model, **options)
    recorder.attach(optimizer)
    seen = {0: parameters_to_vector(model.parameters()).detach().clone()}
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
        seen[step] = parameters_to_vector(model.parameters()).detach().clone()
    return recorder, seen


def net():
    return nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 2)).double()


def test_parts_rebuild_the_snapshots():
    torch.set_default_dtype(torch.float64)
    recorder, seen = train(net(), every=5)
    run = recorder.decompose()
    assert run.step.tolist() == [0, 5, 10, 15, 20, 23]
    unit = run.direction() / run.distance
    for i, step in enumerate(run.step):
        rebuilt = run.snapshot(0) + run.progress[i] * unit + run.residual_vector(i)
        torch.testing.assert_close(rebuilt, seen[int(step)], rtol=0, atol=1e-13)
        torch.testing.assert_close(run.snapshot(i), seen[int(step)], rtol=0, atol=1e-15)
        assert run.residual[i] == pytest.approx(float(run.residual_vector(i).norm()), abs=1e-12)
        assert abs(float(run.residual_vector(i) @ unit)) < 1e-12
    assert run.relative_progress[-1] == 1
    assert run.relative_residual[-1] < 1e-12
    assert 0 < run.max_residual_ratio < 1


def test_the_hook_counts_and_a_second_run_can_follow():
    torch.set_default_dtype(torch.float64)
    model = net()
    recorder, _ = train(model, steps=4)
    with pytest.raises(ValueError, match="attached already"):
        recorder.attach(torch.optim.SGD(model.parameters(), lr=1))
    assert recorder.taken == 4
    assert len(recorder.decompose()) == 5


def test_half_precision_keeps_the_ends():
    torch.set_default_dtype(torch.float64)
    model = net()
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    full = train(model)[0].decompose()
    torch.manual_seed(1)
    half = train(twin, dtype=torch.float16)[0].decompose()
    np.testing.assert_allclose(half.residual, full.residual, atol=2e-3 * full.distance)
    assert half.distance == full.distance
    torch.testing.assert_close(half.snapshot(-1), full.snapshot(-1))


def test_sketch_keeps_lengths_roughly_and_refuses_planes():
    torch.set_default_dtype(torch.float64)
    model = nn.Sequential(nn.Linear(6, 300), nn.Tanh(), nn.Linear(300, 2))
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    full = train(model)[0].decompose()
    torch.manual_seed(1)
    sketch = train(twin, sketch=2000, generator=torch.Generator().manual_seed(0))[0].decompose()
    np.testing.assert_allclose(sketch.relative_progress, full.relative_progress, atol=0.1)
    np.testing.assert_allclose(sketch.relative_residual, full.relative_residual, atol=0.1)
    with pytest.raises(ValueError, match="sketch"):
        sketch.snapshot(0)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="every must be at least 1"):
        TrajectoryRecorder(Position(1.0), every=0)
    with pytest.raises(ValueError, match="no optimizer step"):
        TrajectoryRecorder(Position(1.0)).decompose()
    with pytest.raises(ValueError, match="where it began"):
        descend(Position(0.0, 0.0), [1.0, 1.0], 0.1, 3).decompose()
    whole = nn.Module()
    whole.w = nn.Parameter(torch.tensor([1]), requires_grad=False)
    with pytest.raises(TypeError, match=r"'w' is torch\.int64"):
        TrajectoryRecorder(whole)


def test_plot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots()
    assert descend(Position(1.0, 1.0), [1.0, 9.0], 0.05, 5).decompose().plot(ax) is ax
    pyplot.close(figure)
