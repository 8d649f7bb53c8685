"""Lempel-Ziv phrases: strings counted by hand, a plain parser, and the kinds of sequence that people have."""

import math
import random

import numpy as np
import pytest
import torch

from neurarium.data import lempel_ziv, relative_lempel_ziv


def plain(text):
    """The definition: cut off the shortest piece that is no phrase yet."""
    phrases, start = set(), 0
    while start < len(text):
        end = start + 1
        while end <= len(text) and text[start:end] in phrases:
            end += 1
        if end > len(text):
            break
        phrases.add(text[start:end])
        start = end
    return len(phrases)


def test_strings_that_were_counted_by_hand():
    assert lempel_ziv("1001111011000010") == 8
    assert lempel_ziv("1010101010101010") == 7
    assert lempel_ziv("") == 0


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 11, 1000])
def test_equal_symbols(n):
    assert lempel_ziv("0" * n) == math.floor((math.sqrt(8 * n + 1) - 1) / 2)


@pytest.mark.parametrize("letters", ["01", "abcdefgh"])
def test_random_strings_against_the_definition(letters):
    draw = random.Random(0)
    for length in range(60):
        text = "".join(draw.choice(letters) for _ in range(length))
        assert lempel_ziv(text) == plain(text)


def test_kinds_of_sequence():
    text = "0110100110010110"
    numbers = [int(c) for c in text]
    wanted = lempel_ziv(text)
    for same in (text.encode(), numbers, np.array(numbers, bool).reshape(4, 4), torch.tensor(numbers), iter(numbers)):
        assert lempel_ziv(same) == wanted


def test_relative_to_coin_flips():
    coins = np.random.default_rng(1).integers(0, 2, 4096)
    assert relative_lempel_ziv(coins) == pytest.approx(1, abs=0.03)
    assert relative_lempel_ziv(coins > 2) < 0.2
    with pytest.raises(ValueError, match="two symbols"):
        relative_lempel_ziv("abc")
    with pytest.raises(ValueError, match="two symbols"):
        relative_lempel_ziv("")
