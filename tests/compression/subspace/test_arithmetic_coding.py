"""The entropy coder: what goes in comes out, and nearly no bit is wasted."""

import math

import pytest
import torch

from neurarium.compression.subspace._arithmetic_coding import decode, encode


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0], [0.98, 0.01, 0.01], [0.5, 0.25, 0.125, 0.125], [1.0] * 9])
@pytest.mark.parametrize("length", [0, 1, 2, 3000])
def test_symbols_come_back_and_cost_their_entropy(weights, length):
    draw = torch.Generator().manual_seed(length)
    symbols = torch.multinomial(torch.tensor(weights), max(length, 1), True, generator=draw)[:length]
    counts = torch.bincount(symbols, minlength=len(weights)).tolist()
    data = encode(symbols.tolist(), counts)
    assert decode(data, counts, length) == symbols.tolist()
    entropy = -sum(c * math.log2(c / length) for c in counts if c)
    assert entropy <= 8 * len(data) <= entropy + 2 + 7 + 1e-6 * length  # whole bytes


def test_wrong_counts_cost_more_and_decode_all_the_same():
    symbols = [0] * 500 + [1] * 20
    even, right = encode(symbols, [1, 1]), encode(symbols, [500, 20])
    assert decode(even, [1, 1], 520) == symbols
    assert 8 * len(even) == pytest.approx(520, abs=8)
    assert len(right) < len(even) / 3


def test_a_symbol_without_a_count_is_refused():
    with pytest.raises(ValueError, match="symbol 1"):
        encode([0, 1], [1, 0])
