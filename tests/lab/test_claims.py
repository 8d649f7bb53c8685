"""Claims against hand-computed intervals and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from neurarium.lab import all_of, any_of, correlation, difference, ratio, value
from neurarium.lab.claims import interval


def table(**arms):
    """arm=[values per seed] -> the table claims are judged on."""
    return {arm: {seed: {"m": float(v)} for seed, v in enumerate(values)} for arm, values in arms.items()}


def test_interval_is_students():
    values = [0.1, 0.4, 0.25, 0.3]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    ci = interval(values)
    assert ci.low == pytest.approx(low)
    assert ci.high == pytest.approx(high)
    assert ci.n == 4


def test_one_seed_decides_only_where_a_second_would_be_the_same():
    t = table(a=[2.0], b=[1.0])
    claim = difference("m", "a", "b") > 0.5
    assert claim.judge(t).outcome == "undecided"
    assert claim.judge(t, deterministic=True).outcome == "reproduced"


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ([1.00, 1.01, 0.99], [0.5, 0.51, 0.49], "reproduced"),
        ([0.55, 0.56, 0.54], [0.5, 0.51, 0.49], "not reproduced"),
        ([0.9, 0.3, 0.7], [0.5, 0.51, 0.49], "undecided"),
    ],
)
def test_verdict_is_where_the_interval_lies(a, b, outcome):
    assert (difference("m", "a", "b") > 0.1).judge(table(a=a, b=b)).outcome == outcome
    mirrored = {"reproduced": "not reproduced", "not reproduced": "reproduced"}.get(outcome, outcome)
    assert (difference("m", "a", "b") < 0.1).judge(table(a=a, b=b)).outcome == mirrored


def test_pairing_uses_seeds_that_both_arms_finished():
    t = table(a=[1, 2, 3], b=[0, 1])
    del t["a"][0]
    assert (difference("m", "a", "b") > 0).quantity.over(t) == {1: 1.0}


def test_pairing_removes_what_seeds_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 6)
    t = table(a=shared + 1 + rng.normal(0, 0.01, 6), b=shared)
    assert (difference("m", "a", "b") > 0.9).judge(t).outcome == "reproduced"


def test_quantities_compute():
    t = table(a=[4.0, 4.0], b=[2.0, 2.0], c=[0.0, 0.0])
    assert ratio("m", "a", "b").over(t) == {0: 2.0, 1: 2.0}
    assert math.isnan(ratio("m", "a", "c").over(t)[0])
    assert (value("m", "a") - 5 * value("m", "b") if False else value("m", "a") - value("m", "b") * 5).over(t)[
        0
    ] == -6.0
    assert correlation("m", "m", ["a", "b", "c"]).over(t)[0] == pytest.approx(1.0)


def test_a_metric_that_is_not_finite_leaves_the_claim_undecided():
    assert (value("m", "a") > 0).judge(table(a=[1.0, math.nan, 1.0])).outcome == "undecided"


def test_joined_predicates():
    good, bad, open_ = [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]
    t = table(good=good, bad=bad, open=open_)
    holds, fails, unsure = (value("m", arm) > 0.5 for arm in ("good", "bad", "open"))
    assert all_of(holds, holds).judge(t).outcome == "reproduced"
    assert all_of(holds, fails, unsure).judge(t).outcome == "not reproduced"
    assert all_of(holds, unsure).judge(t).outcome == "undecided"
    assert any_of(fails, holds).judge(t).outcome == "reproduced"
    assert any_of(fails, unsure).judge(t).outcome == "undecided"
    assert any_of(fails, fails).judge(t).outcome == "not reproduced"


def test_a_predicate_has_no_truth_value():
    with pytest.raises(TypeError, match="all_of"):
        bool(value("m", "a") > 0.5)


def test_looking_three_times_keeps_wrong_verdicts_rare():
    """True effect exactly at the margin: how often do looks at 3, 5 and 8 seeds call it reproduced?"""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(2000):
        draws = rng.normal(0.0, 1.0, 8)
        for n in (3, 5, 8):
            outcome = (value("m", "a") > 0.0).judge(table(a=draws[:n])).outcome
            if outcome != "undecided":
                wrong += outcome == "reproduced"
                break
    assert wrong / 2000 < 0.06  # 2.5 % a look; the union over three looks would be 7.5 %


def test_an_absolute_difference_is_that_of_the_means():
    t = table(a=[1.0, -1.0, 1.0, -1.0], b=[0.0] * 4)
    size = abs(difference("m", "a", "b"))
    ci = size.interval(t)
    assert ci.mean == 0.0
    assert ci.low == 0.0
    assert ci.high == pytest.approx(interval([1.0, -1.0, 1.0, -1.0]).high)  # seeds of both signs cancel
    far = abs(difference("m", "b", "a")).interval(table(a=[2.0, 2.2], b=[0.0, 0.0]))
    assert (far.mean, far.low) == pytest.approx((2.1, interval([2.0, 2.2]).low))
    with pytest.raises(TypeError, match="as it is"):
        size * 2
