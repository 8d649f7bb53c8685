"""Networks from their names: sizes by hand, and what cannot be built."""

import pytest
import torch
from torch import nn

from neurarium.models import FlexibleCNN
from neurarium.probes import class_activation


def test_the_largest_network_has_the_parameters_of_the_sum_by_hand():
    model = FlexibleCNN("20M-60M-100M-150N", 1, 29, 10, (4, 4, 3), (2, 2, 3))
    hand = 20 * (16 + 1) + 60 * (20 * 16 + 1) + 100 * (60 * 9 + 1) + 150 * (100 + 1) + 10 * (150 + 1)
    assert sum(p.numel() for p in model.parameters()) == hand
    assert model(torch.zeros(2, 1, 29, 29)).shape == (2, 10)
    assert max(float(p.detach().abs().max()) for p in model.parameters()) <= 0.05


def test_tables_skips_and_a_seed():
    def build():
        return FlexibleCNN(
            "6M-8M-5N", 3, (20, 16), 4, 3, (2, 1), (1, 0), 2, nn.ReLU, generator=torch.Generator().manual_seed(1)
        )

    model = build()
    assert [int(m.connections.sum()) for m in model if hasattr(m, "connections")] == [12, 16]
    state = build().state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model(torch.zeros(1, 3, 20, 16)).shape == (1, 4)


def test_class_activation_maps_of_a_network_that_ends_in_an_average():
    model = FlexibleCNN("6M-8M", 1, 16, 3, 3, (2, 1))
    model[-2] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model[-1] = nn.Linear(8, 3)
    x = torch.randn(2, 1, 16, 16)
    found = class_activation(model, x)
    torch.testing.assert_close(found.factor[:, None] * found.maps.flatten(2).sum(2) + found.bias, model(x).detach())


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="name must be like '20M-60M-150N'"):
        FlexibleCNN("20-60N", 1, 29, 10, 3)
    with pytest.raises(ValueError, match="name must be like"):
        FlexibleCNN("20N-60M", 1, 29, 10, 3)
    with pytest.raises(ValueError, match="kernels must be one for each of the 2 convolutions, not 3"):
        FlexibleCNN("2M-3M", 1, 29, 10, (3, 3, 3))
    with pytest.raises(ValueError, match="convolution 2 of 2M-3M has a kernel of 5 x 5 for maps of 4 x 4"):
        FlexibleCNN("2M-3M", 1, 10, 10, (3, 5), 2)
    with pytest.raises(ValueError, match="pooling 1 of 2M has a kernel of 9 x 9"):
        FlexibleCNN("2M", 1, 10, 10, 3, 9)
