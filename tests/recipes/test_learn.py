"""The one loop that gradient recipes share, and the problem it learns from."""

import dataclasses

import pytest
import torch
from torch import nn

from neurarium.data import Arrays, Batches, Split
from neurarium.recipes import Plan, Problem, calibration_error, learn
from neurarium.recipes.gradient import Unwatched


def linear_split(rows=200, test_rows=50):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows + test_rows, 3, generator=generator)
    y = 1000 + 50 * (x @ torch.tensor([1.0, -2.0, 0.5])) + torch.randn(len(x), generator=generator)
    whole = Arrays(x, y)
    return Split(whole[: rows - 40], whole[rows - 40 : rows], whole[rows:])


def test_a_target_far_from_zero_is_learned_and_scored_in_its_own_units():
    split = linear_split()
    problem = Problem.of(split, lambda: nn.Linear(3, 1), steps=600)
    assert abs(float(problem.train.y.mean())) < 1e-5
    predictor = learn(problem, Plan(problem.make_model(0)), {"learning_rate": 0.03}, Unwatched())
    scores = problem.scores(predictor.predict, problem.test_part(split))
    assert scores["r2"] > 0.99
    assert 0.5 < scores["rmse"] < 2.0  # the noise's deviation, 1


def test_the_best_state_on_validation_is_what_predicts():
    split = linear_split()
    problem = Problem.of(split, lambda: nn.Linear(3, 1), steps=200)
    seen = []

    class Watch(Unwatched):
        def record(self, **values):
            seen.append(values["validation_r2"])

    overshoot = torch.optim.SGD((model := problem.make_model(0)).parameters(), 0.9)
    predictor = learn(problem, Plan(model, optimizer=overshoot, anneal=False), {}, Watch())
    found = problem.scores(predictor.predict, problem.validation)["r2"]
    assert found == pytest.approx(max(seen), abs=1e-6)


def test_equal_seeds_give_equal_numbers_and_torchs_random_state_does_not_matter():
    problem = Problem.of(linear_split(), lambda: nn.Linear(3, 1), steps=40)

    def weights():
        torch.rand(7)
        return learn(problem, Plan(problem.make_model(3)), {}, Unwatched()).predict.weight.detach().clone()

    assert torch.equal(weights(), weights())


def test_a_last_batch_of_one_row_is_left_out_where_there_are_others():
    split = linear_split(rows=40 + 65)
    problem = Problem.of(
        split, lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), batch_size=16
    )
    assert [len(y) for _, y in problem.batches(0)] == [16] * 4
    learn(dataclasses.replace(problem, steps=8), Plan(problem.make_model(0)), {}, Unwatched())
    alone = Problem.of(split, lambda: nn.Linear(3, 1), batch_size=65)
    assert [len(y) for _, y in alone.batches(0)] == [65]


def test_training_ends_when_validation_stops_improving():
    problem = Problem.of(linear_split(), lambda: nn.Linear(3, 1), steps=4000)
    predictor = learn(problem, Plan(problem.make_model(0)), {"learning_rate": 0.03}, Unwatched())
    assert predictor.costs["steps"] < 4000


def test_a_problem_holds_no_test_example_and_finds_validation_examples_where_there_are_none():
    split = linear_split()
    poisoned = dataclasses.replace(split, test=Arrays(split.test.x * torch.nan, split.test.y * torch.nan))
    bare = dataclasses.replace(poisoned, validation=Arrays(split.train.x[:0], split.train.y[:0]))
    problem = Problem.of(bare, lambda: nn.Linear(3, 1))
    assert len(problem.validation) == 16
    assert len(problem.train) == 144
    parts = (problem.train, problem.validation)
    assert all(bool(torch.isfinite(part.x).all() and torch.isfinite(part.y).all()) for part in parts)


def test_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    y = torch.tensor([0, 0, 1, 0])
    # two in the bin of 0.9, both right; two in the bin of 0.6, one right
    assert calibration_error(probabilities, y, bins=10) == pytest.approx((2 * 0.1 + 2 * 0.1) / 4, abs=1e-6)


def test_batches_of_a_problem_are_those_of_a_loader_with_the_same_seed():
    problem = Problem.of(linear_split(), lambda: nn.Linear(3, 1), batch_size=32)
    for (x, _), (other, _) in zip(problem.batches(5), Batches(problem.train, 32, shuffle=True, seed=5), strict=True):
        assert torch.equal(x, other)
