"""Phases that were put in are found."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from neurarium.probes import error_phases

SIZES = [10, 20, 40, 80, 160, 320, 640]


def test_a_power_and_an_exponential_are_told_apart() -> None:
    power = error_phases(SIZES, [3 * n**-1.5 for n in SIZES])
    assert power.exponent == pytest.approx(-1.5)
    assert math.isnan(power.rate)
    assert power.switch == 10
    assert power.residual == pytest.approx(0, abs=1e-9)
    exponential = error_phases(SIZES, [3 * math.exp(-0.02 * n) for n in SIZES])
    assert exponential.rate == pytest.approx(0.02)
    assert math.isnan(exponential.exponent)
    assert exponential.switch == 640


def test_two_phases_are_found_where_they_meet() -> None:
    errors = [math.exp(-0.05 * n) if n <= 80 else math.exp(-4) * (n / 80) ** -0.7 for n in SIZES]
    found = error_phases(SIZES, errors)
    assert (found.rate, found.exponent, found.switch) == pytest.approx((0.05, -0.7, 80))
    assert "exp(-0.05 size) up to 80, then as size^-0.70" in found.summary()
    _, ax = plt.subplots()
    found.plot(ax)
    for line in ax.lines[1:]:  # both lines go through the errors
        x, y = line.get_data()
        np.testing.assert_allclose(y, [errors[SIZES.index(n)] for n in x], rtol=1e-6)
    plt.close()


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="at least three"):
        error_phases([1, 2], [1, 2])
    with pytest.raises(ValueError, match="above 0"):
        error_phases([1, 2, 3], [1, 0, 2])
