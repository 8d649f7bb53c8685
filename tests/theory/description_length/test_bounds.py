"""Bounds from code lengths, against numbers worked out by hand and against noise that is learnt by heart."""

import math

import numpy as np
import pytest

from neurarium.theory import finite_hypothesis_bound, no_free_lunch_bound


def test_a_number_worked_out_by_hand():
    wanted = math.sqrt((693.147 + 13.816 + 2.996) / 120_000)
    assert finite_hypothesis_bound(0.0, 1000, n=60_000, delta=0.05) == pytest.approx(wanted, abs=1e-5)
    assert wanted == pytest.approx(0.07692, abs=1e-5)


def test_twice_the_examples_divide_the_gap_by_the_root_of_two():
    gaps = [finite_hypothesis_bound(0.1, 500, n) - 0.1 for n in (1000, 2000)]
    assert gaps[0] / gaps[1] == pytest.approx(math.sqrt(2))


def test_a_table_of_noise_is_not_below_the_bound():
    """A classifier that knows n labels by heart takes n log2 C bits, and may be sure of them."""
    for classes, n in ((2, 100), (10, 1000)):
        assert no_free_lunch_bound(n * math.log2(classes), n, classes) < 0
    assert no_free_lunch_bound(0, 10_000, 10) == pytest.approx(math.log(10), abs=1e-3)


def test_the_best_of_many_classifiers_keeps_to_the_bounds():
    """2^k classifiers of k bits that guess: however the best is chosen, both bounds hold about as often as they say."""
    draw, n, k = np.random.default_rng(0), 200, 8
    broken = 0
    for _ in range(100):
        labels, guesses = draw.integers(0, 2, n), draw.integers(0, 2, (2**k, n))
        wrong = (guesses != labels).mean(1).min()
        sure = np.clip(1 - wrong, 1e-3, 1 - 1e-3)
        loss = -((1 - wrong) * math.log(sure) + wrong * math.log(1 - sure))
        broken += (finite_hypothesis_bound(wrong, k, n, 0.2) < 0.5) or (loss < no_free_lunch_bound(k, n, 2, 0.2))
    assert broken <= 20


@pytest.mark.parametrize("call", [
    lambda: finite_hypothesis_bound(1.5, 10, 10), lambda: finite_hypothesis_bound(0.1, -1, 10),
    lambda: no_free_lunch_bound(10, 0, 2), lambda: no_free_lunch_bound(10, 10, 1),
])  # fmt: skip
def test_numbers_out_of_range(call):
    with pytest.raises(ValueError, match="must"):
        call()
