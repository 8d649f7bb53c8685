"""Dense connections against concatenations written out, in one and two dimensions and over sequences."""

import pytest
import torch
from torch import nn

from neurarium.layers import DenseConnection


@pytest.mark.parametrize("dims", [1, 2])
def test_every_block_reads_all_before_it(dims):
    kind = (nn.Conv1d, nn.Conv2d)[dims - 1]
    blocks = [kind(3, 2, 3, padding=1), kind(5, 4, 1), kind(9, 1, 1)]
    x = torch.randn((2, 3) + (6,) * dims)
    a = blocks[0](x)
    b = blocks[1](torch.cat([x, a], 1))
    c = blocks[2](torch.cat([x, a, b], 1))
    torch.testing.assert_close(DenseConnection(*blocks)(x), torch.cat([x, a, b, c], 1))
    torch.testing.assert_close(DenseConnection(*blocks, final="last")(x), c)


def test_recurrent_blocks_over_sequences():
    first, second = nn.LSTM(4, 3, batch_first=True, bidirectional=True), nn.LSTM(10, 2, batch_first=True)
    x = torch.randn(2, 7, 4)
    a = first(x)[0]
    b = second(torch.cat([x, a], -1))[0]
    torch.testing.assert_close(DenseConnection(first, second, dim=-1)(x), torch.cat([x, a, b], -1))


def test_gradients_reach_every_block():
    model = DenseConnection(nn.Linear(3, 2), nn.Linear(5, 2), dim=-1)
    model(torch.randn(4, 3)).sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="final"):
        DenseConnection(nn.Linear(3, 2), final="first")
    with pytest.raises(ValueError, match=r"block 0 maps \[2, 3, 8\] to \[2, 4, 4\]; only dimension 1"):
        DenseConnection(nn.Conv1d(3, 4, 2, stride=2))(torch.randn(2, 3, 8))
