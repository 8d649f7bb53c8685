"""Intervals over seeds: exact laws, a resampling written out, and seeds that differ more than measurements do."""

import math

import numpy as np
import pytest

from neurarium.probes import law_over_seeds, learning_rate_law

CELLS = [(d, n) for d in (2, 4, 8) for n in (32, 64, 128)]


SIZE = float(np.mean([math.log(d * n) for d, n in CELLS]))


def drawn(seeds, *, slope=0.0, level=0.0, noise=0.0, depth=0.7, width=0.7):
    """Rates 3 depth^-a width^-b; seeds differ by a factor and by an exponent, measurements by an error each."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(seeds):
        turn, shift = slope * rng.standard_normal(), level * rng.standard_normal()
        found.append(
            {
                (d, n): 3 * d**-depth * n**-width
                * math.exp(shift - turn * (math.log(d * n) - SIZE) + noise * rng.standard_normal())
                for d, n in CELLS
            }
        )  # fmt: skip
    return found


def test_an_exact_law_has_no_spread():
    found = law_over_seeds(drawn(4))
    assert found.law.exponent == pytest.approx(0.7)
    assert found.interval == pytest.approx((0.7, 0.7))
    assert found.constant_interval == pytest.approx((3, 3))
    assert found.depth_minus_width_interval == pytest.approx((0, 0), abs=1e-9)
    assert found.predict(16, 256) == pytest.approx(3 * 4096**-0.7)


def test_intervals_are_those_of_seeds_resampled_by_hand():
    seeds = drawn(5, slope=0.1, noise=0.1)
    seeds[1][4, 64] = math.inf  # censored
    found = law_over_seeds(seeds, resamples=200, seed=3)
    fits = []
    for picks in np.random.default_rng(3).integers(5, size=(200, 5)):
        law = learning_rate_law([(d, n, r) for i in picks for (d, n), r in seeds[i].items()], resamples=1)
        fits.append((law.exponent, math.log(law.constant), law.depth_exponent - law.width_exponent))
    low, high = np.quantile(fits, [0.025, 0.975], axis=0)
    assert found.interval == pytest.approx((low[0], high[0]))
    assert found.constant_interval == pytest.approx((math.exp(low[1]), math.exp(high[1])))
    assert found.depth_minus_width_interval == pytest.approx((low[2], high[2]))


def test_what_seeds_share_widens_the_interval_or_does_not_count():
    turned = law_over_seeds(drawn(8, slope=0.1))
    single = turned.law.interval
    assert turned.interval[1] - turned.interval[0] > 1.3 * (single[1] - single[0])
    moved = law_over_seeds(drawn(8, level=0.5))
    assert moved.interval == pytest.approx((0.7, 0.7))
    assert moved.law.interval[1] - moved.law.interval[0] > 0.1


def test_the_product_form_is_told_from_depth_that_counts_more():
    assert law_over_seeds(drawn(6, noise=0.1)).product_form
    other = law_over_seeds(drawn(6, noise=0.1, depth=1.2, width=0.4))
    assert not other.product_form
    assert other.depth_minus_width == pytest.approx(0.8, abs=0.1)
    assert "over 6 seeds" in other.summary()


@pytest.mark.untyped
def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="at least two seeds, not 1"):
        law_over_seeds(drawn(1))
