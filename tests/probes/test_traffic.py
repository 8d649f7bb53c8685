"""Multiply-adds and traffic of convolutions against the paper's formulas and torch's counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neurarium.layers import CrossStagePartial, DenseConnection
from neurarium.probes import convolution_traffic


def dense(base, layers, growth):
    return DenseConnection(*(nn.Conv2d(base + i * growth, growth, 1) for i in range(layers)))


@pytest.mark.parametrize("growth", [8, 16])
@pytest.mark.parametrize("layers", [1, 2, 5, 8])
def test_dense_stages_move_what_the_paper_says(layers, growth):
    x, c, m, d = torch.randn(2, 64, 3, 5), 64, layers, growth
    positions = 2 * 3 * 5
    plain = convolution_traffic(dense(c, m, d), x)
    assert plain.total_traffic == positions * (c * m + (m**2 + m) * d // 2)
    partial = convolution_traffic(CrossStagePartial(lambda width: dense(width, m, d), c), x)
    assert partial.part("blocks")[1] == positions * (c * m + (m**2 + m) * d) // 2


def test_multiply_adds_are_half_of_torchs_flops():
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(6, 3, 2, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(3, 2),
    )  # fmt: skip
    x = torch.randn(2, 4, 8, 8)
    with FlopCounterMode(display=False) as counter:
        model(x)
    found = convolution_traffic(model, x)
    assert found.total_multiply_adds == counter.get_total_flops() // 2
    assert list(found.traffic) == ["0", "1"]
    assert found.part("0") == (2 * 6 * 36 * 2 * 9, 2 * 4 * 64 + 2 * 6 * 36)


def test_convolutions_that_are_functions_are_counted_where_they_are_called():
    class Inner(nn.Module):
        def forward(self, x):
            return nn.functional.conv1d(x, torch.ones(2, 3, 3))

    found = convolution_traffic(nn.Sequential(Inner(), nn.ReLU()), torch.randn(1, 3, 10))
    assert found.multiply_adds == {"0": 2 * 8 * 9}
    with pytest.raises(ValueError, match="neither"):
        convolution_traffic(nn.ReLU(), torch.randn(1, 3))
