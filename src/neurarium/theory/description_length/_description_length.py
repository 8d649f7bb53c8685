"""What the length of a description of a classifier in bits says of its errors (Goldblum et al., 2023, sections 2 to 4).

A description of L bits, with its own length written before it, has a prior of 2^-(L + 2 log2 L): no set of
descriptions, however they are chosen after the fact, weighs more than 1.
"""

from __future__ import annotations

import math


def finite_hypothesis_bound(train_error: float, bits: float, n: int, delta: float = 0.05) -> float:
    """With probability ``1 - delta`` over the data, no classifier of such a description has a larger error.

    ``train_error + sqrt((L ln 2 + 2 ln L + ln(1 / delta)) / (2 n))``. It holds for all classifiers at once, the chosen
    one included; 1 or more says nothing.

    Args:
        train_error: share of the examples on which it is wrong.
        bits: L, of a description from which the classifier can be decoded.
        n: examples.
        delta: the probability that it does not hold.

    Raises:
        ValueError: a number is out of range.
    """
    _check(bits, n, delta)
    if not 0 <= train_error <= 1:
        raise ValueError(f"train_error must be between 0 and 1, not {train_error}")
    return train_error + math.sqrt((_prefixed(bits) * math.log(2) + math.log(1 / delta)) / (2 * n))


def no_free_lunch_bound(bits: float, n: int, classes: int, delta: float = 0.05) -> float:
    """With probability ``1 - delta`` no classifier of such a description has a smaller mean cross-entropy, in nats, on
    labels that are drawn evenly: nobody learns noise.

    ``ln C - (ln 2 / n) (L + 2 log2 L + log2(1 / delta))``: to encode noise with a classifier's help costs its bits.
    Read the other way, a smaller cross-entropy shows that the labels are no noise.

    Args:
        bits: L, of a description from which the classifier can be decoded.
        n: examples.
        classes: C, of which labels are drawn.
        delta: the probability that it does not hold.

    Raises:
        ValueError: a number is out of range.
    """
    _check(bits, n, delta)
    if classes < 2:
        raise ValueError(f"classes must be at least 2, not {classes}")
    return math.log(classes) - math.log(2) / n * (_prefixed(bits) + math.log2(1 / delta))


def _prefixed(bits: float) -> float:
    """Bits of a description that says its own length first."""
    return bits + 2 * math.log2(max(bits, 1))


def _check(bits: float, n: int, delta: float) -> None:
    if bits < 0 or n < 1 or not 0 < delta < 1:
        raise ValueError(f"bits must not be negative, n at least 1 and delta in (0, 1), not {bits}, {n} and {delta}")
