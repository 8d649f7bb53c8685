"""Tensors brought to one scale."""

import pytest
import torch
from torch import nn

from neurarium.data import scale_states, tensor_sizes


def test_a_tensor_is_scaled_as_one_over_all_snapshots():
    states = torch.randn(7, 3).double() * 4 + 2
    scaled, mean, std = scale_states(states, [4, 3])
    for block in (slice(0, 4), slice(4, 7)):
        expected = (states[block] - states[block].mean()) / (states[block].std(unbiased=True) + 1e-6)
        assert torch.allclose(scaled[block], expected)
    assert torch.allclose(scaled * std + mean, states)


def test_one_number_and_an_empty_tensor_are_no_trouble():
    scaled, _, _ = scale_states(torch.ones(1, 1), [1, 0])
    assert scaled.tolist() == [[0.0]]
    assert tensor_sizes(nn.Linear(3, 2)) == [6, 2]


def test_sizes_have_to_add_up():
    with pytest.raises(ValueError, match="sizes add up to 6, but states have 7 rows"):
        scale_states(torch.zeros(7, 2), [6])
    with pytest.raises(ValueError, match="context"):
        scale_states(torch.zeros(7), [7])
