"""Recorded runs and the windows cut from them."""

import numpy as np
import pytest
import torch
from torch import nn

from neurarium.data import Trajectory, TrajectoryDataset, future_error, record, scale_states


def test_a_run_comes_back_from_disk(tmp_path):
    model = nn.Linear(3, 2)
    kept = []
    with record(model, tmp_path / "run.npy", 2) as recorder:
        for step in range(7):
            if step % 2 == 0:
                kept.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
            with torch.no_grad():
                model.weight += 1
            recorder.step()
    run = Trajectory.load(tmp_path / "run.npy", model)
    assert isinstance(run.states, np.memmap)
    assert np.array_equal(run.states, torch.stack(kept).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["run.npy"]


def test_half_precision_halves_the_file(tmp_path):
    model = nn.Linear(100, 10)
    for dtype in (torch.float16, torch.float32):
        with record(model, tmp_path / f"{dtype}.npy", 1, dtype=dtype) as recorder:
            for _ in range(50):
                recorder.step()
    sizes = [(tmp_path / f"{dtype}.npy").stat().st_size - 128 for dtype in (torch.float16, torch.float32)]
    assert sizes[1] == 2 * sizes[0] == 51 * 1010 * 4
    half = Trajectory.load(tmp_path / "torch.float16.npy", model).states
    assert np.allclose(half[0], np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]), atol=1e-3)


def test_an_unfinished_run_is_not_taken_for_a_run(tmp_path):
    recorder = record(nn.Linear(3, 2), tmp_path / "run.npy", 1)
    recorder.step()
    assert not (tmp_path / "run.npy").exists()
    recorder.close()
    assert (tmp_path / "run.npy").exists()


def test_windows_are_scaled_by_their_past_and_end_with_the_run():
    model = nn.Linear(3, 2)
    states = torch.randn(12, 8).cumsum(0)
    data = TrajectoryDataset([Trajectory(model, states), Trajectory(model, states[:7])], context=3, horizon=4)
    assert len(data) == 9 + 4
    trajectory, past, future = data[9 + 1]
    assert trajectory == 1
    scaled, mean, std = scale_states(states[1:4].T, [6, 2])
    assert torch.allclose(past, scaled)
    assert torch.allclose(future * std + mean, states[4:7].T, atol=1e-5)  # three are left
    assert torch.allclose(future_error(past[:, -1:].expand(-1, 4), data[10]), (past[:, -1:] - future).abs().mean(0))
    assert data[-1].trajectory == 1
    assert torch.equal(data[-1].past, data[12].past)
    for outside in (13, -14):
        with pytest.raises(IndexError, match=f"window {outside} of 13"):
            data[outside]
    strided = TrajectoryDataset([Trajectory(model, states)], context=3, horizon=4, stride=2)
    assert torch.allclose(strided[1].past, scale_states(states[1:7:2].T, [6, 2]).scaled)
    batch = data.batch(3, 2, torch.Generator().manual_seed(0))
    assert [len(windows) for windows in batch] == [2, 2, 2]
    first, second = batch[0]
    assert not torch.equal(first.past, second.past)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda path: record(nn.Linear(2, 2), path / "run.pt", 1), ".npy"),
        (lambda path: record(nn.Linear(2, 2), path / "run.npy", 0), "spacing"),
        (lambda path: record(nn.Linear(2, 2), path / "run.npy", 1, dtype=torch.int8), "dtype"),
        (lambda path: Trajectory(nn.Linear(2, 2), torch.zeros(3, 5)), "6 parameters"),
        (lambda path: TrajectoryDataset([]), "at least one run"),
        (
            lambda path: TrajectoryDataset([Trajectory(nn.Linear(2, 2), torch.zeros(5, 6))]),
            "trajectory 0 has 5 snapshots",
        ),
    ],
)
def test_bad_requests_name_the_argument(call, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        call(tmp_path)


def test_a_file_of_another_model_is_refused_by_name(tmp_path):
    with record(nn.Linear(3, 2), tmp_path / "run.npy", 1):
        pass
    with pytest.raises(ValueError, match=r"run\.npy: .*6 parameters"):
        Trajectory.load(tmp_path / "run.npy", nn.Linear(2, 2))
