"""Convolution, normalisation, activation: which steps an output reads, and what is left out."""

import pytest
import torch
from torch import nn

from neurarium.layers import conv_norm_act


@pytest.mark.parametrize(("kernel", "ahead", "behind"), [(8, 3, 4), (5, 2, 2), (3, 1, 1), (1, 0, 0)])
def test_an_impulse_reaches_the_steps_that_same_padding_says(kernel, ahead, behind):
    block = conv_norm_act(1, 1, kernel, dims=1, norm=nn.Identity, activation=None)
    nn.init.ones_(block[-1].weight)
    nn.init.zeros_(block[-1].bias)
    x = torch.zeros(1, 1, 21)
    x[0, 0, 10] = 1
    reached = block(x)[0, 0].nonzero().flatten().tolist()
    assert reached == list(range(10 - behind, 10 + ahead + 1))


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("dims", [1, 2])
def test_padding_is_that_of_torch(kernel, dims):
    ours = conv_norm_act(2, 3, kernel, dims=dims, norm=nn.Identity, activation=None)
    theirs = (nn.Conv1d, nn.Conv2d)[dims - 1](2, 3, kernel, padding="same")
    theirs.load_state_dict(ours[-1].state_dict())
    x = torch.randn((2, 2) + (11,) * dims)
    torch.testing.assert_close(ours(x), theirs(x))


def test_strides_keep_every_second_position():
    whole = conv_norm_act(2, 3, 4, dims=1, norm=nn.Identity, activation=None)
    strided = conv_norm_act(2, 3, 4, stride=2, dims=1, norm=nn.Identity, activation=None)
    strided.load_state_dict(whole.state_dict())
    x = torch.randn(2, 2, 12)
    torch.testing.assert_close(strided(x), whole(x)[:, :, ::2])


def test_what_is_in_it():
    assert [type(m) for m in conv_norm_act(4, 6, 3)] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert conv_norm_act(4, 6, 3)[0].bias is None
    bare = conv_norm_act(4, 6, 3, groups=2, norm=nn.Identity, activation=None)
    assert len(bare) == 1
    assert bare[0].bias is not None
    with pytest.raises(ValueError, match="dims"):
        conv_norm_act(1, 1, dims=4)
    with pytest.raises(ValueError, match=r"groups \(3\)"):
        conv_norm_act(4, 6, groups=3)
