"""The early-stopping iteration."""

import math

import matplotlib
import pytest

from neurarium.probes import early_stop

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def test_first_of_the_lowest_losses() -> None:
    found = early_stop([100, 200, 300, 400], [0.5, 0.2, 0.2, 0.3])
    assert (found.iteration, found.loss, found.censored) == (200, 0.2, False)
    assert "iteration 200" in found.summary()


def test_a_loss_still_falling_is_censored_and_nan_is_never_the_minimum() -> None:
    assert early_stop([1, 2, 3], [3.0, 2.0, 1.0]).censored
    assert early_stop([1, 2, 3], [3.0, math.nan, 4.0]).iteration == 1


def test_it_draws() -> None:
    _, ax = plt.subplots()
    assert early_stop([1, 2], [1.0, 2.0]).plot(ax) is ax
    assert len(ax.lines) == 2
    plt.close("all")


@pytest.mark.parametrize(
    ("iterations", "losses", "message"),
    [
        ([], [], "at least one"),
        ([1], [1.0, 2.0], "one loss per iteration"),
        ([2, 1], [1.0, 2.0], "ascending"),
        ([1], [math.nan], "diverged"),
    ],
)
def test_bad_curves(iterations: list[int], losses: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        early_stop(iterations, losses)
