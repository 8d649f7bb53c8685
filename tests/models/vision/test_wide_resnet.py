"""The wide residual network against its published size, and the shapes it makes."""

import pytest
import torch

from neurarium.models import WideResNet


def test_size_of_wrn_28_10():
    with torch.device("meta"):
        model = WideResNet(28, 10)
    assert sum(p.numel() for p in model.parameters()) == 36_479_194  # "36.5M" in the paper's Table 5


def test_stages_halve_the_sides_and_any_image_will_do():
    model = WideResNet(10, 2, in_channels=1, num_classes=7)
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda m, x, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.randn(2, 1, 20, 24)).shape == (2, 7)
    assert shapes == [(32, 20, 24), (64, 10, 12), (128, 5, 6)]


def test_depth_is_checked():
    with pytest.raises(ValueError, match="6 n"):
        WideResNet(20)
