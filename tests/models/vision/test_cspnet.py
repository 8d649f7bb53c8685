"""The published cross-stage partial networks: sizes and costs, and weights from elsewhere."""

import pytest
import torch
from torch import nn

from neurarium.models import (
    CSPNet,
    CSPStage,
    csp_darknet53,
    csp_densenet,
    csp_resnet50,
    csp_resnext50,
    darknet53,
    load_timm_cspnet,
)  # fmt: skip
from neurarium.probes import convolution_traffic


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (csp_darknet53, 27_642_184), (darknet53, 41_609_928), (csp_resnet50, 21_616_168), (csp_resnext50, 20_569_896),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(make, parameters):
    with torch.device("meta"):
        assert size(make()) == parameters


def test_darknets_cost_what_the_release_says():
    with torch.device("meta"):
        partial, plain, image = csp_darknet53(), darknet53(), torch.zeros(1, 3, 256, 256)
    cheap, dear = (convolution_traffic(m, image).total_multiply_adds for m in (partial, plain))
    assert 2 * cheap / 1e9 == pytest.approx(13.07, abs=0.01)
    assert 2 * dear / 1e9 == pytest.approx(18.57, abs=0.01)
    norms = sum(p.numel() for m in partial.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert size(partial) - norms == 27_606_856


def test_partial_dense_networks_are_cheaper():
    with torch.device("meta"):
        partial, plain, image = csp_densenet(), csp_densenet(is_partial=False), torch.zeros(1, 3, 224, 224)
    cheap, dear = (convolution_traffic(m, image).total_multiply_adds for m in (partial, plain))
    assert cheap < 0.9 * dear


def small(**options):
    return CSPNet(
        [CSPStage(16, 1, **options), CSPStage(24, 2, block="bottleneck", **options)], (8, 3, 1), num_classes=5
    )


@pytest.mark.parametrize("options", [{}, {"fusion": "first"}, {"fusion": "last"}, {"is_partial": False}])
def test_any_size_of_image(options):
    for side in (32, 45):
        assert small(**options)(torch.randn(2, 3, side, side)).shape == (2, 5)


def test_weights_of_another_network_with_the_same_layers():
    torch.manual_seed(0)
    theirs, ours = small().eval(), small().eval()
    renamed = {
        f"stages.{i}.conv.{name.rpartition('.')[2]}": t for i, (name, t) in enumerate(theirs.state_dict().items())
    }
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(load_timm_cspnet(ours, renamed)(x), theirs(x))
    with pytest.raises(ValueError, match="tensors"):
        load_timm_cspnet(ours, dict(list(renamed.items())[:-1]))
    renamed["stages.0.conv.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"stages\.0\.conv\.weight \[3\] does not fit"):
        load_timm_cspnet(ours, renamed)
