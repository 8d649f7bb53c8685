"""The transformer over feature sequences, and the recurrent read-out."""

import pytest
import torch
from torch import nn

from neurarium.models import SequenceEncoder, SequenceReadout


def test_without_places_the_order_of_the_inputs_is_not_seen():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4)
    shuffled = x[:, torch.tensor([3, 1, 4, 0, 2, 5])]
    for positions in ("none", "sinusoidal", "rotary", "alibi", "relative"):
        model = SequenceEncoder(4, 3, 16, 2, 2, positions=positions).eval()
        same = torch.allclose(model(x)[:, 5], model(shuffled)[:, 5], atol=1e-5)
        assert same is (positions == "none"), positions


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "rotary", "alibi", "relative"])
def test_a_causal_model_does_not_see_what_comes(positions):
    torch.manual_seed(0)
    model = SequenceEncoder(4, 3, 16, 2, 2, positions=positions, causal=True).eval()
    x, changed = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    changed[:, :4] = x[:, :4]
    torch.testing.assert_close(model(x)[:, :4], model(changed)[:, :4])


def test_the_read_out_starts_where_it_is_told():
    torch.manual_seed(0)
    for cell in (nn.RNN(3, 5, batch_first=True), nn.GRU(3, 5, batch_first=True)):
        model, x = SequenceReadout(cell, nn.Linear(5, 2), initial=1.0), torch.randn(4, 6, 3)
        torch.testing.assert_close(model.states(x), cell(x, torch.ones(1, 4, 5))[0])
        torch.testing.assert_close(model(x), model.head(model.states(x)))
    lstm = nn.LSTM(3, 5)
    torch.testing.assert_close(SequenceReadout(lstm, nn.Linear(5, 2)).states(x), lstm(x)[0])


def test_gain_draws_all_matrices():
    model = SequenceReadout(nn.RNN(2, 100), nn.Linear(100, 2), gain=0.1, generator=torch.Generator().manual_seed(0))
    assert float(model.cell.weight_hh_l0.detach().std()) == pytest.approx(0.1 * (2 / 200) ** 0.5, rel=0.05)
    assert float(model.cell.weight_ih_l0.detach().std()) == pytest.approx(0.1 * (2 / 102) ** 0.5, rel=0.15)
    assert not model.cell.bias_hh_l0.any()
    assert not model.head.bias.any()


@pytest.mark.untyped
def test_one_sentence_for_bad_arguments():
    with pytest.raises(ValueError, match="positions must be one of"):
        SequenceEncoder(4, 3, positions="learned")
    with pytest.raises(TypeError, match=r"nn\.RNN"):
        SequenceReadout(nn.Linear(3, 3), nn.Linear(3, 3))
