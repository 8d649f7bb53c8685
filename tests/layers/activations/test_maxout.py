"""Maxout against a maximum over separate linear layers, and against ReLU as its special case."""

import pytest
import torch
from torch import nn

from neurarium.layers import Maxout


@pytest.mark.parametrize("bias", [True, False])
def test_is_the_maximum_of_linear_layers(bias):
    layer = Maxout(5, 4, pieces=3, bias=bias).double()
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    maps = [
        nn.functional.linear(x, layer.weight[:, k], None if layer.bias is None else layer.bias[:, k]) for k in range(3)
    ]
    torch.testing.assert_close(layer(x), torch.stack(maps).amax(0), rtol=1e-12, atol=1e-12)


def test_a_zero_piece_makes_a_rectifier():
    layer, linear = Maxout(5, 4), nn.Linear(5, 4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight[:, 0], layer.bias[:, 0] = linear.weight, linear.bias
    x = torch.randn(7, 5)
    torch.testing.assert_close(layer(x), linear(x).relu())


def test_one_piece_is_linear_and_sizes_are_checked():
    layer = Maxout(3, 2, pieces=1)
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(2 * x) - layer(x), layer(x) - layer(0 * x))
    with pytest.raises(ValueError, match="pieces must be at least 1"):
        Maxout(3, 2, pieces=0)
    assert "pieces=1" in repr(layer)
