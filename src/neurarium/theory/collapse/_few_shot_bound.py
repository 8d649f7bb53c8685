"""From the spread of classes to the error of few-shot classification."""

from __future__ import annotations

CHEBYSHEV = 16.0
"""The constant in front of the bounds (Galanti et al., 2021)."""


def few_shot_bound(cdnv: float, ways: int, shots: int, features: int, spherical: bool = False) -> float:
    """What the error of nearest-centre classification with ``shots`` examples per class is at most, in expectation.

    16 (ways - 1) (1 + 1/shots) V for any class distributions; 16 (ways - 1) (1/features + 1/shots) V where the features
    of every class lie spherically symmetric round their mean (Galanti et al., 2021, Proposition 5). Chebyshev's
    inequality is behind it, so it is far above the error, and says nothing where it exceeds 1.

    Args:
        cdnv: V, its mean over pairs of the target classes.
        ways: classes to tell apart.
        shots: examples per class that the centres are means of.
        features: dimensions of a feature.
        spherical: whether to assume the symmetry.

    Raises:
        ValueError: an argument out of range.
    """
    if ways < 2 or shots < 1 or features < 1 or cdnv < 0:
        raise ValueError("few_shot_bound needs ways >= 2, shots >= 1, features >= 1 and cdnv >= 0")
    return CHEBYSHEV * (ways - 1) * ((1 / features if spherical else 1.0) + 1 / shots) * cdnv
