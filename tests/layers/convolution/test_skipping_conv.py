"""Skipping convolutions against torch's own, against zeroed kernels, and against the pulling rule written out."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, unfold

from neurarium.layers import SkippingConv2d
from neurarium.layers.convolution._skipping_conv import valid_size


def test_sizes_are_those_of_unfold():
    for side in range(1, 13):
        for kernel in range(1, side + 1):
            for skip in range(4):
                blocks = unfold(torch.zeros(1, 1, side, side), kernel, stride=skip + 1).shape[-1]
                size = valid_size((side, side), (kernel, kernel), (skip, skip), "layer")
                assert size[0] * size[1] == blocks


def table(outputs, inputs, seed=0):
    drawn = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(seed)) < 0.4
    drawn[torch.arange(outputs), torch.arange(outputs) % inputs] = True
    return drawn


@pytest.mark.parametrize("path", ["dense", "gathered"])
@pytest.mark.parametrize("connections", [None, 2, table(5, 4)], ids=["all", "two", "table"])
def test_any_table_is_the_dense_layer_with_zeroed_kernels(path, connections):
    torch.manual_seed(0)
    layer = SkippingConv2d(4, 5, (3, 2), (1, 0), connections, path=path, generator=torch.Generator().manual_seed(3))
    x = torch.randn(2, 4, 9, 8, requires_grad=True)
    mask = layer.connections
    if isinstance(connections, int):
        assert mask.sum(1).tolist() == [2] * 5
    full = nn.Parameter(layer.dense_weight().detach() + torch.randn(5, 4, 3, 2) * ~mask[:, :, None, None])
    ours = layer(x)
    theirs = conv2d(x, full * mask[:, :, None, None], layer.bias, stride=(2, 1))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(ours)
    by_x, by_w, by_b = torch.autograd.grad(ours, [x, layer.weight, layer.bias], weights)
    dense_x, dense_w, dense_b = torch.autograd.grad(theirs, [x, full, layer.bias], weights)
    torch.testing.assert_close(by_x, dense_x, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(by_w, dense_w[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(by_b, dense_b, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in layer.parameters()) == 6 * int(mask.sum()) + 5
    torch.testing.assert_close(layer(x[0]), ours[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("skip", [0, 1, 2, 4])
@pytest.mark.parametrize("kernel", [2, 3])
def test_deltas_are_pulled_from_the_positions_that_read_a_pixel(skip, kernel):
    torch.manual_seed(0)
    layer = SkippingConv2d(1, 1, kernel, skip, bias=False).double()
    x = torch.randn(1, 1, 10, 10, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    delta = torch.randn_like(out)
    (pushed,) = torch.autograd.grad(out, x, delta)
    last = out.shape[-1] - 1
    pulled = torch.zeros(10, 10, dtype=torch.float64)

    def positions(pixel):  # those whose kernel covers the pixel
        low = max(0, math.ceil((pixel - kernel + 1) / (skip + 1)))
        return range(low, min(last, pixel // (skip + 1)) + 1)

    for i in range(10):
        for j in range(10):
            for r in positions(i):
                for c in positions(j):
                    tap = layer.weight[0, i - r * (skip + 1), j - c * (skip + 1)]
                    pulled[i, j] += delta[0, 0, r, c] * tap.item()
    torch.testing.assert_close(pushed[0, 0], pulled)
    if skip >= kernel:
        assert (pushed == 0).any(), "a pixel that no kernel covers gets exactly nothing"


def test_torch_layers_there_and_back():
    conv, x = nn.Conv2d(6, 4, 3, stride=2, groups=2), torch.randn(2, 6, 9, 9)
    ours = SkippingConv2d.from_conv(conv)
    assert ours.skip == (1, 1)
    assert int(ours.connections.sum()) == 12
    torch.testing.assert_close(ours(x), conv(x))
    torch.testing.assert_close(ours.to_conv()(x), conv(x))
    drawn = table(4, 6)
    plain = nn.Conv2d(6, 4, 2)
    kept = SkippingConv2d.from_conv(plain, drawn)
    torch.testing.assert_close(kept(x), conv2d(x, plain.weight * drawn[:, :, None, None], plain.bias))


@pytest.mark.untyped
def test_refusals():
    deaf = torch.ones(3, 2).bool()
    deaf[1] = False
    with pytest.raises(ValueError, match="output map 1 reads no input map"):
        SkippingConv2d(2, 3, 3, connections=deaf)
    with pytest.raises(ValueError, match=r"connections must be \[3, 2\]"):
        SkippingConv2d(2, 3, 3, connections=torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match="from 1 to the 2 input maps"):
        SkippingConv2d(2, 3, 3, connections=3)
    with pytest.raises(ValueError, match="path must be"):
        SkippingConv2d(2, 3, 3, path="sparse")
    with pytest.raises(ValueError, match="a kernel of 3 x 3 for maps of 2 x 5"):
        SkippingConv2d(1, 1, 3)(torch.zeros(1, 1, 2, 5))
    with pytest.raises(ValueError, match="neither padding nor dilation"):
        SkippingConv2d.from_conv(nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(ValueError, match="groups, which are a table"):
        SkippingConv2d.from_conv(nn.Conv2d(2, 2, 3, groups=2), 1)
