"""Copying and parity, read back symbol by symbol."""

import pytest
import torch

from neurarium.data import copy_paste, parity
from neurarium.data._errors import DataError


def test_what_is_to_be_said_is_what_was_said():
    task = copy_paste(200, longest=7, shortest=2, symbols=4, seed=3)
    assert task.x.shape == task.y.shape == (200, 15)
    lengths = set()
    for x, y in zip(task.x.tolist(), task.y.tolist(), strict=True):
        end = x.index(4)
        lengths.add(end)
        text = x[:end]
        assert max(text) < 4
        assert set(x[end + 1 :]) == {5}
        assert y == [-100] * (end + 1) + text + [-100] * (14 - 2 * end)
    assert lengths == {2, 3, 4, 5, 6, 7}
    assert torch.equal(copy_paste(200, 7, 2, 4, seed=3).x, task.x)
    assert not torch.equal(copy_paste(200, 7, 2, 4, seed=4).x, task.x)


def test_parity_is_that_of_the_bits():
    task = parity(300, longest=6, seed=1)
    lengths = set()
    for x, y in zip(task.x.tolist(), task.y.tolist(), strict=True):
        bits = [token for token in x if token != 2]
        lengths.add(len(bits))
        assert x == [2] * (6 - len(bits)) + bits
        assert y == bits.count(1) % 2
    assert lengths == {1, 2, 3, 4, 5, 6}
    assert 0.4 < float(task.y.float().mean()) < 0.6


@pytest.mark.parametrize("wrong", [{"count": 0}, {"longest": 3, "shortest": 4}, {"shortest": 0}, {"symbols": 1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(DataError, match="need count >= 1"):
        copy_paste(**({"count": 5} | wrong))
