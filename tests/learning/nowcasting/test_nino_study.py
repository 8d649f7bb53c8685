"""The speed-up that the study of nowcasting claims: by hand, bounded, and blind to a loss that rises again."""

import pytest

from neurarium.studies.learning.nino import Point, speedup


def points(*losses):
    return [Point(10 * (i + 1), loss, loss) for i, loss in enumerate(losses)]


PLAIN = points(5, 4, 3, 2.5, 2, 1.8, 1.6, 1.5, 1.4, 1.3)  # 100 steps; the target is 1.8, reached at step 60


@pytest.mark.parametrize(
    ("jumping", "saved"),
    [
        (PLAIN, 0.0),
        (points(3, 2, 1.7, 9, 9, 9, 9, 9, 9, 9), 0.5),  # 30 steps in place of 60
        (points(9, 9, 9, 9, 9, 9, 9, 1.8, 1, 1), -0.25),  # plain saves 20 of its 80
        (points(*[9.0] * 10), -0.4),  # never: all 100 steps, of which plain saves 40
    ],
)
def test_speedup_by_hand(jumping, saved):
    assert speedup(PLAIN, jumping, "validation", 100) == pytest.approx(saved)


def test_what_a_loss_does_after_its_best_changes_nothing():
    rising = points(5, 1, 2, 3, 4, 5, 6, 7, 8, 9)  # the best, 1, after 20 steps; 5 at 60 %
    assert speedup(rising, points(5, 5, 5, 1, 9, 9, 9, 9, 9, 9), "training", 100) == pytest.approx(-0.5)
    assert speedup(rising, points(*[9.0] * 10), "training", 100) == pytest.approx(-0.8)


def test_it_is_bounded_however_early_the_plain_run_is_at_its_best():
    early = points(0.1, *[1.0] * 9)
    assert -1 < speedup(early, points(*[9.0] * 10), "training", 100) < 0
    assert 0 < speedup(points(*[1.0] * 5, 0.5, *[1.0] * 4), points(0.5, *[1.0] * 9), "training", 100) < 1
