"""Cross-stage partial stages: what goes around, where gradients mix, and their limiting cases."""

import pytest
import torch
from torch import nn

from neurarium.layers import CrossStagePartial, DenseConnection, Residual


def stage(fusion="both", make_block=None, **options):
    torch.manual_seed(0)
    make_block = make_block or (lambda c: Residual(nn.Conv2d(c, c, 3, padding=1)))
    return CrossStagePartial(make_block, 8, fusion=fusion, **options).eval()


def identity_transition(conv_norm):
    """A transition that changes nothing."""
    nn.init.dirac_(conv_norm[0].weight)
    conv_norm[1].eps = 0.0


def test_the_last_fusion_keeps_the_bypassed_channels_bit_for_bit():
    x = torch.randn(2, 8, 5, 5)
    for bypass, channels in ((0.25, 2), (0.5, 4), (0.75, 6)):
        assert torch.equal(stage("last", bypass=bypass)(x)[:, :channels], x[:, :channels])


def test_identity_blocks_and_transitions_give_the_input_back():
    x = torch.randn(2, 8, 5, 5)
    model = stage("both", lambda c: nn.Identity(), activation=nn.Identity)
    identity_transition(model.inner)
    identity_transition(model.outer)
    torch.testing.assert_close(model(x), x)


@pytest.mark.parametrize("fusion", ["both", "first", "last"])
def test_gradients_of_the_blocks_do_not_see_what_goes_around(fusion):
    """With the gradient at the stage's output held, only x'' enters the gradients of the blocks' weights."""
    model = stage(fusion, activation=nn.Identity)
    found = []
    for seed in (1, 2):
        x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
        x[:, :4] = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
        found.append(torch.autograd.grad(model(x).sum(), list(model.blocks.parameters())))
    assert all(map(torch.equal, *found))


def test_one_expansion_and_a_split_is_two_convolutions():
    model = stage(expansion=2)
    x = torch.randn(2, 8, 5, 5)
    weight = model.expand[0].weight
    around, through = (
        model.expand[2](nn.functional.conv2d(x, weight[part]) / (1 + 1e-5) ** 0.5) for part in (slice(8), slice(8, 16))
    )
    expected = model.outer(torch.cat([around, model.inner(model.blocks(through))], 1))
    torch.testing.assert_close(model(x), expected)


def test_nearly_all_channels_in_the_blocks_is_the_plain_stage_and_a_transition():
    block = nn.Conv2d(7, 7, 3, padding=1)
    model = stage("first", lambda c: block, bypass=1 / 8)
    nn.init.zeros_(model.outer[0].weight[:, :1])
    x = torch.randn(2, 8, 5, 5)
    plain = nn.functional.conv2d(block(x[:, 1:]), model.outer[0].weight[:, 1:])
    torch.testing.assert_close(model(x), nn.functional.leaky_relu(plain / (1 + 1e-5) ** 0.5, 0.1))


def test_blocks_that_grow_and_blocks_of_series():
    grown = stage("both", lambda c: DenseConnection(nn.Conv2d(c, 3, 1), nn.Conv2d(c + 3, 3, 1)))
    assert grown(torch.randn(2, 8, 5, 5)).shape == (2, 8, 5, 5)
    assert grown.inner[0].in_channels == 10
    series = CrossStagePartial(lambda c: nn.Conv1d(c, c, 3, padding=1), 8, 12, dims=1)
    assert series(torch.randn(2, 8, 9)).shape == (2, 12, 9)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bypass": 0.01}, "a part without any"),
        ({"bypass": 0.99}, "a part without any"),
        ({"fusion": "middle"}, "fusion must be"),
        ({"fusion": "last", "out_channels": 4}, "above the 4"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        stage(**options)


def test_blocks_that_stride_are_refused():
    model = stage(make_block=lambda c: nn.Conv2d(c, c, 3, 2, 1))
    with pytest.raises(ValueError, match="must keep height and width"):
        model(torch.randn(2, 8, 6, 6))
