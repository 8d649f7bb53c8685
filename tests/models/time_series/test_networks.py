"""The three networks for series: their sizes, what padding may change (nothing), and what they refuse."""

import pytest
import torch
from torch import nn

from neurarium.models import TimeSeriesFCN, TimeSeriesMLP, TimeSeriesResNet, train_time_series
from neurarium.models.time_series._valid_steps import keras_norm


def size(model):
    return sum(p.numel() for p in model.parameters())


def biases(model):
    """The convolutions' biases of the release, which a batch normalisation behind them makes useless."""
    return sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv1d))


def test_sizes_are_the_published_ones_but_for_biases_before_a_normalisation():
    fcn, resnet = TimeSeriesFCN(1, 2), TimeSeriesResNet(1, 2)
    assert size(fcn) + biases(fcn) == 264_962
    assert size(resnet) + biases(resnet) == 504_258
    assert size(TimeSeriesResNet(1, 2, input_norm=True)) == size(resnet) + 2
    assert size(TimeSeriesMLP(1, 150, 2)) == 577_502


def made():
    torch.manual_seed(0)
    yield TimeSeriesFCN(2, 3, (5, 6, 4))
    yield TimeSeriesResNet(2, 3, (4, 5, 5))
    yield TimeSeriesFCN(2, 3, (5, 6, 4), norm=nn.Identity)
    yield TimeSeriesResNet(2, 3, (4, 5, 5), input_norm=True, norm=keras_norm)


@pytest.mark.parametrize("model", made(), ids=lambda m: type(m).__name__)
def test_padded_series_get_the_scores_of_bare_ones(model):
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d):
            nn.init.normal_(m.bias)
            m.running_mean.normal_()
    model.eval()
    lengths = torch.arange(5, 13)
    series = [torch.randn(2, int(n)) for n in lengths]
    padded = torch.full((8, 2, 14), 9.0)
    for row, one in zip(padded, series):
        row[:, : one.shape[1]] = one
    together = model(padded, lengths)
    for row, one in zip(together, series):
        torch.testing.assert_close(row[None], model(one[None]))


def test_padding_enters_no_statistics_of_training():
    torch.manual_seed(0)
    short, long = torch.randn(3, 2, 9), torch.randn(3, 2, 14)
    padded = torch.cat([torch.cat([short, torch.full((3, 2, 5), 7.0)], 2), long])
    lengths = torch.tensor([9, 9, 9, 14, 14, 14])
    model = TimeSeriesFCN(2, 3, (5, 6, 4))
    found = []
    for filler in (padded, torch.where(padded == 7.0, -3.0, padded)):
        found.append(model(filler, lengths))
    torch.testing.assert_close(*found)
    first = model.blocks[0][2]  # behind the padding and the convolution
    first.momentum, seen = 1.0, []
    model.blocks[0][1].register_forward_hook(lambda _, __, out: seen.append(out))
    model(padded, lengths)
    valid = torch.cat([seen[0][:3, :, :9].transpose(0, 1).flatten(1), seen[0][3:].transpose(0, 1).flatten(1)], 1)
    torch.testing.assert_close(first.running_mean, valid.mean(1))


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_training_keeps_the_lowest_loss_and_repeats_itself(schedule):
    x = torch.randn(12, 1, 20, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0, 5:9].mean(1) > 0).long()
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        model = TimeSeriesMLP(1, 20, 2, 16)
        losses = train_time_series(
            model, x, y, epochs=30, schedule=schedule, patience=2, generator=torch.Generator().manual_seed(1)
        )
        states.append(model.state_dict())
    assert min(losses) < 0.5 < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values()))


@pytest.mark.untyped
def test_refusals():
    with pytest.raises(ValueError, match="2 channels of 10 steps"):
        TimeSeriesMLP(2, 10, 3)(torch.randn(4, 2, 11))
    for lengths in ([0, 3], [3, 11], [3]):
        with pytest.raises(ValueError, match="lengths must be one number between 1 and 10"):
            TimeSeriesFCN(2, 3)(torch.randn(2, 2, 10), torch.tensor(lengths))
    with pytest.raises(ValueError, match="fewer than two"):
        train_time_series(TimeSeriesFCN(1, 2), torch.randn(1, 1, 9), torch.zeros(1).long())
    with pytest.raises(ValueError, match="equally many"):
        train_time_series(TimeSeriesFCN(1, 2), torch.randn(3, 1, 9), torch.zeros(2).long())
