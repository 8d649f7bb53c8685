"""The study's networks and its control, at smoke scale."""

import math

import pytest
import torch

from neurarium.lab import Run
from neurarium.studies.probes.linear_path import STUDY, TRAINED, build, trial


@pytest.mark.parametrize("arm", TRAINED)
def test_every_network_takes_grey_and_coloured_images(arm):
    settings = STUDY.settings(arm, "smoke")
    assert build(settings, torch.Size((28, 28)))(torch.randn(2, 28, 28)).shape == (2, 10)
    if arm != "lstm":
        assert build(settings, torch.Size((3, 32, 32)))(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_trial_is_a_function_of_its_seed_and_returns_what_the_claims_name():
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        run = Run(seed=7)
        results.append(trial(STUDY.settings("relu-mlp", "smoke"), run))
    assert results[0] == results[1]
    assert {"gap", "relative_gap", "barrier", "max_residual", "final_residual"} <= results[0].keys()
    assert all(math.isfinite(value) for value in results[0].values())
    assert {"loss", "between", "residual", "log_loss"} <= {name for row in run.curves for name in row}


def test_the_random_end_is_as_far_away_and_no_better():
    torch.manual_seed(7)
    metrics = trial(STUDY.settings("no-learning", "smoke"), Run(seed=7))
    assert metrics["relative_drop"] < 0.2
    assert metrics["test_accuracy"] < 0.3
