"""The nine numbers against gradient descent on the vectors themselves, and the closed form where there is one."""

import math

import pytest
import torch

from neurarium.theory import fit_merging, merging_dynamics


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def descend(h, y, rates, b, d, duration, shared, step=1e-3):
    """Euler steps of gradient descent on h, b and D in their own space; gradients by autograd."""
    h, b, d = (torch.tensor(h, dtype=torch.float64), b.clone(), d.clone())
    distances, losses = [], []
    for _ in range(round(duration / step) + 1):
        variables = [v.clone().requires_grad_() for v in (h, b, d)]
        error = variables[1] + variables[2] * variables[0][:, None] - y
        loss = error.square().sum(1).mean() / 2
        distances.append(float(h[1] - h[0]))
        losses.append(float(loss.detach()))
        slopes = torch.autograd.grad(loss, variables)
        h = h - step * torch.tensor(rates[:2]) * slopes[0]
        b = b - step * rates[2] / shared * slopes[1]
        d = d - step * rates[3] / shared * slopes[2]
    return distances, losses


@pytest.mark.parametrize("shared", [1.0, 3.0])
def test_against_gradient_descent_on_the_vectors(shared):
    y, b, d = (torch.randn(*s, generator=draw(1), dtype=torch.float64) for s in ((2, 5), (5,), (5,)))
    rates = (1.3, 0.7, 0.5, 0.9)
    found = merging_dynamics((0.2, 0.9), y, rates, (b, d), 2.0, 3, shared)
    distances, losses = descend((0.2, 0.9), y, rates, b, d, 2.0, shared)
    assert found.distance.tolist() == pytest.approx([distances[i] for i in (0, 1000, 2000)], abs=1e-3)
    assert found.loss.tolist() == pytest.approx([losses[i] for i in (0, 1000, 2000)], abs=1e-3)
    assert found.scale == pytest.approx(float(d.norm()))


def test_equal_targets_merge_as_long_as_the_read_out_is_in_use():
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = merging_dynamics((-0.3, 0.4), y, (0.8, 0.8, 0.2, 0.8), 0.5, 6.0, 2001)
    use = torch.trapezoid(found.slope, found.time)
    assert float(found.distance[-1]) == pytest.approx(0.7 * math.exp(-0.4 * float(use)), rel=1e-5)


def test_equal_words_stay_equal_and_unequal_targets_drive_apart():
    same = merging_dynamics((0.3, 0.3), torch.ones(2, 3), (1, 1, 1, 1), 0.5, 5.0)
    assert float(same.distance.abs().max()) == 0.0
    apart = merging_dynamics((-0.05, 0.05), torch.eye(2), (1, 1, 0.25, 1), 0.1, 60.0)
    assert float(apart.distance[-1]) > 0.5
    assert float(apart.loss[-1]) < 1e-6


def test_the_loss_never_rises():
    for seed in range(5):
        y, b, d = (torch.randn(*s, generator=draw(seed)) for s in ((2, 4), (4,), (4,)))
        loss = merging_dynamics((-0.5, 1.0), y, (1, 2, 0.5, 1), (b, d), 5.0).loss
        assert bool((loss.diff() < 1e-9).all())


def test_the_scale_is_found_again():
    y = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    rates = (0.8, 0.8, 0.2, 0.8)
    known = merging_dynamics((-0.5, 0.5), y, rates, 0.3, 8.0, 30)
    found = fit_merging(known.time, known.distance, y, rates)
    assert found.scale == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: merging_dynamics((0, 1), torch.ones(3, 2), (1, 1, 1, 1), 1.0, 1.0), "targets"),
        (lambda: merging_dynamics((0, 1), torch.ones(2, 2), (1, -1, 1, 1), 1.0, 1.0), "negative"),
        (lambda: merging_dynamics((0, 1), torch.ones(2, 2), (1, 1, 1, 1), 1.0, 1.0, shared=0), "shared"),
        (lambda: fit_merging(torch.zeros(2), torch.zeros(2), torch.ones(2, 2), (1, 1, 1, 1)), "three moments"),
    ],
)
@pytest.mark.untyped
def test_one_sentence_for_bad_arguments(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
