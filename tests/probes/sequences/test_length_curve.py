"""Length curves, films of a memory and maps of states, on networks that are known exactly."""

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from neurarium.data import formal_tasks
from neurarium.models import SequenceReadout, StackRNN, reversing_stack
from neurarium.probes import LengthCurve, length_curve, memory_film, state_map


def test_the_exact_stack_scores_one_and_a_constant_scores_chance():
    curve = length_curve(reversing_stack(), "reverse_string", (2, 8, 20), samples=64, trained=8)
    assert curve.accuracy == (1.0, 1.0, 1.0)
    assert curve.solved
    assert curve.score == curve.within == 1.0
    assert "solved" in curve.summary()
    constant = SequenceReadout(nn.RNN(6, 2, batch_first=True), nn.Linear(2, 5))
    with torch.no_grad():
        constant.head.weight.zero_()
        constant.head.bias.copy_(torch.arange(5, 0, -1))
    curve = length_curve(constant, formal_tasks["bucket_sort"], (1, 4), samples=2000, trained=1)
    assert curve.accuracy[0] == pytest.approx(0.2, abs=0.03)
    # of four sorted digits the k-th is 0 where at least k are
    chance = sum(1 - sum(_binomial(4, j) for j in range(k)) for k in range(1, 5)) / 4
    assert curve.score == pytest.approx(chance, abs=0.02)


def _binomial(n, k, p=0.2):
    return torch.distributions.Binomial(n, torch.tensor(p)).log_prob(torch.tensor(float(k))).exp().item()


def test_lengths_that_the_task_has_not_are_left_out():
    model = StackRNN(9, 5, 4)
    assert length_curve(model, "modular_arithmetic", (1, 2, 3, 4), samples=4, trained=2).lengths == (1, 3)
    with pytest.raises(ValueError, match="did you mean 'parity_check'"):
        length_curve(model, "parity_chek")
    with pytest.raises(ValueError, match="at least 3"):
        length_curve(model, "binary_addition", (1, 2))
    with pytest.raises(ValueError, match="must answer"):
        length_curve(nn.Linear(3, 1), "parity_check", (2,))


def test_the_film_of_the_exact_stack():
    x = formal_tasks["reverse_string"].sample(3, 6, torch.Generator().manual_seed(0))[0]
    film = memory_film(reversing_stack(), x)
    assert film.names == ("push", "pop", "stay")
    assert film.sharpness == 1.0
    assert film.summary().startswith("push 0.50, pop 0.50, stay 0.00")
    with pytest.raises(TypeError, match="StackRNN"):
        memory_film(nn.Linear(3, 3), x)


def test_the_map_of_states_in_a_plane():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 50), nn.Identity(), nn.Linear(50, 3))
    found = state_map(model, torch.randn(40, 2))
    assert sum(found.explained) == pytest.approx(1.0)
    assert found.points.shape == (40, 1, 2)
    assert state_map(model, torch.randn(40, 2), "1").points.shape == (40, 1, 2)
    with pytest.raises(ValueError, match=r"nn\.Linear"):
        state_map(nn.Tanh(), torch.randn(3, 2))
    for result in (found, length_curve(reversing_stack(), "reverse_string", (2, 8), samples=8, trained=4)):
        ax = Figure().add_subplot()
        assert result.plot(ax) is ax


def test_the_score_is_the_mean_beyond_training():
    curve = LengthCurve((4, 9, 10), (1.0, 0.5, 0.7), (0.2, 0.2, 0.2), trained=5)
    assert curve.score == pytest.approx(0.6)
    assert curve.within == 1.0
