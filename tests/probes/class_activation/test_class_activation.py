"""Class activation maps add up to the scores in every form of network, and what does not end so is refused."""

import pytest
import torch
from torch import nn

from neurarium.models import TimeSeriesFCN, TimeSeriesResNet, WideResNet
from neurarium.probes import class_activation, window_deletion


class Tokens(nn.Module):
    """Patches, an average over them, a linear layer that is a function."""

    def __init__(self, norm=False):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8) if norm else nn.Identity()
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return {"logits": nn.functional.linear(self.norm(tokens.mean(1)), self.weight)}


def pooled(*layers, pool, classes=4):
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, classes))


CASES = {
    "fcn": (lambda: TimeSeriesFCN(2, 3, (5, 6, 4)), torch.randn(4, 2, 20), (20,)),
    "resnet, unequal lengths": (
        lambda: TimeSeriesResNet(2, 3, (5, 6, 4)), (torch.randn(4, 2, 20), torch.tensor([20, 9, 14, 5])), (20,),
    ),
    "wide resnet": (lambda: WideResNet(10, 1), torch.randn(2, 3, 16, 16), (4, 4)),
    "tokens": (Tokens, torch.randn(2, 3, 16, 16), (16,)),
    "adaptive, series": (lambda: pooled(nn.Conv1d(3, 6, 3), pool=nn.AdaptiveAvgPool1d(1)), torch.randn(2, 3, 9), (7,)),
    "adaptive, images": (
        lambda: pooled(nn.Conv2d(3, 6, 3), pool=nn.AdaptiveAvgPool2d(1)), torch.randn(2, 3, 9, 8), (7, 6),
    ),
    "window": (lambda: pooled(nn.Conv2d(3, 6, 3), pool=nn.AvgPool2d(7)), torch.randn(2, 3, 9, 9), (7, 7)),
    "volumes": (
        lambda: pooled(nn.Conv3d(3, 6, 3), pool=nn.AdaptiveAvgPool3d(1)), torch.randn(2, 3, 5, 5, 5), (3, 3, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_maps_add_up_to_the_scores(case):
    make, x, positions = CASES[case]
    found = class_activation(make(), x)
    assert tuple(found.maps.shape[2:]) == positions
    total = found.factor[:, None] * found.maps.flatten(2).sum(2) + found.bias
    torch.testing.assert_close(total, found.scores, rtol=0, atol=1e-6)


def test_maps_are_weighted_features():
    model, x = TimeSeriesFCN(1, 3, (4, 5, 6)).eval(), torch.randn(2, 1, 30)
    features = model.blocks(x)
    expected = torch.stack([(model.head.weight[c][:, None] * features).sum(1) for c in range(3)], 1)
    found = class_activation(model, x)
    torch.testing.assert_close(found.maps, expected)
    torch.testing.assert_close(found.factor, torch.full((2,), 1 / 30))
    assert torch.equal(found.of(1), found.maps[:, 1])
    assert torch.equal(found.of(torch.tensor([2, 0])), found.maps[[0, 1], [2, 0]])


def test_a_shifted_series_has_a_shifted_map():
    model, x = TimeSeriesFCN(1, 2, (4, 5, 6)), torch.randn(1, 1, 60)
    here, there = class_activation(model, x), class_activation(model, x.roll(7, 2))
    torch.testing.assert_close(here.maps[..., 20:40], there.maps[..., 27:47])


def test_the_part_that_decides_is_found():
    """A network that looks for one bump: the strongest window is where the bump is."""
    model = nn.Sequential(nn.Conv1d(1, 2, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    model.append(nn.Linear(2, 2))
    nn.init.constant_(model[0].weight, 1.0)
    model[0].weight.data[1] = -1.0
    nn.init.zeros_(model[0].bias)
    model[4].weight.data = torch.eye(2)
    x = torch.zeros(2, 1, 50)
    x[0, 0, 30:35], x[1, 0, 10:15] = 1.0, -1.0
    found = window_deletion(model, x, torch.tensor([0, 1]), share=0.2)
    assert bool((found.strongest > 0.1).all())
    torch.testing.assert_close(found.weakest, torch.zeros(2))
    assert found.gain == pytest.approx(float(found.strongest.mean()))
    assert class_activation(model, x).of().argmax(1).tolist() == [32, 12]


def test_windows_of_images_and_smaller_maps():
    model = nn.Sequential(nn.Conv2d(1, 1, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    for p in model.parameters():
        nn.init.ones_(p)
    x = torch.zeros(1, 1, 24, 24)
    x[0, 0, 4:8, 16:20] = 1.0
    found = window_deletion(model, x, torch.tensor([0]), share=0.15)
    assert float(found.strongest) > 0.2
    assert float(found.weakest) == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Tokens(norm=True), "the output of native_layer_norm"),
        (pooled(nn.Conv2d(3, 6, 3), pool=nn.AdaptiveMaxPool2d(1)), "adaptive_max_pool2d"),
        (nn.Sequential(nn.Conv2d(3, 2, 5), nn.Flatten(), nn.Linear(288, 3)), "the output of convolution"),
        (nn.Sequential(pooled(nn.Conv2d(3, 6, 3), pool=nn.AdaptiveAvgPool2d(1)), nn.LogSoftmax(1)), "_log_softmax"),
    ],
)
def test_other_ends_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        class_activation(model, torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("case", ["fcn", "wide resnet", "tokens"])
def test_drawings(case):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    make, x, _ = CASES[case]
    found = class_activation(make(), x)
    ax = Figure().subplots()
    assert found.plot(ax, example=1) is ax
    assert "deviations above" in found.summary()
    if case == "tokens":
        with pytest.raises(ValueError, match="tokens have no place"):
            found.on_input()
    else:
        assert found.on_input().shape[1:] == x.shape[2:]
