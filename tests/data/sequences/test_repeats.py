"""Repetition: strings by hand, the counts of all of ten bits, and the definition."""

import itertools
from collections import Counter

import pytest

from neurarium.data import repeat_complexity


@pytest.mark.parametrize(
    ("text", "wanted"), [("0000000000", 1), ("0101010101", 2), ("0110110110", 3), ("0000000001", 10), ("", 0), ("a", 1)]
)
def test_strings_by_hand(text, wanted):
    assert repeat_complexity(text) == wanted
    assert repeat_complexity(list(text)) == wanted


def test_all_strings_of_ten_bits():
    strings = ["".join(bits) for bits in itertools.product("01", repeat=10)]
    counts = Counter(map(repeat_complexity, strings))
    assert [counts[k] for k in range(1, 11)] == [2, 2, 6, 12, 30, 54, 118, 198, 318, 284]
    for text in strings:
        shortest = next(k for k in range(1, 11) if (text[:k] * 10)[:10] == text)
        assert repeat_complexity(text) == shortest
